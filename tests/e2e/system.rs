//! A guest with a systemd of its own: it is what the credentials of its unit say, says itself when it is ready, and is
//! reached by ssh over its vsock.

use anyhow::{Context, Result};
use tests::{Host, PATIENCE, Root, Setup, guest};

use crate::lan;

tests::on_root!(trixie, Trixie, a_guests_systemd_is_what_its_units_credentials_say);
tests::on_root!(forky, Forky, a_guests_systemd_is_what_its_units_credentials_say);

/// The guest for ssh, as systemd's proxy names it.
const GUEST: &str = "vsock-mux/run/glassbox/companion/web/vsock0/ports";

const MACHINE_ID: &str = "0b3a4c1e7a554f0c9d2e5a8f1c6b7d90";

/// More than the firmware's tables have room for, so that QEMU has it as a file of its firmware configuration.
const LARGE: usize = 100_000;

/// The credentials, by the names of systemd.system-credentials(7).
const UNIT: &str = "[Service]
SetCredential=system.machine_id:MACHINE_ID
SetCredential=system.hostname:shop
LoadCredential=ssh.authorized_keys.root:/etc/keys/guest.pub
LoadCredential=network.network.50-web:/etc/keys/web.network
LoadCredential=large:/etc/keys/large
# It takes what an emulated processor takes, on a machine with other work.
TimeoutStartSec=15min
";

const NETWORK: &str = "[Match]
Kind=!*
Type=ether
[Network]
Address=192.0.2.7/24
LinkLocalAddressing=no
IPv6AcceptRA=no
";

/// In the place of systemd's proxy: connects ssh with a port, once the guest has answered.
const PROXY: &str = r#"
use Socket;
my ($path, $port) = @ARGV;
$path =~ s/^vsock-mux//;
socket(my $guest, AF_UNIX, SOCK_STREAM, 0) or die $!;
connect($guest, pack_sockaddr_un($path)) or die $!;
syswrite $guest, "CONNECT $port\n";
my ($answer, $byte) = "";
$answer .= $byte while $answer !~ /\n/ && sysread $guest, $byte, 1;
$answer =~ /^OK/ or die "the guest answers '$answer'";
my %other = (fileno $guest => [$guest, \*STDOUT], 0 => [\*STDIN, $guest]);
while (1) {
    my $ready = "";
    vec($ready, $_, 1) = 1 for keys %other;
    select $ready, undef, undef, undef;
    for (grep { vec $ready, $_, 1 } keys %other) {
        my ($from, $to) = @{$other{$_}};
        sysread $from, my $data, 65536 or exit;
        syswrite $to, $data;
    }
}
"#;

const DEFINITION: &str = "<domain type='qemu'>
  <name>web</name>
  <metadata>
    <g:ready xmlns:g='https://glassbox.org/xmlns/domain/1' channel='vsock' timeout='800'/>
  </metadata>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>IMAGES/vmlinuz</kernel>
    <initrd>IMAGES/initrd</initrd>
    <cmdline>console=ttyS0 no_timer_check mitigations=off glassbox.root</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='file'>
      <driver name='qemu' type='qcow2'/>
      <source file='IMAGES/web.qcow2'/>
      <backingStore type='file'><format type='raw'/><source file='IMAGES/system.ext4'/></backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'><log file='LOG'/></serial>
  </devices>
</domain>
";

fn a_guests_systemd_is_what_its_units_credentials_say(root: Root) -> Result<()> {
    let setup = Setup::new(root).product()?.packages("ssh", &["openssh-client"])?;
    let host = setup.vhost_device_vsock()?.guest()?.system_guest()?.boot()?;
    define(&host)?;
    let unit = host.unit("qemu@web.service");
    let started = host.command(["systemctl", "start", unit.name()]).limit(PATIENCE * 8).output()?;
    let told = || format!("{}\n{}", host.console("web"), unit.journal().unwrap_or_default());
    started.success().with_context(told)?;
    // It has returned, so the guest's own systemd has started everything, and said so.
    let console = host.console("web");
    assert!(console.contains("multi-user.target"), "{console}");
    let journal = unit.journal()?;
    assert!(journal.contains("waiting for the guest to say READY=1 over its vsock"), "{journal}");
    let state = ssh(&host, "systemctl is-system-running || true")?;
    assert!(matches!(state.trim(), "running" | "degraded"), "{state}");

    assert_eq!(ssh(&host, "cat /etc/machine-id")?.trim(), MACHINE_ID);
    assert_eq!(ssh(&host, "hostname")?.trim(), "shop");
    let sum = ssh(&host, "systemd-creds --system cat large | sha256sum")?;
    assert_eq!(sum, host.sh("sha256sum </etc/keys/large")?.stdout);
    host.wait_for("the guest to have its address", PATIENCE, || {
        let shown = ssh(&host, "ip -4 -brief address show scope global");
        shown.is_ok_and(|shown| shown.contains("192.0.2.7/24"))
    })?;

    unit.quit()?;
    host.unit("vhost-device-vsock@web:vsock0.service").wait("inactive")
}

fn define(host: &Host) -> Result<()> {
    let definition = DEFINITION.replace("IMAGES", guest::IMAGES);
    let definition = definition.replace("LOG", &tests::definition::log("web"));
    host.write_file("/etc/glassbox/qemu/web.xml", definition)?;
    host.sh(&format!(
        "mkdir -m 0700 /etc/keys
         ssh-keygen -q -t ed25519 -N '' -f /etc/keys/guest
         head -c {LARGE} /dev/urandom >/etc/keys/large
         cd {}
         qemu-img create -q -f qcow2 -F raw -b system.ext4 web.qcow2",
        guest::IMAGES
    ))?;
    host.write_file("/etc/keys/web.network", NETWORK)?;
    host.write_file("/root/proxy.pl", PROXY)?;
    lan::drop_in(host, "web", &UNIT.replace("MACHINE_ID", MACHINE_ID))?;
    host.reload()
}

/// What a command in the guest prints, run by root, who has the key.
fn ssh(host: &Host, command: &str) -> Result<String> {
    // Systemd 257 has ssh speak before the program that serves the vsock has a connection for it, and newer ones wait.
    let proxy = match host.root() {
        Root::Forky => Vec::new(),
        Root::Bookworm | Root::Trixie => vec![
            "ProxyCommand=perl /root/proxy.pl %h %p",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ],
    };
    let options = proxy.into_iter().chain(["IdentityFile=/etc/keys/guest"]);
    let options = options.flat_map(|option| ["-o", option]);
    let words = ["ssh", "-l", "root"].into_iter().chain(options).chain([GUEST, command]);
    let done = host.command(words).limit(PATIENCE * 2).output()?.success();
    Ok(done.with_context(|| host.console("web"))?.stdout)
}
