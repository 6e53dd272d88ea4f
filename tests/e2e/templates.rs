//! Templates: one definition for many guests, named before their start or not at all.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use tests::{Definition, Host, Root, definition::DEFINITIONS, guest};

tests::on_root!(
    trixie,
    Trixie,
    a_template_is_many_guests_at_once,
    a_template_is_no_guest_and_its_faults_have_places,
);

/// Two that are enabled, and one that nothing names before it is started.
const GUESTS: [&str; 3] = ["worker@1", "worker@2", "worker@7"];

/// What is the guest's own in QEMU's command line: UUID, MAC address and disk.
fn identity(host: &Host, name: &str) -> Result<[String; 3]> {
    let unit = host.unit(&format!("qemu@{name}.service"));
    let qemu = unit.processes()?.1;
    let words = host.command_line(qemu)?.join(" ");
    let value = |before: &str| {
        let (_, after) = words.split_once(before).with_context(|| words.clone())?;
        anyhow::Ok(after.split(['"', ' ', ',']).next().unwrap_or_default().to_owned())
    };
    // QEMU has the image open and knows no path of it.
    let open = format!("readlink /proc/{qemu}/fd/* | grep '\\.qcow2$' | sort -u");
    let disk = host.sh(&open)?.stdout.trim().to_owned();
    Ok([value("-uuid ")?, value("\"mac\":\"")?, disk])
}

fn a_template_is_many_guests_at_once(root: Root) -> Result<()> {
    let mut host = Host::boot(root)?;
    install_template(&host)?;
    let units = "/etc/systemd/system";
    for (unit, settings) in
        [("qemu@", "LimitCORE=4096"), ("qemu@worker@", "Nice=5"), ("qemu@worker@2", "Nice=7")]
    {
        let file = format!("{units}/{unit}.service.d/{}.conf", &settings[..4]);
        host.write_file(&file, format!("[Service]\n{settings}\n"))?;
    }
    host.systemctl(["enable", "qemu@worker@1", "qemu@worker@2"])?.success()?;
    let unit = host.unit("qemu@worker@7.service");
    assert!(!host.exists("/run/systemd/generator/qemu@worker@7.service.d")?, "nothing names it");
    host.systemctl(["start", "qemu@worker@1", "qemu@worker@2", "qemu@worker@7"])?.success()?;

    let mut identities = Vec::new();
    for (name, nice) in GUESTS.into_iter().zip(["5", "7", "5"]) {
        let unit = host.unit(&format!("qemu@{name}.service"));
        let shown = unit.show(["Description", "SourcePath", "Nice", "LimitCORE", "MemoryMax"])?;
        let template = format!("{DEFINITIONS}/worker@.xml");
        let expected = [&format!("Virtual machine {name}"), &template, nice, "4096", "536870912"];
        assert_eq!(shown, expected, "{name}");
        assert_eq!(host.machine(&name.replace('@', "--"))?["Unit"], unit.name());
        assert!(host.exists(&format!("/run/glassbox/guest/{name}/monitor"))?, "{name}");
        identities.push(identity(&host, name)?);
    }
    for part in 0..3 {
        let values: BTreeSet<&String> = identities.iter().map(|guest| &guest[part]).collect();
        assert_eq!(values.len(), 3, "each has one of its own: {identities:?}");
    }
    for (name, [_, _, disk]) in GUESTS.iter().zip(&identities) {
        assert_eq!(*disk, format!("{}/{}.qcow2", guest::IMAGES, name.replace('@', "-")));
        host.wait_for_console(&name.replace('@', "-"), guest::READY, 1)?;
    }
    unit.quit()?;

    host.reboot()?;
    for (name, before) in GUESTS.iter().zip(&identities).take(2) {
        host.unit(&format!("qemu@{name}.service")).wait("active")?;
        assert_eq!(identity(&host, name)?, *before, "the same at each start");
    }
    assert_eq!(host.unit("qemu@worker@7.service").state()?, "inactive");
    Ok(())
}

/// A template of the usual guest, without what its guests may not share.
fn install_template(host: &Host) -> Result<()> {
    let own = Definition::new("worker")?
        .replace("<name>worker</name>", "<name>%p@%i</name>")?
        .replace("/images/worker.qcow2", "/images/%p-%i.qcow2")?
        .replace("worker-serial0.log", "%p-%i-serial0.log")?
        .replace("<vcpu>", "<memtune><hard_limit unit='MiB'>512</hard_limit></memtune><vcpu>")?;
    let shared = |line: &&str| !line.contains("<uuid>") && !line.contains("<mac ");
    let template: Vec<&str> = own.xml().lines().filter(shared).collect();
    host.write_file(&format!("{DEFINITIONS}/worker@.xml"), template.join("\n"))?;
    for name in GUESTS.into_iter().chain(["worker@3"]) {
        Definition::new(&name.replace('@', "-"))?.make_disk(host)?;
    }
    host.reload()
}

fn a_template_is_no_guest_and_its_faults_have_places(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    install_template(&host)?;
    let bad = "<domain type='qemu'>\n  <title>100% %i</title>\n</domain>\n";
    host.write_file(&format!("{DEFINITIONS}/bad@.xml"), bad)?;
    host.systemctl(["mask", "glassbox-instance@worker@3.service"])?.success()?;
    let fault = format!(
        "{DEFINITIONS}/bad@.xml:2:3: /domain/title: '% ' is no placeholder of a template; use %i for the instance, \
         %p for what stands before the '@', or %% for a percent sign"
    );
    let dry = host.run(["/usr/lib/systemd/system-generators/glassbox-generator", "--dry-run"])?;
    assert_eq!((dry.status, dry.stderr), (1, format!("{fault}\n")));
    for (instance, said) in [
        ("bad@1", fault.as_str()),
        ("worker@", "worker@.xml is a template and no guest; name one of its guests"),
        // Without the unit that gives it its settings, a guest that nothing names does not run without them.
        (
            "worker@3",
            "the service manager does not know the definition yet; run `systemctl daemon-reload` after naming",
        ),
    ] {
        let unit = host.unit(&format!("qemu@{instance}.service"));
        assert_ne!(host.systemctl(["start", unit.name()])?.status, 0, "{instance}");
        let messages = unit.messages()?.join("\n");
        assert!(messages.contains(said), "{instance}: {messages}");
    }
    host.systemctl(["unmask", "glassbox-instance@worker@3.service"])?.success()?;
    host.systemctl(["reset-failed", "qemu@worker@3.service"])?.success()?;
    host.start_guest("worker@3")?.quit()
}
