//! Guests while the management daemon comes, goes and is killed.

use anyhow::Result;
use tests::{Definition, Host, PATIENCE, Root, Unit, definition};

tests::on_each_root!(
    guests_and_their_claims_outlive_the_daemon,
    a_guest_without_a_daemon_is_registered_when_one_comes,
);

/// The exit status of glassbox-qemu(1) for a name or UUID that is taken.
const CLAIMED: i32 = 5;

fn guests_and_their_claims_outlive_the_daemon(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let processes = unit.processes()?;
    is_claimed(&host, &unit, "required")?;
    uuid_is_claimed(&host, processes.0)?;
    for words in [&["restart", "glassboxd"][..], &["kill", "--signal=KILL", "glassboxd"]] {
        let [former] = daemon(&host).show(["MainPID"])?;
        host.systemctl(words.iter().copied())?.success()?;
        host.wait_for("a new daemon", PATIENCE, || {
            let now = daemon(&host).show(["ActiveState", "MainPID"]);
            now.is_ok_and(|[state, pid]| state == "active" && pid != former && pid != "0")
        })?;
        // Nothing registers again here: the claim was in systemd's file descriptor store.
        is_claimed(&host, &unit, "required")?;
        assert_eq!(unit.processes()?, processes, "after {words:?}");
        assert_eq!(host.machines()?.len(), 1, "after {words:?}");
    }
    let journal = unit.journal()?;
    assert!(!journal.contains("the management daemon is gone"), "it noticed nothing: {journal}");

    host.systemctl(["stop", "glassboxd.socket", "glassboxd.service"])?.success()?;
    host.wait_for("the shim to notice", PATIENCE, || {
        unit.journal().is_ok_and(|journal| journal.contains("the management daemon is gone"))
    })?;
    assert_eq!((unit.state()?, unit.processes()?), ("active".to_owned(), processes));
    host.systemctl(["start", "glassboxd"])?.success()?;
    registers(&host, &unit)?;
    assert_eq!(unit.processes()?, processes);
    unit.quit()?;
    host.wait_for_no_machine()
}

fn a_guest_without_a_daemon_is_registered_when_one_comes(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    let parts = ["glassboxd.socket", "glassboxd.service"];
    host.systemctl(["mask", "--now"].into_iter().chain(parts))?.success()?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let processes = unit.processes()?;
    let said = "the guest starts without a management daemon: ";
    assert!(unit.messages()?.iter().any(|line| line.starts_with(said)), "{:?}", unit.messages()?);
    assert_eq!(host.machines()?.len(), 0);
    // The locks on its name and UUID are claim enough where there is no daemon.
    is_claimed(&host, &unit, "no")?;
    uuid_is_claimed(&host, processes.0)?;

    host.systemctl(["unmask"].into_iter().chain(parts))?.success()?;
    host.systemctl(["start", "glassboxd"])?.success()?;
    registers(&host, &unit)?;
    assert_eq!(unit.processes()?, processes);
    unit.quit()?;
    host.wait_for_no_machine()
}

fn daemon(host: &Host) -> Unit<'_> {
    host.unit("glassboxd.service")
}

/// Waits until the guest is registered again, by itself.
fn registers(host: &Host, unit: &Unit<'_>) -> Result<()> {
    host.wait_for("machined to list the guest", PATIENCE, || {
        unit.messages().is_ok_and(|said| said.iter().any(|line| line == "the guest is registered"))
    })?;
    assert_eq!(host.machine("web")?["Unit"], "qemu@web.service");
    is_claimed(host, unit, "required")
}

/// A second shim for the same guest is refused and told who holds the name.
fn is_claimed(host: &Host, unit: &Unit<'_>, register: &str) -> Result<()> {
    let (shim, _) = unit.processes()?;
    let second = second_shim(host, register)?;
    let held = format!("glassbox-qemu: the name 'web' is held by pid {shim} (qemu@web.service)\n");
    assert_eq!((second.status, second.stderr), (CLAIMED, held));
    Ok(())
}

/// A guest of another name and the same UUID does not start, and its unit says who has it.
fn uuid_is_claimed(host: &Host, shim: u32) -> Result<()> {
    let uuid = Definition::new("web")?.uuid();
    let twin = Definition::new("twin")?;
    twin.clone().replace(&twin.uuid(), &uuid)?.install(host)?;
    host.reload()?;
    assert_ne!(host.systemctl(["start", "qemu@twin"])?.status, 0);
    let unit = host.unit("qemu@twin.service");
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), CLAIMED));
    let held = format!("the UUID {uuid} is held by guest 'web', pid {shim} (qemu@web.service)");
    assert_eq!(unit.status_line()?, held);
    Ok(())
}

fn second_shim(host: &Host, register: &str) -> Result<tests::Output> {
    let file = format!("{}/web.xml", definition::DEFINITIONS);
    host.run(["glassbox-qemu", "--register", register, &file])
}
