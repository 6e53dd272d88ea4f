//! File descriptors that the caller opened become devices of the guest.

use anyhow::Result;
use tests::{Definition, Host, Root, Unit, definition};

use crate::lan::{self, LEASE};

tests::on_root!(
    trixie,
    Trixie,
    a_caller_hands_a_tap_to_a_guest_without_privilege,
    a_unit_opens_what_its_account_may_not,
);

/// Opens a tap device, gives all privilege and `/dev/net` up, and becomes the shim.
const CALLER: &str = r#"
use strict;
use Fcntl;
sysopen(my $tun, "/dev/net/tun", O_RDWR) or die "/dev/net/tun: $!";
# TUNSETIFF with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR (linux/if_tun.h).
my $request = pack("a16 s x22", "pod0", 0x0002 | 0x1000 | 0x4000);
ioctl($tun, 0x400454ca, $request) or die "TUNSETIFF: $!";
system("ip link set pod0 master br0 up") == 0 or die "ip";
fcntl($tun, F_SETFD, 0) or die "F_SETFD: $!";
my $fd = fileno($tun);
my $drop = "mount -t tmpfs -o mode=0755 none /dev/net; exec setpriv --reuid=glassbox-qemu --regid=glassbox-qemu "
    . "--clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "
    . "env XDG_RUNTIME_DIR=/run/pod glassbox-qemu --register=no --fd net0=$fd /etc/glassbox/qemu/pod.xml";
exec "unshare", "--mount", "sh", "-euc", $drop or die "unshare: $!";
"#;

fn a_caller_hands_a_tap_to_a_guest_without_privilege(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, &[], &[])?;
    host.sh("install -d -o glassbox-qemu /run/pod /var/log/glassbox/qemu")?;
    let bridged = "<interface type=\"bridge\"><source bridge=\"br0\"/>";
    lan::with_interface(Definition::new("pod")?, bridged)?.install(&host)?;
    host.write_file("/root/caller.pl", CALLER)?;
    let words = ["systemd-run", "--unit=pod", "--property=Type=exec", "perl", "/root/caller.pl"];
    host.run(words)?.success()?;
    host.wait_for_console("pod", LEASE, 1)?;
    let unit = host.unit("pod.service");
    let (shim, qemu) = unit.processes()?;
    for pid in [shim, qemu] {
        assert_eq!(host.process(pid)?["CapEff"], "0".repeat(16));
        let tun = host.run(["test", "-e", &format!("/proc/{pid}/root/dev/net/tun")])?;
        assert_ne!(tun.status, 0, "there is no /dev/net/tun for {pid}");
    }
    let open = host.sh(&format!("ls -l /proc/{qemu}/fd /proc/{shim}/fd | grep -c /dev/net/tun"))?;
    assert_eq!(open.stdout, "1\n", "QEMU has it, and the shim no more");
    host.systemctl(["kill", "--kill-whom=main", "--signal=TERM", "pod"])?.success()?;
    unit.wait("inactive")?;
    assert_eq!(lan::link(&host, "pod0")?, "", "nobody holds it open any longer");
    Ok(())
}

/// A line of a unit, and the end of the message that the guest is refused with.
const REFUSED: [(&str, &str); 4] = [
    (
        "OpenFile=/root/secret.qcow2:vda:read-only",
        ": /domain/devices/disk/source: the file descriptor 'vda' is a file open for reading only, and a file open \
         for reading and writing is wanted; open that",
    ),
    (
        "OpenFile=/dev/null:net0",
        ": /domain/devices/interface: the file descriptor 'net0' is the character device /dev/null, and a tap \
         device is wanted; open that",
    ),
    (
        "OpenFile=/dev/net/tun:net0",
        ": /domain/devices/interface: the file descriptor 'net0' is /dev/net/tun with no tap device attached, and \
         a tap device is wanted; open that",
    ),
    (
        "OpenFile=/root/secret.qcow2:vdb",
        ": /domain: no device of the guest takes a file descriptor 'vdb'; those that it takes are vda, net0, \
         net0-vhost",
    ),
];

fn a_unit_opens_what_its_account_may_not(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start_with_cable(&host)?;
    // The guest writes to its disk before it starts anew.
    let web = lan::with_interface(Definition::new("web")?, lan::ON_CABLE)?
        .word("glassbox.reboot")?
        .replace("/var/lib/glassbox/images/web.qcow2", "/root/secret.qcow2")?;
    host.write_file(&format!("{}/web.xml", definition::DEFINITIONS), web.xml())?;
    host.sh(&format!(
        "qemu-img create -q -f qcow2 /root/secret.qcow2 64M; chmod 0600 /root/secret.qcow2; chmod 0700 /root
         ip link add mv0 link outer address {} type macvtap mode bridge; ip link set mv0 up
         mknod -m 0600 /dev/tap-web c $(cat /sys/class/net/mv0/tap*/dev | tr : ' ')",
        lan::address(&web)?
    ))?;
    let unit = host.unit("qemu@web.service");
    for (line, message) in REFUSED {
        refused(&host, &unit, line, message)?;
    }
    let lines = "[Service]\nOpenFile=/root/secret.qcow2:vda\nOpenFile=/dev/tap-web:net0\n";
    lan::drop_in(&host, "web", lines)?;
    host.start_guest("web")?;
    host.wait_for_console("web", "GLASSBOX-GUEST-REBOOTED", 1)?;
    host.wait_for_console("web", LEASE, 1)?;
    let (_, qemu) = unit.processes()?;
    assert_eq!(host.process(qemu)?["CapEff"], "0".repeat(16));
    let open = host.sh(&format!("readlink /proc/{qemu}/fd/*"))?.stdout;
    for path in ["/root/secret.qcow2", "/dev/tap-web"] {
        assert!(open.lines().any(|line| line == path), "{path} is not in\n{open}");
    }
    host.systemctl(["stop", "qemu@web"])?.success()?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    kvm(&host)
}

/// KVM's device is root's alone, and systemd opens it for the guest.
fn kvm(host: &Host) -> Result<()> {
    if host.run(["sh", "-c", ": <>/dev/kvm"])?.status != 0 {
        eprintln!(
            "a_unit_opens_what_its_account_may_not: this machine has no KVM, so none was passed"
        );
        return Ok(());
    }
    host.sh("chown root:root /dev/kvm; chmod 0600 /dev/kvm")?;
    let fast =
        Definition::new("fast")?.replace("<domain type=\"qemu\">", "<domain type=\"kvm\">")?;
    let model = "<cpu mode=\"custom\"><model>qemu64</model></cpu>";
    fast.replace("<cpu mode=\"maximum\"/>", model)?.install(host)?;
    lan::drop_in(host, "fast", "[Service]\nOpenFile=/dev/kvm:kvm\n")?;
    let unit = host.start_guest("fast")?;
    let (_, qemu) = unit.processes()?;
    let open = host.sh(&format!("readlink /proc/{qemu}/fd/*"))?.stdout;
    assert!(open.lines().any(|path| path == "/dev/kvm"), "{open}");
    unit.quit()
}

fn refused(host: &Host, unit: &Unit<'_>, line: &str, message: &str) -> Result<()> {
    lan::drop_in(host, "web", &format!("[Service]\n{line}\n"))?;
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1, "{line}");
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), 3), "{line}");
    let told = unit.status_line()?;
    assert!(told.ends_with(message), "{line}: {told}");
    Ok(())
}
