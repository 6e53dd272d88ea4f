//! Programs beside a guest, each a unit of its own: a TPM, a shared directory, and a network.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Host, Root, Setup, Unit};

use crate::compromise::exposure;
use crate::{directory, lan};

tests::on_root!(
    trixie,
    Trixie,
    companions_serve_a_guest_and_end_with_it,
    a_guest_of_a_template_has_its_own,
);
tests::on_root!(forky, Forky, companions_serve_a_guest_and_end_with_it);

/// The programs, and one for the guest, whose root is the directory that it shares.
pub(crate) const PACKAGES: [&str; 5] =
    ["busybox-static", "passt", "swtpm", "swtpm-tools", "virtiofsd"];

const UUID: &str = "0b3a4c1e-7a55-4f0c-9d2e-5a8f1c6b7d90";

/// What runs beside the guest.
const COMPANIONS: [&str; 4] = [
    "swtpm@web:tpm0.service",
    "virtiofsd@web:fs0.service",
    "passt@web:net0.service",
    "passt@web:net1.service",
];

/// Where states of TPMs are.
const STATE: &str = "/var/lib/glassbox/swtpm";

/// The program of the guest: says what it finds, and obeys a file of the directory.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
echo \"SHARE $($b cat /greeting)\"
echo \"TPM $($b cat /sys/class/tpm/tpm0/tpm_version_major)\"
$b ip link set eth0 up
$b udhcpc -i eth0 -s /lease -n -q -t 20 -T 1 >/dev/null 2>&1
echo \"PORT $($b nc 192.0.2.254 7777 </dev/null)\"
$b ip link set eth1 up
$b udhcpc -i eth1 -s /true -n -q -t 20 -T 1 >/dev/null 2>&1 && echo \"SECOND has a lease\"
while :; do
    [ -e /poweroff ] && $b rm /poweroff && $b poweroff -f
    [ -e /ask ] && $b rm /ask && echo \"AGAIN $($b nc 192.0.2.254 7777 </dev/null)\"
    $b sleep 1
done
";

/// What udhcpc of the guest calls.
const LEASE: &str = "#!/bin/busybox sh
[ \"$1\" = bound ] || exit 0
/bin/busybox ip addr add \"$ip/${mask:-24}\" dev \"$interface\"
/bin/busybox ip route add default via \"$router\"
";

/// The guest looks once a second.
const SEVERAL_LOOKS: Duration = Duration::from_secs(4);

/// A network of the host's with a way out, which passt gives to its guest, and a program that listens on a port of this
/// host alone: the guest finds that at the address of the way out (`--map-host-loopback` of passt(1)).
const NETWORK: &str = "ip link add ext0 type bridge
ip address add 192.0.2.1/24 dev ext0
ip link set ext0 up
ip link set lo up
ip route add default via 192.0.2.254
systemd-run --quiet --unit=greeter \
    systemd-socket-activate --accept --inetd --listen=127.0.0.1:7777 /bin/echo hello from the host
";

fn definition() -> String {
    let log = tests::definition::log("web");
    let devices = format!(
        "<interface type='user'>
      <backend type='passt'/>
      <model type='virtio'/>
    </interface>
    <interface type='vhostuser'>
      <backend type='passt'/>
      <model type='virtio'/>
    </interface>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <serial type='pty'><log file='{log}'/></serial>"
    );
    let uuid = format!("<uuid>{UUID}</uuid>");
    directory::definition("web", "dir='/srv/web'", "", &uuid, &devices)
}

fn companions_serve_a_guest_and_end_with_it(root: Root) -> Result<()> {
    let host = Setup::new(root).product()?.packages("companions", &PACKAGES)?.guest()?.boot()?;
    host.sh(NETWORK)?;
    host.write_file("/etc/glassbox/qemu/web.xml", definition())?;
    // The guest's program hears no power button.
    lan::drop_in(&host, "web", "[Service]\nTimeoutStopSec=11s\n")?;
    let unit = host.unit("qemu@web.service");
    let companions = COMPANIONS.map(|name| host.unit(name));
    one_that_cannot_serve_is_told(&host, &unit, &companions[1])?;

    share(&host)?;
    host.start_guest("web")?;
    all_is_served(&host, &unit, &companions)?;
    // With passt, QEMU itself has no network.
    for (unit, most) in [&unit].into_iter().chain(&companions).zip([1.0, 0.5, 1.0, 2.5, 2.5]) {
        let exposure = exposure(&host, unit.name())?;
        eprintln!("{}: exposure {exposure}", unit.name());
        assert!(exposure <= most, "{}: {exposure} is more than {most}", unit.name());
    }
    a_guest_goes_on_without_them(&host, &unit, &companions)?;
    they_are_back_with_their_guest(&host, &unit, &companions)?;

    host.write_file("/srv/web/poweroff", "")?;
    unit.wait("inactive")?;
    for companion in &companions {
        companion.wait("inactive")?;
    }
    // It was one TPM all the time, and outlives its guest's definition.
    let journal = companions[0].journal()?;
    assert_eq!(journal.matches("Starting vTPM manufacturing").count(), 1, "{journal}");
    assert_eq!(journal.matches("Not overwriting existing state file").count(), 3, "{journal}");
    host.sh("rm /etc/glassbox/qemu/web.xml")?;
    host.reload()?;
    let state = host.sh(&format!("stat --format=%a {STATE}/{UUID}/tpm2/tpm2-00.permall"))?;
    assert_eq!(state.stdout, "600\n");
    Ok(())
}

/// The guest's own start fails and names the unit, whose journal has line and column.
fn one_that_cannot_serve_is_told(
    host: &Host,
    guest: &Unit<'_>,
    virtiofsd: &Unit<'_>,
) -> Result<()> {
    assert_eq!(host.systemctl(["start", guest.name()])?.status, 1);
    let place = "web.xml:14:5: /domain/devices/filesystem";
    let told = guest.status_line()?;
    assert!(told.contains(&format!("{place}: {} is not running", virtiofsd.name())), "{told}");
    let told = virtiofsd.journal()?;
    let missing = format!("{place}/source: '/srv/web' does not exist; create it");
    assert!(told.contains(&missing), "{told}");
    Ok(())
}

/// Makes the directory that is the guest's root.
fn share(host: &Host) -> Result<()> {
    directory::make(host, "/srv/web", INIT, "hello")?;
    host.write("/srv/web/lease", LEASE, "0755", "root")?;
    host.write("/srv/web/true", "#!/bin/busybox true\n", "0755", "root")
}

/// A network that dies comes back; others are gone until the guest is restarted.
fn a_guest_goes_on_without_them(
    host: &Host,
    guest: &Unit<'_>,
    companions: &[Unit<'_>; 4],
) -> Result<()> {
    let [swtpm, virtiofsd, passt, _] = companions;
    let [pid] = passt.show(["MainPID"])?;
    host.run(["kill", "-9", &pid])?.success()?;
    host.wait_for("passt to be started again", tests::PATIENCE, || {
        passt.show(["MainPID"]).is_ok_and(|[now]| now != pid && now != "0")
    })?;
    host.wait_for("QEMU to connect again", tests::PATIENCE, || {
        host.sh("touch /srv/web/ask").is_ok_and(|_| host.console("web").contains("AGAIN hello"))
    })?;
    host.systemctl(["kill", "--signal=KILL", swtpm.name()])?.success()?;
    swtpm.wait("failed")?;
    // Whoever looks into the directory waits, for QEMU has no way back to one that is started again.
    let answers = || host.console("web").matches("AGAIN").count();
    let before = answers();
    host.systemctl(["kill", "--signal=KILL", virtiofsd.name()])?.success()?;
    virtiofsd.wait("failed")?;
    host.systemctl(["start", virtiofsd.name()])?.success()?;
    host.write_file("/srv/web/ask", "")?;
    std::thread::sleep(SEVERAL_LOOKS);
    assert_eq!(answers(), before, "{}", host.console("web"));
    host.sh("rm /srv/web/ask")?;
    assert_eq!(guest.state()?, "active");
    let status = host.qmp("web", "query-status")?;
    assert!(status.contains("\"running\": true"), "{status}");
    Ok(())
}

/// Neither a guest that somebody restarts misses any, nor one that systemd starts again.
fn they_are_back_with_their_guest(
    host: &Host,
    guest: &Unit<'_>,
    companions: &[Unit<'_>],
) -> Result<()> {
    lan::drop_in(host, "web", "[Service]\nTimeoutStopSec=11s\nRestart=on-failure\n")?;
    host.systemctl(["restart", guest.name()])?.success()?;
    all_is_served(host, guest, companions)?;
    let (_, qemu) = guest.processes()?;
    host.run(["kill", "-9", &qemu.to_string()])?.success()?;
    host.wait_for("the guest to be started again", tests::PATIENCE, || {
        let active = guest.state().is_ok_and(|state| state == "active");
        active && guest.processes().is_ok_and(|(_, now)| now != qemu)
    })?;
    all_is_served(host, guest, companions)
}

/// The guest finds its devices at work, and their programs are where they should be.
fn all_is_served(host: &Host, guest: &Unit<'_>, companions: &[Unit<'_>]) -> Result<()> {
    for said in ["SHARE hello", "TPM 2", "PORT hello from the host", "SECOND has a lease"] {
        host.wait_for_console("web", said, 1)?;
    }
    they_run_under_the_guests_account(host, guest, companions)
}

/// Companions were up before QEMU was started, and have the account of the guest and their own sandboxes.
pub(crate) fn they_run_under_the_guests_account(
    host: &Host,
    guest: &Unit<'_>,
    companions: &[Unit<'_>],
) -> Result<()> {
    let (_, qemu) = guest.processes()?;
    let account = host.process(qemu)?["Uid"].clone();
    ensure!(!account.starts_with("0\t"), "QEMU runs as root");
    let [started] = guest.show(["ExecMainStartTimestampMonotonic"])?;
    for companion in companions {
        let keys = ["ActiveState", "MainPID", "ActiveEnterTimestampMonotonic"];
        let [state, pid, active] = companion.show(keys)?;
        assert_eq!(state, "active", "{}", companion.name());
        let process = host.process(pid.parse().context("a process id")?)?;
        assert_eq!(process["Uid"], account, "{}", companion.name());
        assert_eq!(process["Seccomp"], "2", "{}", companion.name());
        let (active, started): (u64, u64) = (active.parse()?, started.parse()?);
        assert!(active <= started, "{} came after its guest", companion.name());
    }
    Ok(())
}

/// What a guest of the template does: tells its greeting.
const WORKER: &str = "#!/bin/busybox sh
while :; do
    echo \"WORKER $(/bin/busybox cat /greeting)\"
    /bin/busybox sleep 1
done
";

/// Each guest has the directory of its own name, also one that nothing named before it was started.
fn a_guest_of_a_template_has_its_own(root: Root) -> Result<()> {
    let host = Setup::new(root).product()?.packages("companions", &PACKAGES)?.guest()?.boot()?;
    let log =
        "<serial type='pty'><log file='/var/log/glassbox/qemu/worker@%i-serial0.log'/></serial>";
    let worker = directory::definition("", "dir='/srv/%i'", "", "", log);
    host.write_file("/etc/glassbox/qemu/worker@.xml", worker)?;
    for number in ["1", "2"] {
        directory::make(&host, &format!("/srv/{number}"), WORKER, &format!("of {number}"))?;
    }
    host.reload()?;
    host.systemctl(["enable", "qemu@worker@1"])?.success()?;
    for number in ["1", "2"] {
        let name = format!("worker@{number}");
        let guest = host.unit(&format!("qemu@{name}.service"));
        lan::drop_in(&host, &name, "[Service]\nTimeoutStopSec=11s\n")?;
        host.systemctl(["start", guest.name()])?.success()?;
        host.wait_for_console(&name, &format!("WORKER of {number}"), 1)?;
        let virtiofsd = host.unit(&format!("virtiofsd@{name}:fs0.service"));
        they_run_under_the_guests_account(&host, &guest, std::slice::from_ref(&virtiofsd))?;
        host.systemctl(["stop", guest.name()])?.success()?;
        virtiofsd.wait("inactive")?;
    }
    Ok(())
}
