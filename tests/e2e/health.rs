//! What systemd knows of a guest's health: a watchdog that QEMU's main loop feeds, and the guest's own word.

use std::time::Duration;

use anyhow::Result;
use tests::{Definition, Host, PATIENCE, Root};

tests::on_root!(
    trixie,
    Trixie,
    a_watchdog_is_fed_while_qemu_answers,
    a_guest_is_ready_when_it_says_so,
);

/// The exit statuses of glassbox-qemu(1) for a guest that was not started and for a lost one.
const START_FAILED: i32 = 6;
const CRASHED: i32 = 7;

/// Long enough for a machine with other work, and for a test to wait for two of them.
const WATCHDOG: &str = "[Service]\nWatchdogSec=4\n";

fn a_watchdog_is_fed_while_qemu_answers(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for name in ["busy", "paused", "hung"] {
        Definition::new(name)?.install(&host)?;
        host.write_file(&format!("/etc/systemd/system/qemu@{name}.service.d/w.conf"), WATCHDOG)?;
    }
    host.reload()?;
    let busy = host.start_guest("busy")?;
    let paused = host.start_guest("paused")?;
    host.qmp("paused", "stop")?;
    let hung = host.start_guest("hung")?;
    let (_, qemu) = hung.processes()?;
    host.sh(&format!("kill -STOP {qemu}"))?;
    hung.wait("failed")?;
    assert_eq!(hung.outcome()?, ("watchdog".to_owned(), CRASHED));
    let words = "the guest is lost: it was aborted, as a watchdog does when QEMU does not answer";
    assert_eq!(hung.status_line()?, words);
    assert!(!host.exists(&format!("/proc/{qemu}"))?, "QEMU went with the shim");

    std::thread::sleep(Duration::from_secs(8));
    assert_eq!((busy.state()?, paused.state()?), ("active".into(), "active".into()));
    assert_eq!(paused.status_line()?, "paused");
    for unit in [&busy, &paused] {
        assert_eq!(unit.show(["Result", "NRestarts"])?, ["success", "0"], "{}", unit.name());
    }
    busy.quit()?;
    paused.quit()?;
    host.wait_for_no_machine()
}

/// Enough for QEMU's start on a busy machine, and less than the guest takes that waits this long after its boot.
const SHORT_START: &str = "[Service]\nTimeoutStartSec=12\n";
const LATE: &str = "glassbox.notify=12";

fn a_guest_is_ready_when_it_says_so(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    awaited("late", 120)?.word(LATE)?.install(&host)?;
    awaited("never", 2)?.install(&host)?;
    awaited("off", 120)?.word("glassbox.poweroff")?.install(&host)?;
    host.write_file("/etc/systemd/system/qemu@late.service.d/start.conf", SHORT_START)?;
    host.reload()?;

    host.systemctl(["start", "--no-block", "qemu@late", "qemu@off"])?.success()?;
    let late = host.unit("qemu@late.service");
    let waiting = "running, waiting for the guest to say READY=1 on its port org.glassbox.notify.0";
    host.wait_for("the guest to be awaited", PATIENCE, || {
        late.status_line().is_ok_and(|line| line == waiting)
    })?;
    assert_eq!(late.state()?, "activating");
    late.wait("active")?;
    assert!(host.console("late").contains("GLASSBOX-GUEST-NOTIFIED"), "it said so before");
    assert!(
        late.status_line()?.starts_with("running, QEMU is process "),
        "{:?}",
        late.status_line()
    );
    late.quit()?;

    assert_ne!(host.systemctl(["start", "qemu@never"])?.status, 0);
    let port = "READY=1 on its port org.glassbox.notify.0";
    for (name, why) in [
        ("never", format!("it did not say {port} in 2 s")),
        ("off", format!("it shut down before it said {port}")),
    ] {
        let unit = host.unit(&format!("qemu@{name}.service"));
        unit.wait("failed")?;
        assert_eq!(unit.outcome()?, ("exit-code".to_owned(), START_FAILED), "{name}");
        assert_eq!(unit.status_line()?, format!("the guest was not started: {why}"));
    }
    assert_eq!(host.run(["pgrep", "qemu-system"])?.stdout, "");
    Ok(())
}

/// A guest that is to say that it is ready within these seconds.
fn awaited(name: &str, timeout: u32) -> Result<Definition> {
    let ready = format!(
        "<metadata><g:ready xmlns:g=\"https://glassbox.org/xmlns/domain/1\" \
         channel=\"virtio-serial\" timeout=\"{timeout}\"/>"
    );
    Definition::new(name)?.replace("<metadata>", &ready)
}
