//! Where definitions are found, which start at boot, and what administrators may change.

use std::collections::BTreeSet;

use anyhow::Result;
use tests::{Definition, Host, Root, definition, guest};

tests::on_each_root!(
    enabled_guests_start_at_boot_and_power_down_at_shutdown,
    the_first_directory_wins_and_null_masks,
    names_that_need_escapes_are_units_and_machines,
    drop_ins_of_the_administrator_are_honoured,
);

fn enabled_guests_start_at_boot_and_power_down_at_shutdown(root: Root) -> Result<()> {
    let mut host = Host::boot(root)?;
    for name in ["enabled", "linked", "idle"] {
        // The log of the second start must not hide how the first one ended.
        let kept = "-serial0.log\" append=\"on\"/>";
        Definition::new(name)?.replace("-serial0.log\"/>", kept)?.install(&host)?;
    }
    host.reload()?;
    host.systemctl(["enable", "qemu@enabled"])?.success()?;
    host.sh("mkdir -p /etc/glassbox/qemu/autostart
        ln -s /etc/glassbox/qemu/linked.xml /etc/glassbox/qemu/autostart/linked.xml")?;
    host.reboot()?;
    are_started(&host)?;
    for name in ["enabled", "linked"] {
        host.wait_for_console(name, guest::READY, 1)?;
        assert_eq!(host.console(name).matches(guest::POWERDOWN).count(), 0, "{name}");
    }
    host.reboot()?;
    are_started(&host)?;
    for name in ["enabled", "linked"] {
        assert_eq!(host.console(name).matches(guest::POWERDOWN).count(), 1, "{name}");
    }
    Ok(())
}

fn are_started(host: &Host) -> Result<()> {
    for name in ["enabled", "linked"] {
        host.unit(&format!("qemu@{name}.service")).wait("active")?;
    }
    assert_eq!(host.unit("qemu@idle.service").state()?, "inactive");
    let names: BTreeSet<String> = host.machines()?.into_iter().map(|[name, ..]| name).collect();
    assert_eq!(names, BTreeSet::from(["enabled", "linked"].map(str::to_owned)));
    Ok(())
}

/// The directories of definitions, the one that counts first first.
const DIRECTORIES: [&str; 4] = [
    "/etc/glassbox/qemu",
    "/run/glassbox/qemu",
    "/usr/local/lib/glassbox/qemu",
    "/usr/lib/glassbox/qemu",
];

fn the_first_directory_wins_and_null_masks(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?;
    web.make_disk(&host)?;
    let uuids = [1, 2, 3, 4].map(|n| format!("6{n}626f78-0000-4000-8000-000000000000"));
    for (directory, uuid) in DIRECTORIES.iter().zip(&uuids) {
        let xml = web.clone().replace(&web.uuid(), uuid)?;
        host.write_file(&format!("{directory}/web.xml"), xml.xml())?;
    }
    for (directory, uuid) in DIRECTORIES.iter().zip(&uuids) {
        host.reload()?;
        let unit = host.start_guest("web")?;
        assert_eq!(unit.show(["SourcePath"])?, [format!("{directory}/web.xml")]);
        let words = host.command_line(unit.processes()?.1)?;
        let option = words.iter().position(|word| word == "-uuid").map(|at| &words[at + 1]);
        assert_eq!(option, Some(uuid), "{words:?}");
        unit.quit()?;
        if *directory != DIRECTORIES[3] {
            host.run(["rm", &format!("{directory}/web.xml")])?.success()?;
        }
    }
    host.sh("ln -s /dev/null /etc/glassbox/qemu/web.xml")?;
    host.reload()?;
    let start = host.systemctl(["start", "qemu@web"])?;
    assert_ne!(start.status, 0);
    assert!(start.stderr.contains("Unit qemu@web.service is masked."), "{}", start.stderr);
    assert_eq!(host.unit("qemu@web.service").show(["LoadState"])?, ["masked"]);
    Ok(())
}

/// Name, unit, machine and runtime directory of guests whose names systemd or machined won't have as they are, but for one.
const NAMES: [(&str, &str, &str, &str); 3] = [
    ("my vm.1", r"qemu@my\x20vm.1.service", "gb--my-20vm-2e1", "my=20vm.1"),
    ("a-b", "qemu@a-b.service", "a-b", "a-b"),
    ("ü", r"qemu@\xc3\xbc.service", "gb---c3-bc", "=c3=bc"),
];

fn names_that_need_escapes_are_units_and_machines(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for (name, ..) in NAMES {
        Definition::new(name)?.install(&host)?;
    }
    host.reload()?;
    for (name, unit, machine, directory) in NAMES {
        host.systemctl(["start", unit])?.success()?;
        assert_eq!(host.unit(unit).show(["Description"])?, [format!("Virtual machine {name}")]);
        assert_eq!(host.machine(machine)?["Unit"], unit);
        assert!(host.exists(&format!("/run/glassbox/guest/{directory}/serial0"))?, "{directory}");
    }
    let listed: BTreeSet<String> = host.machines()?.into_iter().map(|[name, ..]| name).collect();
    assert_eq!(listed, NAMES.map(|(_, _, machine, _)| machine.to_owned()).into());
    let manager =
        ["org.glassbox.Glassbox1", "/org/glassbox/Glassbox1", "org.glassbox.Glassbox1.Manager"];
    let call = ["busctl", "--json=short", "call"];
    let listed =
        host.run(call.into_iter().chain(manager).chain(["ListDomains"]))?.success()?.stdout;
    for (name, unit, ..) in NAMES {
        let [name, unit] = [name, unit].map(|text| format!("\"{}\"", text.replace('\\', r"\\")));
        assert!(listed.contains(&name) && listed.contains(&unit), "{name} {unit} in {listed}");
    }
    Ok(())
}

fn drop_ins_of_the_administrator_are_honoured(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for name in ["web", "other"] {
        Definition::new(name)?.install(&host)?;
    }
    let units = "/etc/systemd/system";
    let one = "[Unit]\nDescription=The shop\n[Service]\nNice=7\n";
    host.write_file(&format!("{units}/qemu@web.service.d/override.conf"), one)?;
    let all = "[Service]\nLimitCORE=4096\nEnvironment=IN_ALL=1\n";
    // A file of the same name in the guest's own directory would take this one's place, systemd.unit(5).
    host.write_file(&format!("{units}/qemu@.service.d/all.conf"), all)?;
    host.reload()?;
    let other = "Virtual machine other".to_owned();
    for (name, nice, description) in [("web", "7", "The shop".to_owned()), ("other", "0", other)] {
        let unit = host.start_guest(name)?;
        assert_eq!(unit.show(["Description", "Nice"])?, [description, nice.to_owned()]);
        let (shim, qemu) = unit.processes()?;
        for pid in [shim, qemu] {
            // Shim and QEMU have inherited it, and neither has changed it.
            let words = ["ps", "-o", "nice=", "-p", &pid.to_string()];
            assert_eq!(host.run(words)?.stdout.trim(), nice, "{name}");
            let limits = host.read(&format!("/proc/{pid}/limits"))?;
            let core = limits.lines().find(|line| line.starts_with("Max core file size"));
            let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
            assert_eq!(words[4..6], ["4096", "4096"], "{limits}");
            let environment = host.read(&format!("/proc/{pid}/environ"))?;
            assert!(environment.split('\0').any(|entry| entry == "IN_ALL=1"), "{environment}");
        }
        let file = unit.show(["SourcePath"])?;
        assert_eq!(file, [format!("{}/{name}.xml", definition::DEFINITIONS)]);
        unit.quit()?;
    }
    Ok(())
}
