//! A guest that says over its vsock that it is ready, as systemd in a guest does.

use anyhow::Result;
use tests::{Host, Root, guest};

tests::on_root!(trixie, Trixie, a_unit_is_active_when_its_guest_says_so_over_its_vsock);

/// The first process of the guest: it does what its firmware's credential says, in two messages.
const INIT: &str = "\
/bin/busybox mkdir -p /proc /sys /dev /sbin /usr/sbin /usr/bin
/bin/busybox --install -s
mount -t proc p /proc
mount -t sysfs s /sys
mount -t devtmpfs d /dev
while read -r module; do insmod /lib/modules/$module; done </lib/modules/base
for module in vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport; do insmod /v/$module.ko; done
port=$(tr '\\0' '\\n' </sys/firmware/dmi/tables/DMI | grep -ao 'vmm.notify_socket=vsock-stream:2:[0-9]*')
say() { printf \"$1\" | /v/ld-linux-x86-64.so.2 --library-path /v /v/socat -u - VSOCK-CONNECT:2:${port##*:}; }
say 'X_SYSTEMD_HOSTNAME=guest'
echo SAID-ITS-NAME
sleep 3
echo SAYS-READY
say 'STATUS=up\\nREADY=1'
sleep 1000
";

/// Writes the files of a directory as a cpio archive, for the kernel to unpack behind its first one.
const ARCHIVE: &str = r#"
sub pad { print "\0" x (-$_[0] & 3) }
sub entry {
    my ($name, $mode, $data) = @_;
    printf "070701" . "%08X" x 13, ++$inode, $mode, 0, 0, 1, 0, length $data, 0, 0, 0, 0, 1 + length $name, 0;
    print "$name\0"; pad(111 + length $name); print $data; pad(length $data);
}
entry("v", 040755, "");
for (@ARGV) { local $/; open F, "<", $_; entry("v/" . s|.*/||r, 0100755, <F>) }
entry("TRAILER!!!", 0, "");
"#;

const DEFINITION: &str = "<domain type='qemu'><name>web</name>
<metadata><g:ready xmlns:g='https://glassbox.org/xmlns/domain/1' channel='vsock' timeout='400'/></metadata>
<memory unit='MiB'>256</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>
  <kernel>IMAGES/vmlinuz</kernel><initrd>IMAGES/initrd-vsock</initrd>
  <cmdline>console=ttyS0 quiet no_timer_check rdinit=/bin/busybox -- sh /v/init</cmdline></os>
<cpu mode='maximum'/>
<devices><serial type='pty'><log file='/var/log/glassbox/qemu/web-serial0.log'/></serial></devices></domain>";

/// What vhost-vsock and its way within this host are made of, each behind what it needs.
const MODULES: [&str; 6] = [
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vsock_loopback",
    "drivers/vhost/vhost_iotlb",
    "drivers/vhost/vhost",
    "drivers/vhost/vhost_vsock",
];

/// Loads them by finit_module(2), for the VM has no kmod(8).
fn load_modules(host: &Host) -> Result<()> {
    let load = "open F, '<', $ARGV[0] or die $!; my $no = ''; syscall(313, fileno F, $no, 0) == 0 or die $!";
    for module in MODULES {
        let path = format!("/usr/lib/modules/$(uname -r)/kernel/{module}.ko");
        host.sh(&format!("test ! -e {path} || perl -e \"$1\" {path}")
            .replace("$1", &load.replace('$', "\\$")))?;
    }
    host.sh("chmod 0666 /dev/vhost-vsock").map(|_| ())
}

fn a_unit_is_active_when_its_guest_says_so_over_its_vsock(_: Root) -> Result<()> {
    // Containers here have no /dev/vhost-vsock.
    let host = Host::restore()?;
    load_modules(&host)?;
    host.write_file("/root/v/init", INIT)?;
    host.write_file("/root/archive.pl", ARCHIVE)?;
    host.sh(&format!(
        "cd /root
         cp -L /usr/lib/modules/$(uname -r)/kernel/net/vmw_vsock/*.ko /usr/bin/socat \
             $(ldd /usr/bin/socat | grep -o '/[^ ]*') v
         perl archive.pl v/* | cat {images}/initrd - >{images}/initrd-vsock",
        images = guest::IMAGES
    ))?;
    host.write_file("/etc/glassbox/qemu/web.xml", DEFINITION.replace("IMAGES", guest::IMAGES))?;
    host.reload()?;
    host.systemctl(["start", "--no-block", "qemu@web"])?.success()?;
    let unit = host.unit("qemu@web.service");
    host.wait_for_console("web", "SAID-ITS-NAME", 1)?;
    assert_eq!(unit.state()?, "activating", "a name is not what is awaited");
    let waiting = "running, waiting for the guest to say READY=1 over its vsock";
    assert_eq!(unit.status_line()?, waiting);

    // Somebody on the host is not the guest.
    let words = host.command_line(unit.processes()?.1)?.join(" ");
    let port = words.split("vsock-stream:2:").nth(1).and_then(|rest| rest.split(' ').next());
    let port = port.unwrap_or_default();
    assert!(words.contains(&format!("\"guest-cid\":{port},")), "{words}");
    let forged = host.sh(&format!("printf 'READY=1\\n' | socat -u - VSOCK-CONNECT:1:{port}"))?;
    assert_eq!(forged.stderr, "");
    assert_eq!(unit.state()?, "activating");

    unit.wait("active")?;
    assert!(host.console("web").contains("SAYS-READY"), "{}", host.console("web"));
    unit.quit()
}
