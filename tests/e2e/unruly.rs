//! A QEMU that misbehaves and a host that is full, in units: each ends as documented, and what it claimed is free.

use std::time::Instant;

use anyhow::Result;
use tests::{Definition, Host, PATIENCE, Root, STAND_IN_FOLDER, guest};

tests::on_root!(
    trixie,
    Trixie,
    an_unruly_qemu_fails_its_unit_and_keeps_no_claim,
    a_full_disk_for_its_log_does_not_stop_a_guest,
);

/// Of the shim's own tests, which have more of these where there is no systemd.
const STAND_IN: &str = include_str!("../../shim/tests/faults/stand-in-qemu.pl");

/// An unruly QEMU: how it behaves, how its unit ends, and what the shim says last.
const UNRULY: [(&str, (&str, i32), &str); 5] = [
    // systemd's own time is up, and the shim does not wait for what does not answer.
    ("never-greets", ("timeout", 0), "the guest is shut down"),
    ("never-answers-cont", ("timeout", 0), "the guest is shut down"),
    (
        "greets-with-garbage",
        ("exit-code", 6),
        "the guest was not started: QEMU sent \"hello\", which is no QMP message: \
         expected value at line 1 column 1",
    ),
    (
        "exits-before-cont",
        ("exit-code", 6),
        "the guest was not started: QEMU ended with status 1 before the guest ran, and said why before this",
    ),
    ("dies-before-cont", ("exit-code", 7), "the guest is lost: QEMU was killed by SIGKILL"),
];

fn an_unruly_qemu_fails_its_unit_and_keeps_no_claim(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?;
    web.make_disk(&host)?;
    let unruly = web.clone().replace("/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu")?;
    host.write("/usr/local/bin/qemu", STAND_IN, "0755", "root:root")?;
    host.write_file("/etc/glassbox/qemu/web.xml", unruly.xml())?;
    let unit = host.unit("qemu@web.service");
    for (behaviour, (result, status), words) in UNRULY {
        // Longer than what ends by itself needs, a lost monitor's ten seconds included.
        let limit = if result == "timeout" { 6 } else { 60 };
        host.let_out(
            "web",
            &format!(
                "TimeoutStartSec={limit}s\n\
                 Environment=STAND_IN={behaviour} STAND_IN_DIRECTORY={STAND_IN_FOLDER}\n"
            ),
        )?;
        host.reload()?;
        let started = Instant::now();
        assert_ne!(host.systemctl(["start", unit.name()])?.status, 0, "{behaviour}");
        assert!(started.elapsed() < PATIENCE, "{behaviour}: after {:?}", started.elapsed());
        let outcome = unit.outcome()?;
        let said = unit.messages()?;
        assert_eq!(outcome, (result.to_owned(), status), "{behaviour}: {said:?}");
        assert_eq!(said.last().map(String::as_str), Some(words), "{behaviour}");
        let qemu = host.read("/run/stand-in/pid")?.parse()?;
        assert!(host.process(qemu).is_err(), "{behaviour}: no QEMU is left");
        host.wait_for_no_machine()?;
    }
    // Name and UUID are free: the guest starts with the real one.
    host.sh("rm /etc/systemd/system/qemu@web.service.d/stand-in.conf")?;
    host.write_file("/etc/glassbox/qemu/web.xml", web.xml())?;
    host.reload()?;
    host.start_guest("web")?.quit()
}

fn a_full_disk_for_its_log_does_not_stop_a_guest(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    // Its kernel says far more than there is room for.
    let chatty = Definition::new("chatty")?.replace(" quiet", "")?.word("glassbox.poweroff")?;
    chatty.install(&host)?;
    host.sh("mkdir -p /var/log/glassbox/qemu")?;
    host.sh("mount -t tmpfs -o size=4k,mode=0777 full /var/log/glassbox/qemu")?;
    host.reload()?;
    let unit = host.start_guest("chatty")?;
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0), "it ended by itself");
    let log = host.console("chatty");
    assert!(!log.is_empty() && !log.contains(guest::READY), "the log was full before: {log}");

    // Where not even a file can be made, the guest is refused at once.
    host.sh("mount -o remount,nr_inodes=2 /var/log/glassbox/qemu; rm /var/log/glassbox/qemu/*")?;
    host.sh("touch /var/log/glassbox/qemu/other")?;
    assert_ne!(host.systemctl(["start", unit.name()])?.status, 0);
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), 4));
    let (file, log) = ("/etc/glassbox/qemu/chatty.xml", tests::definition::log("chatty"));
    let line = format!("{file}: {log}: No space left on device (os error 28)");
    assert_eq!(unit.messages()?.last(), Some(&line));
    host.wait_for_no_machine()
}
