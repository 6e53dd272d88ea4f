//! A network for guests: a bridge with a DHCP server, both systemd-networkd's.

use anyhow::{Context, Result};
use tests::{Definition, Host};

/// What a guest says on its console when it has a lease of the bridge's DHCP server.
pub(crate) const LEASE: &str = "GLASSBOX-GUEST-IP 10.77.0.";

/// The interface that the definitions of the tests have.
const USER_NETWORK: &str = "<interface type=\"user\">";

/// Files of systemd-networkd, a name and the content.
pub(crate) type NetworkFiles<'a> = &'a [(&'a str, &'a str)];

const BRIDGE: NetworkFiles<'static> = &[
    ("br0.netdev", "[NetDev]\nName=br0\nKind=bridge\n"),
    (
        "br0.network",
        "[Match]\nName=br0\n[Network]\nAddress=10.77.0.1/24\nDHCPServer=yes\nConfigureWithoutCarrier=yes\n",
    ),
];

/// Has networkd make the bridge `br0` and what else these files say; waits for the devices.
pub(crate) fn start(host: &Host, files: NetworkFiles<'_>, devices: &[&str]) -> Result<()> {
    for (name, content) in BRIDGE.iter().chain(files) {
        host.write_file(&format!("/etc/systemd/network/{name}"), *content)?;
    }
    host.systemctl(["start", "systemd-networkd"])?.success()?;
    for device in ["br0"].iter().chain(devices) {
        host.wait_for(&format!("networkd to configure {device}"), tests::PATIENCE, || {
            let status = host.run(["networkctl", "--no-pager", "status", device]);
            status.is_ok_and(|status| status.stdout.contains("(configured)"))
        })?;
    }
    Ok(())
}

/// A cable whose one end is a port of the bridge.
const CABLE: NetworkFiles<'static> = &[
    ("cable.netdev", "[NetDev]\nName=inner\nKind=veth\n[Peer]\nName=outer\n"),
    ("inner.network", "[Match]\nName=inner\n[Network]\nBridge=br0\n"),
    ("outer.network", "[Match]\nName=outer\n[Network]\nLinkLocalAddressing=no\n"),
];

/// The beginning of an interface on the other end of the cable.
pub(crate) const ON_CABLE: &str =
    "<interface type=\"direct\"><source dev=\"outer\" mode=\"bridge\"/>";

/// Has networkd make the bridge, and a cable for devices of macvtap.
pub(crate) fn start_with_cable(host: &Host) -> Result<()> {
    start(host, CABLE, &["inner", "outer"])
}

/// The definition with another beginning of its interface.
pub(crate) fn with_interface(definition: Definition, start: &str) -> Result<Definition> {
    definition.replace(USER_NETWORK, start)
}

/// The address of a guest's interface.
pub(crate) fn address(definition: &Definition) -> Result<String> {
    let behind = definition.xml().split("<mac address=\"").nth(1);
    let address = behind.and_then(|behind| behind.split('"').next());
    Ok(address.context("the definition has no address")?.to_owned())
}

/// A drop-in for a guest's unit.
pub(crate) fn drop_in(host: &Host, name: &str, content: &str) -> Result<()> {
    let path = format!("/etc/systemd/system/qemu@{name}.service.d/test.conf");
    host.write_file(&path, content)?;
    host.reload()
}

/// What `ip` says of a network device; nothing when there is none.
pub(crate) fn link(host: &Host, name: &str) -> Result<String> {
    Ok(host.run(["ip", "-details", "-oneline", "link", "show", "dev", name])?.stdout)
}
