//! The test host tests itself: every root boots, and the guest boots and powers off in one of them.

// Clippy's own exception for tests does not reach the functions that several tests share.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::{Host, Root, Setup, guest};

/// Time for a thing that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn bookworm_boots_with_machined() {
    boots_with_machined("bookworm_boots_with_machined", Root::Bookworm, 252);
}

#[test]
fn trixie_boots_with_machined() {
    boots_with_machined("trixie_boots_with_machined", Root::Trixie, 257);
}

#[test]
fn forky_boots_with_machined() {
    // The release moves on; what tests need of it came with 261.
    boots_with_machined("forky_boots_with_machined", Root::Forky, 261);
}

fn boots_with_machined(test: &str, root: Root, systemd: u32) {
    if !tests::ready(test) {
        return;
    }
    let host = Setup::new(root).boot().unwrap();
    let failed = host.run(["systemctl", "--failed", "--no-legend", "--plain"]).unwrap();
    assert_eq!(failed.stdout, "", "no unit of a bare container fails");
    let list = host.run(["machinectl", "list", "--no-legend"]).unwrap().success().unwrap();
    assert!(!list.stdout.contains("qemu"), "no machine is registered yet: {}", list.stdout);
    let version = host
        .sh("systemctl --version | head -n 1; qemu-system-x86_64 --version | head -n 1")
        .unwrap();
    eprintln!("{root}: {}", version.stdout.trim().replace('\n', ", "));
    let number = version.stdout.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    assert!(number == systemd || (root == Root::Forky && number > systemd), "{}", version.stdout);
    let devices = host.sh("stat -c '%n %a %G %t:%T' /dev/kvm /dev/net/tun").unwrap();
    assert_eq!(devices.stdout, "/dev/kvm 660 kvm a:e8\n/dev/net/tun 666 root a:c8\n");
}

#[test]
fn two_containers_live_side_by_side_and_leave_nothing() {
    if !tests::ready("two_containers_live_side_by_side_and_leave_nothing") {
        return;
    }
    let [one, two] = [(); 2].map(|()| Setup::new(Root::Bookworm).boot().unwrap());
    one.write_file("/etc/only-here", "1\n").unwrap();
    assert!(one.exists("/etc/only-here").unwrap());
    assert!(!two.exists("/etc/only-here").unwrap());
    two.run(["systemd-run", "--unit=sleeper", "sleep", "1000"]).unwrap().success().unwrap();
    let (leader, path) = (one.leader(), one.path("/"));
    assert!(path.exists());
    drop(one);
    assert!(!std::path::Path::new(&format!("/proc/{leader}")).exists(), "its systemd has ended");
    let active = two.run(["systemctl", "is-active", "sleeper"]).unwrap();
    assert_eq!(active.stdout, "active\n", "the other container goes on");
}

#[test]
fn commands_have_a_status_an_input_a_limit_and_a_user() {
    if !tests::ready("commands_have_a_status_an_input_a_limit_and_a_user") {
        return;
    }
    let mut host = Setup::new(Root::Trixie).file("/etc/early", "early\n", 0o600).boot().unwrap();
    assert_eq!(host.read("/etc/early").unwrap(), "early\n");
    let told = host.run(["sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap();
    assert_eq!((told.status, &*told.stdout, &*told.stderr), (7, "out\n", "err\n"));
    assert!(told.success().unwrap_err().to_string().contains("exit status 7"));
    let echoed = host.command(["cat"]).input("typed").output().unwrap();
    assert_eq!(echoed.stdout, "typed");
    let slow = host.command(["sleep", "60"]).limit(Duration::from_millis(200)).output().unwrap();
    assert_eq!(slow.status, 124);
    host.add_user("alice").unwrap();
    host.write("/home/alice/a/file", "hers", "0640", "alice:alice").unwrap();
    let seen = host.command(["sh", "-c", "cat ~/a/file; stat -c ' %U %a' ~/a/file"]).user("alice");
    assert_eq!(seen.output().unwrap().stdout, "hers alice 640\n");
    host.reboot().unwrap();
    assert_eq!(host.read("/home/alice/a/file").unwrap(), "hers", "files outlive a reboot");
    assert!(host.wait_for("what never comes", Duration::from_millis(100), || false).is_err());
}

#[test]
fn the_guest_boots_and_hears_its_power_button() {
    guest_hears_its_power_button("the_guest_boots_and_hears_its_power_button", Root::Trixie);
}

#[test]
fn the_older_guest_boots_on_the_older_qemu() {
    guest_hears_its_power_button("the_older_guest_boots_on_the_older_qemu", Root::Bookworm);
}

fn guest_hears_its_power_button(test: &str, root: Root) {
    if !tests::ready(test) {
        return;
    }
    let host = Setup::new(root).guest().unwrap().boot().unwrap();
    start_guest(&host, "");
    let console = || host.read("/run/serial").unwrap_or_default();
    host.wait_for(guest::READY, PATIENCE, || console().contains(guest::READY)).unwrap();
    host.wait_for("a tick", PATIENCE, || console().contains("GLASSBOX-GUEST-TICK 1")).unwrap();
    let answer = qmp(&host, &["system_powerdown"]);
    assert!(answer.ends_with("{\"return\": {}}\n"), "{answer}");
    host.wait_for("the end of QEMU", PATIENCE, || unit(&host, "ActiveState") == "inactive")
        .unwrap();
    assert_eq!(unit(&host, "Result"), "success");
    assert!(console().contains(guest::POWERDOWN), "{}", console());
}

#[test]
fn the_guest_obeys_its_kernel_words() {
    if !tests::ready("the_guest_obeys_its_kernel_words") {
        return;
    }
    let host = Setup::new(Root::Trixie).guest().unwrap().boot().unwrap();
    let console = || host.read("/run/serial").unwrap_or_default();
    let ended = || unit(&host, "ActiveState") == "inactive";

    start_guest(&host, "glassbox.poweroff");
    host.wait_for("the end of QEMU", PATIENCE, ended).unwrap();
    assert!(
        !console().contains(guest::POWERDOWN) && console().contains(guest::READY),
        "{}",
        console()
    );

    start_guest(&host, "glassbox.reboot");
    host.wait_for("the second boot", PATIENCE, || console().contains("GLASSBOX-GUEST-REBOOTED"))
        .unwrap();
    assert_eq!(console().matches(guest::READY).count(), 2);
    qmp(&host, &["quit"]);
    host.wait_for("the end of QEMU", PATIENCE, ended).unwrap();

    start_guest(&host, "glassbox.panic");
    host.wait_for("the panic", PATIENCE, || console().contains("GLASSBOX-GUEST-PANIC")).unwrap();
    let panicked = || qmp(&host, &["query-status"]).contains("guest-panicked");
    host.wait_for("pvpanic's report", PATIENCE, panicked).unwrap();
    qmp(&host, &["quit"]);
}

/// Starts the guest as the unit `guest`, its console in /run/serial and a monitor on /run/monitor.
fn start_guest(host: &Host, words: &str) {
    let images = guest::IMAGES;
    host.sh(&format!(
        "rm -f /run/serial
         systemd-run --quiet --unit=guest qemu-system-x86_64 -nodefaults -machine q35 -accel tcg -m 256 \
         -display none -kernel {images}/vmlinuz -initrd {images}/initrd \
         -append 'console=ttyS0 quiet no_timer_check {words}' -device pvpanic -action panic=pause -serial file:/run/serial \
         -drive file={images}/disk.qcow2,if=virtio -qmp unix:/run/monitor,server=on,wait=off"
    ))
    .unwrap();
}

fn unit(host: &Host, property: &str) -> String {
    let words = ["systemctl", "show", "--value", "--property", property, "guest"];
    host.run(words).unwrap().stdout.trim().to_owned()
}

/// The lines that QEMU's monitor answers to commands without arguments, events left out.
fn qmp(host: &Host, commands: &[&str]) -> String {
    let mut socket = UnixStream::connect(host.path("/run/monitor")).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap());
    let mut answers = String::new();
    lines.read_line(&mut answers).unwrap();
    for command in ["qmp_capabilities"].iter().chain(commands) {
        writeln!(socket, "{{\"execute\": \"{command}\"}}").unwrap();
        let mut line = String::new();
        while !line.starts_with("{\"return\"") && !line.starts_with("{\"error\"") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "QEMU closed its monitor");
        }
        answers.push_str(line.trim_end());
        answers.push('\n');
    }
    answers
}
