//! Guests while the management daemon comes, goes and is killed.

use anyhow::{Context, Result};
use tests::{Definition, Host, PATIENCE, Root, Unit, definition};

tests::on_each_root!(
    guests_and_their_claims_outlive_the_daemon,
    a_guest_without_a_daemon_is_registered_when_one_comes,
);
tests::on_root!(trixie_only, Trixie, a_daemon_that_returns_is_told_of_its_guests_at_once);

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
    is_claimed(&host, &unit, "auto")?;
    uuid_is_claimed(&host, processes.0)?;

    host.systemctl(["unmask"].into_iter().chain(parts))?.success()?;
    host.systemctl(["start", "glassboxd"])?.success()?;
    registers(&host, &unit)?;
    assert_eq!(unit.processes()?, processes);
    unit.quit()?;
    host.wait_for_no_machine()
}

/// A guest that finds no socket of the registry, but the system bus.
const WITHOUT_SOCKET: &str = "mount -t tmpfs tmpfs /run/glassbox; exec glassbox-qemu /tmp/bus.xml";

/// A guest with nothing but a processor.
const BARE: &str = "<domain type='qemu'><name>bus</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

/// How a daemon that was stopped comes back.
const RETURNS: [&str; 4] = [
    // The socket comes first, and whoever connects starts the daemon.
    "systemctl start glassboxd.socket",
    "systemctl start glassboxd.service",
    // Somebody asks for it on the bus.
    "busctl call org.glassbox.Glassbox1 /org/glassbox/Glassbox1 org.freedesktop.DBus.Peer Ping",
    // The socket's directory is another one.
    "mv /run/glassbox /run/aside; systemctl start glassboxd.service; mv /run/aside/guest /run/glassbox",
];

/// How long a guest may take to be registered again. The goal is 200 ms, on a machine with nothing else
/// to do; the figures are printed.
const AT_ONCE: f64 = 1.0;

fn a_daemon_that_returns_is_told_of_its_guests_at_once(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    host.write_file("/tmp/bus.xml", BARE)?;
    host.reload()?;
    let web = host.start_guest("web")?;
    let script = ["unshare", "--mount", "/bin/sh", "-euc", WITHOUT_SOCKET];
    let start = ["systemd-run", "--quiet", "--unit=bus", "--property=Type=notify"];
    host.run(start.into_iter().chain(script))?.success()?;
    let guests = [web, host.unit("bus.service")];
    let processes = [guests[0].processes()?, guests[1].processes()?];
    for (round, back) in RETURNS.iter().enumerate() {
        host.systemctl(["stop", "glassboxd.socket", "glassboxd.service"])?.success()?;
        let gone =
            "the management daemon is gone; the guest runs on and is registered when one is back";
        for guest in &guests {
            host.wait_for("the shim to notice", PATIENCE, || {
                guest.said_at(gone).is_ok_and(|times| times.len() == round + 1)
            })?;
        }
        is_claimed(&host, &guests[0], "auto")?;
        host.sh(back)?;
        for guest in &guests {
            let again = || guest.said_at("the guest is registered");
            host.wait_for("the guest to be registered", PATIENCE, || {
                again().is_ok_and(|times| times.len() == round + 1)
            })?;
            let serving = "serving org.glassbox.Glassbox1 and the socket that systemd passed";
            let served = daemon(&host).said_at(serving)?;
            let took = again()?[round] - served.last().context("it said that it serves")?;
            eprintln!("{}: registered {:.0} ms after {back:?}", guest.name(), took * 1e3);
            assert!(took < AT_ONCE, "{}: {took} s after {back:?}", guest.name());
        }
        is_claimed(&host, &guests[0], "auto")?;
    }
    assert_eq!([guests[0].processes()?, guests[1].processes()?], processes);
    let status = host.qmp("web", "query-status")?;
    assert!(status.contains("\"status\": \"running\""), "{status}");
    Ok(())
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
