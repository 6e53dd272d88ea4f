//! Programs beside a guest that its disks have: nbdkit for images on servers, and qemu-pr-helper for reservations.

use anyhow::{Context, Result, ensure};
use tests::{Host, Root, Setup, Unit, guest};

use crate::compromise::{exposure, loop_device};
use crate::lan;

tests::on_each_root!(disks_on_servers_are_reached_by_units_beside_the_guest);

/// Servers, what makes the guest's file system, and its program.
const PACKAGES: [&str; 4] = ["busybox-static", "e2fsprogs", "nbdkit", "openssh-server"];

const COOKIE: &str = "session=c00kie";
const PASSWORD: &str = "pa55word";

/// `images:pa55word` in base64.
const LOGIN: &str = "aW1hZ2VzOnBhNTV3b3Jk";

/// The program of the guest: says what it finds on its disks, and reads one of them, block by block and past its cache.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
echo \"ROOT $($b cat /greeting)\"
echo \"SECOND $($b head -n 1 /dev/vdb)\"
echo \"THIRD $($b head -c 16384 /dev/vdc | $b wc -c)\"
n=0
while :; do
    if $b dd if=/dev/vda of=/dev/null bs=4096 skip=$n count=1 iflag=direct 2>/dev/null; then
        echo \"READ $n\"
    else
        echo \"FAILED $n\"
    fi
    n=$((n + 1))
    $b sleep 1
done
";

/// The disks, and their servers at ports of this host alone. Key and list of hosts are root's to read.
const SERVERS: &str = "mkdir -p /srv/disk/bin /srv/disk/sbin /srv/disk/dev /srv/images
cp /bin/busybox /srv/disk/bin; cp /root/init /srv/disk/sbin/init; chmod 755 /srv/disk/sbin/init
echo from HTTP >/srv/disk/greeting
truncate -s 32M /srv/images/root.img
mkfs.ext4 -q -O ^has_journal -d /srv/disk /srv/images/root.img
echo from SSH >/srv/images/second.img; truncate -s 1M /srv/images/second.img
truncate -s 1M /srv/images/third.img
chmod 700 /srv/images
ip link set lo up
ssh-keygen -q -t ed25519 -N '' -f /root/reader.key
mkdir -m 700 -p /root/.ssh /run/sshd; cp /root/reader.key.pub /root/.ssh/authorized_keys
(umask 077; sed 's/^/[127.0.0.1]:2222 /' /etc/ssh/ssh_host_ed25519_key.pub >/root/known_hosts)
systemd-run --quiet --unit=sshd-images /usr/sbin/sshd -D -p 2222
";

/// What runs beside the guest.
const COMPANIONS: [&str; 3] =
    ["nbdkit@web:vda.service", "nbdkit@web:vdb.service", "qemu-pr-helper@web:pr-helper0.service"];

fn definition(block: &str) -> String {
    let (images, log) = (guest::IMAGES, tests::definition::log("web"));
    format!(
        "<domain type='qemu'>
  <name>web</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{images}/vmlinuz</kernel>
    <initrd>{images}/initrd</initrd>
    <cmdline>console=ttyS0 quiet no_timer_check glassbox.root</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='network' device='disk'>
      <source protocol='http' name='root.img'>
        <host name='127.0.0.1' port='8080'/>
        <cookies><cookie name='session'>c00kie</cookie></cookies>
        <auth username='images'><secret type='iscsi' usage='images.example'/></auth>
      </source>
      <target dev='vda' bus='virtio'/>
      <readonly/>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='ssh' name='/srv/images/second.img'>
        <host name='127.0.0.1' port='2222'/>
        <knownHosts path='/root/known_hosts'/>
        <identity username='root' keyfile='/root/reader.key'/>
      </source>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/srv/third.qcow2'/>
      <backingStore type='block'>
        <format type='raw'/>
        <source dev='{block}'><reservations managed='yes'/></source>
        <backingStore/>
      </backingStore>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <serial type='pty'><log file='{log}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}

fn disks_on_servers_are_reached_by_units_beside_the_guest(root: Root) -> Result<()> {
    let host = Setup::new(root).product()?.packages("storage", &PACKAGES)?.guest()?.boot()?;
    let block = serve(&host)?;
    host.write_file("/etc/glassbox/qemu/web.xml", definition(&block))?;
    // The guest's program hears no power button.
    lan::drop_in(&host, "web", "[Service]\nTimeoutStopSec=11s\n")?;
    let unit = host.unit("qemu@web.service");
    let companions = COMPANIONS.map(|name| host.unit(name));
    without_its_secret_the_guest_does_not_start(&host, &unit, &companions[0])?;

    host.write("/etc/credstore/secret.images.example", PASSWORD, "0600", "root")?;
    let journals =
        || companions.iter().map(|it| it.journal().unwrap_or_default()).collect::<String>();
    let started = host.start_guest("web").map(|_| ());
    // The kernel frees it when its last user closes it.
    host.run(["losetup", "--detach", &block])?.success()?;
    started.with_context(journals)?;
    for said in ["ROOT from HTTP", "SECOND from SSH", "THIRD 16384", "READ 0"] {
        host.wait_for_console("web", said, 1)?;
    }
    for (unit, most) in [&unit].into_iter().chain(&companions).zip([0.5, 1.5, 1.5, 1.5]) {
        let exposure = exposure(&host, unit.name())?;
        eprintln!("{}: exposure {exposure}", unit.name());
        assert!(exposure <= most, "{}: {exposure} is more than {most}", unit.name());
    }
    the_guest_has_neither_network_nor_secrets(&host, &unit, &companions)?;
    reservations_have_a_helper_with_one_privilege(&host, &companions[2])?;
    requests_wait_for_a_server_that_is_started_again(&host, &companions[0])?;

    host.systemctl(["stop", unit.name()])?.success()?;
    for companion in &companions {
        companion.wait("inactive")?;
    }
    Ok(())
}

/// Starts the servers; the result is a block device for the third disk.
fn serve(host: &Host) -> Result<String> {
    host.write_file("/root/init", INIT)?;
    host.sh(SERVERS)?;
    let server = "/root/http-server.pl";
    host.write_file(server, include_str!("http-server.pl"))?;
    let image = "/srv/images/root.img";
    host.run(["systemd-run", "--quiet", "perl", server, "8080", image, COOKIE, LOGIN])?
        .success()?;
    let block = loop_device(host, "/srv/images/third.img")?;
    host.sh(&format!("qemu-img create -q -f qcow2 -b {block} -F raw /srv/third.qcow2"))?;
    Ok(block)
}

/// The guest's own start fails and names the unit, whose journal has line and column, and what to do.
fn without_its_secret_the_guest_does_not_start(
    host: &Host,
    guest: &Unit<'_>,
    nbdkit: &Unit<'_>,
) -> Result<()> {
    assert_eq!(host.systemctl(["start", guest.name()])?.status, 1);
    let place = "web.xml:14:7: /domain/devices/disk[1]/source";
    let told = guest.journal()?;
    assert!(told.contains(&format!("{place}: {} is not running", nbdkit.name())), "{told}");
    host.wait_for("nbdkit to have told", tests::PATIENCE, || {
        let told = "disk[1]/source/auth: the unit has no credential 'secret.images.example'; put the secret into \
                    /etc/credstore/secret.images.example";
        nbdkit.journal().is_ok_and(|journal| journal.contains(told))
    })
}

/// QEMU is in a network of its own, and who looks at command lines and environments finds no secret.
fn the_guest_has_neither_network_nor_secrets(
    host: &Host,
    guest: &Unit<'_>,
    companions: &[Unit<'_>; 3],
) -> Result<()> {
    let (_, qemu) = guest.processes()?;
    let account = host.process(qemu)?["Uid"].clone();
    ensure!(!account.starts_with("0\t"), "QEMU runs as root");
    let network = |pid: &str| {
        Ok::<_, anyhow::Error>(host.run(["readlink", &format!("/proc/{pid}/ns/net")])?.stdout)
    };
    assert_ne!(network(&qemu.to_string())?, network("1")?);
    for (companion, on_network) in companions.iter().zip([true, true, false]) {
        let [pid] = companion.show(["MainPID"])?;
        assert_eq!(network(&pid)? == network("1")?, on_network, "{}", companion.name());
        let process = host.process(pid.parse().context("a process id")?)?;
        assert_eq!(process["Uid"], account, "{}", companion.name());
        let seen =
            host.run(["cat", &format!("/proc/{pid}/cmdline"), &format!("/proc/{pid}/environ")])?;
        for secret in [PASSWORD, "c00kie", "PRIVATE KEY"] {
            assert!(!seen.stdout.contains(secret), "{}: {}", companion.name(), seen.stdout);
        }
    }
    assert_eq!(host.sh("stat --format=%a:%U /root/reader.key")?.stdout, "600:root\n");
    Ok(())
}

/// QEMU is connected to the helper, which keeps the right to talk to disks raw and no other.
fn reservations_have_a_helper_with_one_privilege(host: &Host, helper: &Unit<'_>) -> Result<()> {
    let managers = host.qmp("web", "query-pr-managers")?;
    assert_eq!(
        managers,
        "{\"return\": [{\"connected\": true, \"id\": \"pr-helper0\"}]}",
        "the helper's journal:\n{}",
        helper.journal()?
    );
    let [pid] = helper.show(["MainPID"])?;
    let process = host.process(pid.parse()?)?;
    // CAP_SYS_RAWIO is number 17 (capability.h).
    for (set, capabilities) in [("CapEff", 1_u64 << 17), ("CapPrm", 1 << 17), ("CapBnd", 0)] {
        assert_eq!(process[set], format!("{capabilities:016x}"), "{set}");
    }
    Ok(())
}

/// An nbdkit that dies costs the guest nothing but time. Without one its requests fail, and do not when it is back.
fn requests_wait_for_a_server_that_is_started_again(host: &Host, nbdkit: &Unit<'_>) -> Result<()> {
    let [pid] = nbdkit.show(["MainPID"])?;
    host.run(["kill", "-9", &pid])?.success()?;
    host.wait_for("nbdkit to be started again", tests::PATIENCE, || {
        nbdkit.show(["MainPID"]).is_ok_and(|[now]| now != pid && now != "0")
    })?;
    let read = |host: &Host| host.console("web").matches("READ ").count();
    let before = read(host);
    host.wait_for("the guest to read on", tests::PATIENCE, || read(host) > before + 2)?;
    assert!(!host.console("web").contains("FAILED"), "{}", host.console("web"));

    host.systemctl(["stop", nbdkit.name()])?.success()?;
    host.wait_for_console("web", "FAILED", 1)?;
    host.systemctl(["start", nbdkit.name()])?.success()?;
    let before = read(host);
    host.wait_for("the guest to read again", tests::PATIENCE, || read(host) > before)
}
