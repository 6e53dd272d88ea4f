//! A guest's vsock where the kernel serves none: a program beside the guest does, and the guest says over it that it is
//! ready.

use anyhow::{Context, Result};
use tests::{Definition, Host, PATIENCE, Root, Setup, Unit, guest};

use crate::companions::{PACKAGES, they_run_under_the_guests_account};
use crate::compromise::exposure;
use crate::lan;

tests::on_root!(
    trixie,
    Trixie,
    a_guest_speaks_over_a_vsock_that_a_program_serves,
    a_guest_that_does_not_say_that_it_is_ready_is_given_up,
);

/// The exit status of glassbox-qemu(1) for a guest that was not started.
const START_FAILED: i32 = 6;

/// The program's unit, and where it is asked for ports of the guest.
const COMPANION: &str = "vhost-device-vsock@web:vsock0.service";
const PORTS: &str = "/run/glassbox/companion/web/vsock0/ports";

/// The program of the guest: does what its firmware's credential says, in two messages, of which the second waits for a
/// file of the directory. Then it answers on a port of its own, and asks at one of the host.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
port=$($b tr '\0' '\n' </sys/firmware/dmi/tables/DMI | $b grep -ao 'vmm.notify_socket=vsock-stream:2:[0-9]*')
say() { printf "$1" | /bin/socat -u - VSOCK-CONNECT:2:${port##*:}; }
say 'X_SYSTEMD_HOSTNAME=web'
echo SAID-ITS-NAME
until [ -e /go ]; do $b sleep 1; done
echo SAYS-READY
say 'STATUS=up\nREADY=1'
/bin/socat VSOCK-LISTEN:5000,fork SYSTEM:'echo hello from the guest' &
ask() { { echo who; $b sleep 2; } | /bin/socat -t 60 - VSOCK-CONNECT:2:7000 2>/dev/null; }
until answer=$(ask) && [ -n "$answer" ]; do $b sleep 1; done
echo "HOST SAYS $answer"
while :; do $b sleep 1000; done
"#;

const DEFINITION: &str = "<domain type='qemu'>
  <name>web</name>
  <metadata>
    <g:ready xmlns:g='https://glassbox.org/xmlns/domain/1' channel='vsock' timeout='400'/>
  </metadata>
  <memory unit='MiB'>256</memory>
  <memoryBacking><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>IMAGES/vmlinuz</kernel>
    <initrd>IMAGES/initrd</initrd>
    <cmdline>console=ttyS0 quiet no_timer_check glassbox.virtiofs=root</cmdline>
  </os>
  <cpu mode='maximum'/>
  <devices>
    <filesystem type='mount'>
      <driver type='virtiofs'/>
      <source dir='/srv/web'/>
      <target dir='root'/>
    </filesystem>
    <vsock><cid address='4711'/></vsock>
    <serial type='pty'><log file='LOG'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
";

fn boot(root: Root) -> Result<Host> {
    let setup = Setup::new(root).product()?.packages("companions", &PACKAGES)?;
    setup.vhost_device_vsock()?.guest()?.boot()
}

fn a_guest_speaks_over_a_vsock_that_a_program_serves(root: Root) -> Result<()> {
    let host = boot(root)?;
    let definition = DEFINITION.replace("IMAGES", guest::IMAGES);
    let definition = definition.replace("LOG", &tests::definition::log("web"));
    host.write_file("/etc/glassbox/qemu/web.xml", definition)?;
    share(&host)?;
    lan::drop_in(&host, "web", "[Service]\nTimeoutStopSec=11s\nRestart=on-failure\n")?;
    host.reload()?;
    host.systemctl(["start", "--no-block", "qemu@web"])?.success()?;
    let unit = host.unit("qemu@web.service");
    it_is_ready_when_it_says_so(&host, &unit)?;
    both_sides_listen(&host)?;

    let companion = host.unit(COMPANION);
    they_run_under_the_guests_account(&host, &unit, std::slice::from_ref(&companion))?;
    let exposure = exposure(&host, COMPANION)?;
    assert!(exposure <= 0.5, "{exposure}");
    its_number_is_its_own(&host)?;

    // Systemd starts the guest again, and the program may have outlived its QEMU.
    host.sh("rm /srv/web/go")?;
    let (_, qemu) = unit.processes()?;
    host.run(["kill", "-9", &qemu.to_string()])?.success()?;
    it_is_ready_when_it_says_so(&host, &unit)?;

    // The guest goes on without the program, and both end together.
    host.systemctl(["kill", "--signal=KILL", COMPANION])?.success()?;
    companion.wait("failed")?;
    assert_eq!(unit.state()?, "active");
    host.systemctl(["restart", "qemu@web"])?.success()?;
    assert_eq!(companion.state()?, "active");
    both_sides_listen(&host)?;
    unit.quit()?;
    companion.wait("inactive")
}

/// Makes the directory that is the guest's root.
fn share(host: &Host) -> Result<()> {
    host.write("/srv/web/init", INIT, "0755", "root")?;
    host.sh("cd /srv/web
         mkdir -p bin proc sys dev
         cp /bin/busybox /usr/bin/socat bin
         ln -s busybox bin/sh
         for library in $(ldd /usr/bin/socat | grep -o '/[^ ]*'); do
             mkdir -p \".${library%/*}\"
             cp -L \"$library\" \".$library\"
         done")
        .map(|_| ())
}

/// The guest's unit is active when the guest said so.
fn it_is_ready_when_it_says_so(host: &Host, unit: &Unit<'_>) -> Result<()> {
    let waiting = "running, waiting for the guest to say READY=1 over its vsock";
    host.wait_for("the guest to be awaited", PATIENCE, || {
        let awaited = unit.state().is_ok_and(|state| state == "activating")
            && unit.status_line().is_ok_and(|line| line == waiting);
        awaited && host.console("web").contains("SAID-ITS-NAME")
    })?;
    // A name is not what is awaited.
    assert_eq!(unit.state()?, "activating");
    host.write_file("/srv/web/go", "")?;
    unit.wait("active")?;
    let console = host.console("web");
    assert_eq!(console.matches("SAYS-READY").count(), 1, "{console}");
    Ok(())
}

/// A program of the host reaches a port of the guest, and the guest one of the host.
fn both_sides_listen(host: &Host) -> Result<()> {
    // The program takes the end of what it is told for the end of the connection.
    let ask = format!("{{ printf 'CONNECT 5000\\n'; sleep 2; }} | socat - UNIX-CONNECT:{PORTS}");
    host.wait_for("the guest to answer", PATIENCE, || {
        host.sh(&ask).is_ok_and(|answer| answer.stdout.ends_with("\nhello from the guest\n"))
    })?;
    // A program of the host lets the guest speak first: the connection is not made for both at once.
    let listen = format!("UNIX-LISTEN:{PORTS}_7000,mode=0666,fork");
    let serve = ["systemd-run", "--quiet", "--collect", "--unit=greeter", "socat", &listen];
    host.run(serve.into_iter().chain(["SYSTEM:read who; echo hello from the host"]))?.success()?;
    host.wait_for_console("web", "HOST SAYS hello from the host", 1)?;
    host.systemctl(["stop", "greeter"])?.success().map(|_| ())
}

/// A second guest with the number is refused, and one that leaves it to us has another.
fn its_number_is_its_own(host: &Host) -> Result<()> {
    awaited("db", 60)?
        .replace("<devices>", "<devices><vsock><cid address='4711'/></vsock>")?
        .install(host)?;
    host.reload()?;
    let db = host.unit("qemu@db.service");
    assert_eq!(host.systemctl(["start", db.name()])?.status, 1);
    let told = db.status_line()?;
    let held = "/domain/devices/vsock: the number 4711 is held by guest 'web', ";
    assert!(
        told.contains(held) && told.contains("; give another in <cid address='...'/>"),
        "{told}"
    );
    Ok(())
}

fn a_guest_that_does_not_say_that_it_is_ready_is_given_up(root: Root) -> Result<()> {
    let host = boot(root)?;
    // It has no <vsock>, and memory of its own: both are what Glassbox makes of its definition on this host.
    awaited("never", 3)?.install(&host)?;
    host.reload()?;
    let unit = host.unit("qemu@never.service");
    let started = host.systemctl(["start", unit.name()])?;
    assert_eq!(started.status, 1, "{}", started.stderr);
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), START_FAILED));
    let words = "the guest was not started: it did not say READY=1 over its vsock in 3 s";
    assert_eq!(unit.status_line()?, words);
    host.unit("vhost-device-vsock@never:vsock0.service").wait("inactive")?;

    // Where nobody has installed the program, its unit says what to do.
    host.sh("rm /usr/local/bin/vhost-device-vsock")?;
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    let companion = host.unit("vhost-device-vsock@never:vsock0.service");
    let told = unit.status_line()?;
    assert!(told.contains(&format!("{} is not running", companion.name())), "{told}");
    let told = companion.journal()?;
    assert!(told.contains("install it, or load the module vhost_vsock"), "{told}");
    Ok(())
}

/// A guest that is to say over its vsock that it is ready, within these seconds.
fn awaited(name: &str, timeout: u32) -> Result<Definition> {
    let ready = format!(
        "<metadata><g:ready xmlns:g=\"https://glassbox.org/xmlns/domain/1\" channel=\"vsock\" timeout=\"{timeout}\"/>"
    );
    Definition::new(name)?.replace("<metadata>", &ready).context("the definition has <metadata>")
}
