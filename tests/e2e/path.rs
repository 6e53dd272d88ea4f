//! The main job: a domain XML file in /etc is a running, listed, stoppable guest.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{Definition, Host, PATIENCE, Root, Unit, definition, guest};

tests::on_each_root!(
    a_definition_is_a_guest_that_starts_shows_itself_and_stops,
    a_start_returns_when_the_cpus_run_and_not_before,
);

fn a_definition_is_a_guest_that_starts_shows_itself_and_stops(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    // A wrapper, for QEMU itself has nothing to say on standard error as long as all is well. It is called once
    // more before, without a guest, to be asked what it is.
    let wrapper = "#!/bin/sh\ncase \"$*\" in *none,accel=*) ;; *) echo 'words of QEMU' >&2 ;; esac\n\
                   exec /usr/bin/qemu-system-x86_64 \"$@\"\n";
    host.write("/usr/local/bin/talkative-qemu", wrapper, "0755", "root:root")?;
    let web = Definition::new("web")?
        .replace("/usr/bin/qemu-system-x86_64", "/usr/local/bin/talkative-qemu")?;
    web.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    assert_eq!(unit.show(["ActiveState", "SubState"])?, ["active", "running"]);
    let status = host.qmp("web", "query-status")?;
    assert!(status.contains("\"status\": \"running\""), "{status}");
    let (shim, qemu) = unit.processes()?;
    machined_has(&host, shim, qemu)?;
    systemd_has(&host, &unit, shim, qemu)?;
    runs_what_is_printed(&host, qemu)?;
    host.wait_for_console("web", guest::READY, 1)?;
    console_is_readable(&host)?;
    sockets_are_there(&host)?;
    stops(&host, &unit)
}

fn machined_has(host: &Host, shim: u32, qemu: u32) -> Result<()> {
    let web = ["web", "vm", "glassbox"].map(str::to_owned);
    assert_eq!(host.machines()?, BTreeSet::from([web]));
    let shown = host.machine("web")?;
    let leader = shim.to_string();
    let expected =
        [("Class", "vm"), ("Leader", &leader), ("Name", "web"), ("Unit", "qemu@web.service")];
    for (key, value) in expected {
        assert_eq!(shown.get(key).map(String::as_str), Some(value), "{key} of {shown:?}");
    }
    let status = host.run(["machinectl", "status", "--no-pager", "web"])?.success()?.stdout;
    let shim = format!("{shim} /usr/bin/glassbox-qemu --instance web");
    let qemu = format!("{qemu} /usr/bin/qemu-system-x86_64 ");
    for part in ["Unit: qemu@web.service", &shim, &qemu] {
        assert!(status.contains(part), "{part:?} is not in\n{status}");
    }
    Ok(())
}

fn systemd_has(host: &Host, unit: &Unit<'_>, shim: u32, qemu: u32) -> Result<()> {
    assert_eq!(unit.members()?, BTreeSet::from([shim, qemu]), "all of the unit's control group");
    assert_eq!(host.process(qemu)?["PPid"], shim.to_string());
    let running = format!(
        "running, QEMU is process {qemu}; console serial0 at /run/glassbox/guest/web/serial0"
    );
    assert_eq!(unit.status_line()?, running);
    let journal = unit.journal()?;
    let said = |line: &str| journal.lines().filter(|said| *said == line).count();
    assert_eq!(said(&format!("the guest is {running}")), 1, "{journal}");
    assert_eq!(said("words of QEMU"), 1, "{journal}");
    Ok(())
}

/// QEMU runs with exactly the arguments that `--print-args` promises, in the unit's environment and with the disk opened.
fn runs_what_is_printed(host: &Host, qemu: u32) -> Result<()> {
    let disk = Definition::new("web")?;
    let printed = host.sh(&format!(
        "export RUNTIME_DIRECTORY=/run/glassbox/guest/web CACHE_DIRECTORY=/var/cache/glassbox/guest/web
         glassbox-qemu --print-args --fd vda=9 {}/web.xml 9<>{}",
        definition::DEFINITIONS,
        disk.disk()
    ))?;
    let printed = printed.stdout;
    let mut running = host.command_line(qemu)?;
    // The wrapper becomes the program that it wraps.
    "/usr/local/bin/talkative-qemu".clone_into(&mut running[0]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), running);
    Ok(())
}

/// The serial console is a pty that the runtime directory names, and a log file.
fn console_is_readable(host: &Host) -> Result<()> {
    let words =
        ["grep", "--text", "--max-count=1", "GUEST-TICK", "/run/glassbox/guest/web/serial0"];
    let read = host.command(words).limit(PATIENCE).output()?.success()?.stdout;
    let tick = read.trim();
    let number = tick.strip_prefix("GLASSBOX-GUEST-TICK ").context("the pty has other lines")?;
    number.parse::<u32>().with_context(|| tick.to_owned())?;
    let logged = || host.console("web").lines().any(|line| line.trim() == tick);
    host.wait_for("the same line in the log", Duration::from_secs(5), logged)
}

/// The VNC server and the guest agent's channel are sockets in the runtime directory, for its owner alone.
fn sockets_are_there(host: &Host) -> Result<()> {
    let directory = "/run/glassbox/guest/web";
    let mode = host.run(["stat", "--format=%a", directory])?.success()?.stdout;
    assert_eq!(mode, "700\n");
    let sockets = host.run(["find", directory, "-type", "s"])?.success()?.stdout;
    let vnc = sockets.lines().find(|path| path.contains("vnc")).context(sockets.clone())?;
    let agent = sockets.lines().find(|path| path.contains("agent")).context(sockets.clone())?;
    // A VNC server speaks first (RFC 6143, section 7.1.1).
    let greeting = host.sh(&format!("timeout 5 socat -u UNIX-CONNECT:{vnc} - | head -c 12"))?;
    assert_eq!(greeting.stdout, "RFB 003.008\n");
    let ping = format!(
        "(echo '{{\"execute\": \"guest-ping\"}}'; sleep 1) | socat -t 1 - UNIX-CONNECT:{agent}"
    );
    host.wait_for("the guest's agent", PATIENCE, || {
        host.sh(&ping).is_ok_and(|answer| answer.stdout.starts_with("{\"return\": {}}\n"))
    })
}

fn stops(host: &Host, unit: &Unit<'_>) -> Result<()> {
    host.systemctl(["stop", "qemu@web"])?.success()?;
    assert_eq!(unit.state()?, "inactive");
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    let console = host.console("web");
    assert_eq!(console.matches(guest::POWERDOWN).count(), 1, "{console}");
    let journal = unit.journal()?;
    assert!(journal.lines().any(|line| line == "the guest is shut down"), "{journal}");
    let left = host.run(["find", "/run/glassbox/guest", "-mindepth", "1"])?;
    assert_eq!(left.stdout, "", "nothing remains in the runtime directory");
    assert_eq!(host.run(["pgrep", "qemu"])?.stdout, "", "no QEMU remains");
    host.wait_for_no_machine()
}

fn a_start_returns_when_the_cpus_run_and_not_before(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let stand_in = include_str!("stand-in-qemu.pl");
    host.write("/usr/local/bin/stand-in-qemu", stand_in, "0755", "root:root")?;
    host.let_out("late", "")?;
    let late = Definition::new("late")?
        .replace("/usr/bin/qemu-system-x86_64", "/usr/local/bin/stand-in-qemu")?;
    late.install(&host)?;
    host.reload()?;
    let unit = host.unit("qemu@late.service");
    let told = || host.read("/run/stand-in/commands").unwrap_or_default();
    std::thread::scope(|scope| {
        let start = scope.spawn(|| host.systemctl(["start", "qemu@late"]));
        host.wait_for("the order to run", PATIENCE, || told().ends_with("cont\n"))?;
        // Long for a message on a socket, should the shim not wait for the answer.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!start.is_finished(), "systemctl has returned");
        assert_eq!(unit.state()?, "activating");
        host.write_file("/run/stand-in/go", "")?;
        start.join().expect("the thread does not panic")?.success()
    })?;
    assert_eq!(unit.state()?, "active");
    host.systemctl(["stop", "qemu@late"])?.success()?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    let all = "qmp_capabilities\nquery-chardev\ncont\nsystem_powerdown\nquit\n";
    assert_eq!(told(), all, "and nothing else is asked of QEMU");
    Ok(())
}
