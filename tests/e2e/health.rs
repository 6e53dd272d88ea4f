//! What systemd knows of a guest's health: a watchdog that QEMU's main loop feeds.

use std::time::Duration;

use anyhow::Result;
use tests::{Definition, Host, Root};

tests::on_root!(trixie, Trixie, a_watchdog_is_fed_while_qemu_answers);

/// The exit status of glassbox-qemu(1) for a lost guest.
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
