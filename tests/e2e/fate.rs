//! Guests that end by themselves, by force, or never begin: what systemd says of each.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::{Definition, Host, PATIENCE, Root, definition, guest};

tests::on_each_root!(
    a_guest_that_ends_itself_decides_how_its_unit_ends,
    a_killed_process_is_a_failure_with_a_reason,
    a_guest_that_cannot_start_fails_at_once_and_says_why,
);

/// The exit statuses of glassbox-qemu(1).
const SUCCESS: (&str, i32) = ("success", 0);
const HOST_FILE: (&str, i32) = ("exit-code", 4);
const START_FAILED: (&str, i32) = ("exit-code", 6);
const CRASHED: (&str, i32) = ("exit-code", 7);
const PANICKED: (&str, i32) = ("exit-code", 8);

/// A guest that ends itself.
struct End {
    name: &'static str,
    /// What its kernel's command line has it do.
    word: &'static str,
    /// A text of its definition, and what stands there instead.
    change: (&'static str, &'static str),
    /// How its unit ends.
    state: &'static str,
    outcome: (&'static str, i32),
    /// What the shim says last.
    message: &'static str,
}

/// The device by which a guest tells that it crashed.
const PVPANIC: &str = "</devices>
  <qemu:commandline xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\">
    <qemu:arg value=\"-device\"/>
    <qemu:arg value=\"pvpanic\"/>
  </qemu:commandline>";

const ENDS: [End; 3] = [
    End {
        name: "off",
        word: "glassbox.poweroff",
        change: ("<on_poweroff>destroy", "<on_poweroff>destroy"),
        state: "inactive",
        outcome: SUCCESS,
        message: "the guest is shut down",
    },
    End {
        name: "reboots",
        word: "glassbox.reboot",
        change: ("<on_reboot>restart", "<on_reboot>destroy"),
        state: "inactive",
        outcome: SUCCESS,
        message: "the guest is shut down",
    },
    End {
        name: "panics",
        word: "glassbox.panic",
        change: ("</devices>", PVPANIC),
        state: "failed",
        outcome: PANICKED,
        message: "the guest panicked",
    },
];

fn a_guest_that_ends_itself_decides_how_its_unit_ends(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for End { name, word, change: (from, to), .. } in &ENDS {
        Definition::new(name)?.word(word)?.replace(from, to)?.install(&host)?;
    }
    // Reboots are held at first, and the one with which the shim starts the guest anew must not be.
    let again = Definition::new("again")?
        .word("glassbox.panic")?
        .replace("</devices>", PVPANIC)?
        .replace("<on_reboot>restart", "<on_reboot>destroy")?
        .replace("<on_crash>destroy", "<on_crash>restart")?;
    again.install(&host)?;
    host.reload()?;
    for end in &ENDS {
        host.start_guest(end.name)?;
    }
    for end in &ENDS {
        has_ended(&host, end)?;
    }
    assert_eq!(host.unit("qemu@panics.service").status_line()?, "the guest panicked");
    host.wait_for_no_machine()?;

    let unit = host.start_guest("again")?;
    let processes = unit.processes()?;
    host.wait_for_console("again", guest::READY, 2)?;
    assert_eq!((unit.state()?, unit.processes()?), ("active".to_owned(), processes));
    unit.quit()
}

fn has_ended(host: &Host, end: &End) -> Result<()> {
    let unit = host.unit(&format!("qemu@{}.service", end.name));
    unit.wait(end.state)?;
    assert_eq!(unit.outcome()?, (end.outcome.0.to_owned(), end.outcome.1), "{}", end.name);
    let console = host.console(end.name);
    assert_eq!(console.matches(guest::READY).count(), 1, "{console}");
    assert!(!console.contains(guest::POWERDOWN), "it ended by itself: {console}");
    assert_eq!(unit.messages()?.last().map(String::as_str), Some(end.message), "{}", end.name);
    Ok(())
}

fn a_killed_process_is_a_failure_with_a_reason(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for name in ["web", "orphan"] {
        Definition::new(name)?.install(&host)?;
    }
    // With this systemd kills none but the main process, so that QEMU's end is the kernel's and the shim's doing.
    let alone = "[Service]\nKillMode=process\n";
    host.write_file("/etc/systemd/system/qemu@orphan.service.d/alone.conf", alone)?;
    host.reload()?;

    let web = host.start_guest("web")?;
    let (_, qemu) = web.processes()?;
    host.sh(&format!("kill -KILL {qemu}"))?;
    web.wait("failed")?;
    assert_eq!(web.outcome()?, (CRASHED.0.to_owned(), CRASHED.1));
    assert_eq!(web.status_line()?, "the guest is lost: QEMU was killed by SIGKILL");
    host.wait_for_no_machine()?;

    let orphan = host.start_guest("orphan")?;
    let (shim, qemu) = orphan.processes()?;
    assert_eq!(host.machines()?.len(), 1);
    host.sh(&format!("kill -KILL {shim}"))?;
    let gone = || host.process(qemu).is_err();
    host.wait_for("the end of QEMU", Duration::from_secs(1), gone)?;
    orphan.wait("failed")?;
    assert_eq!(orphan.outcome()?, ("signal".to_owned(), 9));
    host.wait_for_no_machine()?;

    // What the killed shim left behind is in nobody's way.
    host.start_guest("orphan")?.quit()
}

fn a_guest_that_cannot_start_fails_at_once_and_says_why(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let none = "/var/lib/glassbox/images/none.qcow2";
    let web = Definition::new("web")?.replace("/var/lib/glassbox/images/web.qcow2", none)?;
    web.install(&host)?;
    host.sh("rm -f /var/lib/glassbox/images/none.qcow2")?;
    Definition::new("torn")?.install(&host)?;
    host.sh("echo 'this is no image' >/var/lib/glassbox/images/torn.qcow2")?;
    host.reload()?;

    let started = Instant::now();
    let web = (web, fails(&host, "web", HOST_FILE)?);
    assert!(started.elapsed() < PATIENCE / 10, "at once, not after {:?}", started.elapsed());
    let place = web.0.place("<source file")?;
    let line = format!(
        "{}/web.xml:{place}: /domain/devices/disk/source: '{none}' does not exist; create it or correct the path",
        definition::DEFINITIONS
    );
    assert_eq!(web.1, [line.as_str()], "one line, and no other");
    assert_eq!(host.unit("qemu@web.service").status_line()?, line);

    let torn = fails(&host, "torn", START_FAILED)?;
    assert!(torn.iter().any(|line| line.contains("not in qcow2 format")), "QEMU's words: {torn:?}");
    let line = "the guest was not started: QEMU ended with status 1 before the guest ran, and said why before this";
    assert_eq!(host.unit("qemu@torn.service").status_line()?, line);
    Ok(())
}

/// Starts a guest that fails with this outcome; gives what shim and QEMU said.
fn fails(host: &Host, name: &str, (result, status): (&str, i32)) -> Result<Vec<String>> {
    let unit = host.unit(&format!("qemu@{name}.service"));
    let start = host.systemctl(["start", unit.name()])?;
    ensure!(start.status != 0, "{name} has started");
    assert_eq!(unit.state()?, "failed");
    assert_eq!(unit.outcome()?, (result.to_owned(), status), "{name}");
    unit.messages()
}
