//! The host's side of guests' interfaces: tap devices on a bridge, and macvtap devices.

use anyhow::{Context, Result};
use tests::{Definition, Host, Root, definition};

use crate::lan::{self, LEASE};

tests::on_root!(
    trixie,
    Trixie,
    a_guest_stands_on_a_bridge_by_a_tap_device_that_is_there,
    a_guest_has_its_tap_device_made,
    a_macvtap_device_is_made_and_removed,
);

/// What networkd is told for a tap device.
const WEB0: lan::NetworkFiles<'static> = &[
    ("web0.netdev", "[NetDev]\nName=web0\nKind=tap\n[Tap]\nVNetHeader=yes\n"),
    ("web0.network", "[Match]\nName=web0\n[Network]\nBridge=br0\n"),
];

/// The exit status of glassbox-qemu(1) for what the host does not have.
const HOST_FILE: (&str, i32) = ("exit-code", 4);

fn a_guest_stands_on_a_bridge_by_a_tap_device_that_is_there(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, WEB0, &["web0"])?;
    let bridged = "<interface type=\"bridge\"><source bridge=\"br0\"/>";
    let named = format!("{bridged}<target dev=\"web0\"/>");
    lan::with_interface(Definition::new("web")?, &named)?.install(&host)?;
    let nowhere = "<interface type=\"bridge\"><source bridge=\"nowhere\"/>";
    let new = lan::with_interface(Definition::new("new")?, nowhere)?;
    new.install(&host)?;
    host.reload()?;
    let before = lan::link(&host, "web0")?;
    let web = host.start_guest("web")?;
    host.wait_for_console("web", LEASE, 1)?;
    let (_, qemu) = web.processes()?;
    assert_eq!(host.process(qemu)?["CapEff"], "0".repeat(16));
    host.systemctl(["stop", "qemu@web"])?.success()?;
    assert_eq!(web.outcome()?, ("success".to_owned(), 0));
    let address = |link: &str| link.split("link/ether ").nth(1).map(|rest| rest[..17].to_owned());
    let after = lan::link(&host, "web0")?;
    assert_eq!(address(&after), address(&before), "the device stays as it was: {after}");
    assert!(after.contains("master br0"), "{after}");

    // Without a bridge the guest is refused, and told what is missing.
    let unit = host.unit("qemu@new.service");
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    assert_eq!(unit.outcome()?, (HOST_FILE.0.to_owned(), HOST_FILE.1));
    assert_eq!(
        unit.status_line()?,
        format!(
            "{}/new.xml:{}: /domain/devices/interface: there is no network device 'nowhere' on this host; make it, \
             or name another",
            definition::DEFINITIONS,
            new.place("<interface")?
        )
    );
    Ok(())
}

fn a_guest_has_its_tap_device_made(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, &[], &[])?;
    let bridged = "<interface type=\"bridge\"><source bridge=\"br0\"/><mtu size=\"1400\"/><driver queues=\"2\"/>";
    let web = lan::with_interface(Definition::new("web")?, bridged)?;
    web.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    host.wait_for_console("web", LEASE, 1)?;
    let made = lan::link(&host, "vnet0")?;
    let host_side = format!("link/ether fe{} ", &lan::address(&web)?[2..]);
    for part in [&*host_side, "mtu 1400", "master br0", "LOWER_UP", "multi_queue", "vnet_hdr on"] {
        assert!(made.contains(part), "{part} is not in {made}");
    }
    machined_knows(&host, &made)?;
    host.systemctl(["stop", "qemu@web"])?.success()?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    assert_eq!(lan::link(&host, "vnet0")?, "", "it is gone with the guest");
    Ok(())
}

/// The guest's device on the host, as `ip` shows it in one line, is the machine's.
fn machined_knows(host: &Host, link: &str) -> Result<()> {
    let machine = "/org/freedesktop/machine1/machine/web";
    let property = ["org.freedesktop.machine1.Machine", "NetworkInterfaces"];
    let ask = ["busctl", "get-property", "org.freedesktop.machine1", machine];
    let told = host.run(ask.into_iter().chain(property))?.success()?.stdout;
    let (index, _) = link.split_once(':').context("the link has a number")?;
    assert_eq!(told.trim(), format!("ai 1 {index}"));
    Ok(())
}

/// Device files of macvtap devices, which devtmpfs makes on a host; a container has none, and this stands in.
const DEVICE_FILES: &str = "while sleep 0.05; do
    for dev in /sys/class/net/*/tap*/dev; do
        [ -e \"$dev\" ] || continue
        node=/dev/$(basename \"$(dirname \"$dev\")\")
        [ -e \"$node\" ] || mknod \"$node\" c $(tr : ' ' <\"$dev\")
    done
done";

fn a_macvtap_device_is_made_and_removed(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start_with_cable(&host)?;
    host.run(["systemd-run", "--unit=device-files", "sh", "-c", DEVICE_FILES])?.success()?;
    let web = lan::with_interface(Definition::new("web")?, lan::ON_CABLE)?;
    web.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    host.wait_for_console("web", LEASE, 1)?;
    let mac = lan::address(&web)?;
    let name = format!("mvt{}", mac.replace(':', ""));
    let made = lan::link(&host, &name)?;
    for part in ["macvtap mode bridge", &mac] {
        assert!(made.contains(part), "{part} is not in {made}");
    }

    // A second guest with this address does not take the packets of the first.
    let twin = lan::with_interface(Definition::new("twin")?, lan::ON_CABLE)?;
    let twin = twin.clone().replace(&lan::address(&twin)?, &mac)?;
    twin.install(&host)?;
    host.reload()?;
    let second = host.unit("qemu@twin.service");
    assert_eq!(host.systemctl(["start", second.name()])?.status, 1);
    let told = second.status_line()?;
    let words = format!("'{name}' is in use by another guest; give this one another <mac address>");
    assert!(told.ends_with(&words), "{told}");
    assert_eq!(lan::link(&host, &name)?, made, "and leaves its device alone");

    // It goes with the unit, also when the shim is killed.
    let (shim, _) = unit.processes()?;
    host.run(["kill", "-KILL", &shim.to_string()])?.success()?;
    unit.wait("failed")?;
    assert_eq!(lan::link(&host, &name)?, "");
    host.start_guest("web")?;
    // Its log begins anew with each start.
    host.wait_for_console("web", LEASE, 1)?;
    host.systemctl(["stop", "qemu@web"])?.success()?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    assert_eq!(lan::link(&host, &name)?, "", "it is removed when the guest has ended");
    Ok(())
}
