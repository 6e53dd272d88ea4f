//! The host's side of an interface: `-netdev`.

use domain::devices::{
    BackendType, Interface, InterfaceSource, NetDriver, Reconnect, SocketAddress, VhostUserMode,
};

use super::{check, passt};
use crate::argv::Options;
use crate::command::Command;
use crate::devices::chardev::reconnects;
use crate::facts::HostFacts;
use crate::inherited::Opened;
use crate::json::Object;
use crate::plan::{Access, FdKind};
use crate::probe::NetdevReconnect;

/// Seconds after which QEMU looks for passt again.
const PASST_RECONNECT: u32 = 5;

/// The id of an interface's host side.
pub(super) fn id(interface: &Interface) -> String {
    format!("host{}", interface.info.alias())
}

/// Adds the host's side; false when the interface is refused.
pub(super) fn arguments(command: &mut Command<'_>, interface: &Interface) -> bool {
    let inherited = inherited(command, interface);
    let Some(netdev) = inherited.or_else(|| of_source(command, interface)) else { return false };
    command.argv.json("-netdev", &netdev.set("id", id(interface)));
    true
}

/// A tap device that the caller opened, whatever the interface is connected to: that is the caller's to see to.
fn inherited(command: &mut Command<'_>, interface: &Interface) -> Option<Object> {
    if !check::is_tap(interface) {
        return None;
    }
    let name = interface.info.alias();
    let count = interface.queues();
    let taps = command.inherits_queues(name, &Opened::Tap, count, &interface.place)?;
    Some(tap_queues(command, interface, &taps))
}

/// What the document says of the host's side; nothing when the interface is refused.
fn of_source(command: &mut Command<'_>, interface: &Interface) -> Option<Object> {
    let is_passt = interface.backend.kind == Some(BackendType::Passt);
    Some(match &interface.source {
        InterfaceSource::User { .. } if is_passt => passt_stream(command, interface),
        InterfaceSource::User { .. } => user(interface),
        InterfaceSource::VhostUser { .. } if is_passt => {
            let socket = passt::start(command, interface, true);
            let chardev = chardev(interface).set("path", socket);
            let chardev = reconnects(command.facts, chardev, PASST_RECONNECT);
            vhost_user(command, interface, chardev)
        }
        InterfaceSource::VhostUser { path, mode, reconnect, .. } => {
            let chardev = chardev(interface).some("path", path.as_ref());
            let chardev = connected(command.facts, chardev, *mode, reconnect);
            vhost_user(command, interface, chardev)
        }
        InterfaceSource::Ethernet(_) => tap(command, interface, None),
        InterfaceSource::Bridge(bridge) => tap(command, interface, Some(bridge)),
        InterfaceSource::Network { network, .. } => {
            let bridge = bridge_of(command, interface, network)?;
            tap(command, interface, Some(&bridge))
        }
        InterfaceSource::Direct { .. } => direct(command, interface),
        InterfaceSource::Server(socket) => self::socket("listen", socket),
        InterfaceSource::Client(socket) => self::socket("connect", socket),
        InterfaceSource::Mcast(socket) => self::socket("mcast", socket),
        InterfaceSource::Udp(remote, local) => {
            self::socket("udp", remote).set("localaddr", local.endpoint())
        }
        InterfaceSource::Vdpa(path) => vdpa(command, interface, path),
        InterfaceSource::Hostdev { .. }
        | InterfaceSource::Internal(_)
        | InterfaceSource::Vds
        | InterfaceSource::Null => {
            command.refuse(&interface.place, "QEMU has no interface of this type; use type='user'");
            return None;
        }
    })
}

/// The bridge of a network of the host; nothing when it is refused.
fn bridge_of(command: &mut Command<'_>, interface: &Interface, name: &str) -> Option<String> {
    let what = match command.facts.network.networks.get(name) {
        Some(Ok(network)) => return Some(network.bridge.clone()),
        Some(Err(why)) => format!("the network '{name}' cannot be used: {why}"),
        None => format!(
            "there is no network '{name}' on this host; put its XML into /etc/glassbox/networks, or use type='bridge' \
             with a bridge"
        ),
    };
    command.refuse(&interface.place, what);
    None
}

/// QEMU's own translator, with the networks that the guest sees.
fn user(interface: &Interface) -> Object {
    let mut netdev = Object::new("type", "user");
    for ip in &interface.guest_ip.addresses {
        if ip.address.is_ipv4() {
            let prefix = ip.prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
            netdev = netdev.set("net", format!("{}{prefix}", ip.address));
        } else {
            netdev = netdev.set("ipv6-prefix", ip.address.to_string());
            netdev = netdev.some("ipv6-prefixlen", ip.prefix);
        }
    }
    netdev
}

fn passt_stream(command: &mut Command<'_>, interface: &Interface) -> Object {
    let socket = passt::start(command, interface, false);
    let address = Object::new("type", "unix").set("path", socket);
    let stream = Object::new("type", "stream").set("addr", address).set("server", false);
    match command.facts.abilities.netdev_reconnect {
        NetdevReconnect::Milliseconds => {
            stream.set("reconnect-ms", u64::from(PASST_RECONNECT) * 1000)
        }
        NetdevReconnect::Seconds => stream.set("reconnect", PASST_RECONNECT),
        NetdevReconnect::No => stream,
    }
}

fn chardev(interface: &Interface) -> Options {
    Options::new("socket").set("id", format!("char{}", interface.info.alias()))
}

fn connected(
    facts: &HostFacts,
    chardev: Options,
    mode: Option<VhostUserMode>,
    reconnect: &Reconnect,
) -> Options {
    if mode == Some(VhostUserMode::Server) {
        return chardev.on_off("server", true);
    }
    match reconnect.enabled {
        Some(true) => reconnects(facts, chardev, reconnect.timeout.unwrap_or_default()),
        Some(false) => reconnects(facts, chardev, 0),
        None => chardev,
    }
}

fn vhost_user(command: &mut Command<'_>, interface: &Interface, chardev: Options) -> Object {
    command.argv.options("-chardev", chardev);
    Object::new("type", "vhost-user")
        .set("chardev", format!("char{}", interface.info.alias()))
        .some("queues", interface.driver.options.queues)
}

/// A tap device, a descriptor for each pair of queues.
fn tap(command: &mut Command<'_>, interface: &Interface, bridge: Option<&str>) -> Object {
    let tap = |queue| FdKind::Tap {
        interface: Box::new(interface.clone()),
        bridge: bridge.map(str::to_owned),
        queue,
    };
    queues(command, interface, tap)
}

fn direct(command: &mut Command<'_>, interface: &Interface) -> Object {
    queues(command, interface, |queue| FdKind::MacVtap {
        interface: Box::new(interface.clone()),
        queue,
    })
}

fn queues(command: &mut Command<'_>, interface: &Interface, tap: impl Fn(u16) -> FdKind) -> Object {
    let taps: Vec<i32> = (0..interface.queues()).map(|queue| command.pass_fd(tap(queue))).collect();
    tap_queues(command, interface, &taps)
}

/// A netdev of tap descriptors, and the kernel's help if the device is one of virtio.
fn tap_queues(command: &mut Command<'_>, interface: &Interface, taps: &[i32]) -> Object {
    let netdev = descriptors(command, Object::new("type", "tap"), ("fd", "fds"), taps);
    let netdev = match vhost(command, interface) {
        Some(fds) => {
            let netdev = netdev.set("vhost", true);
            descriptors(command, netdev, ("vhostfd", "vhostfds"), &fds)
        }
        None => netdev,
    };
    netdev.some("sndbuf", interface.send_buffer)
}

/// What the kernel moves the packets by, unless QEMU does.
fn vhost(command: &mut Command<'_>, interface: &Interface) -> Option<Vec<i32>> {
    let driver = interface.driver.options.name;
    if !interface.is_virtio() || driver == Some(NetDriver::Qemu) {
        return None;
    }
    let name = format!("{}-vhost", interface.info.alias());
    let (count, place) = (interface.queues(), &interface.place);
    if let Some(fds) = command.inherits_queues(&name, &Opened::VhostNet, count, place) {
        return Some(fds);
    }
    if driver.is_none() && !command.facts.network.vhost_net {
        return None;
    }
    let path = interface.backend.vhost.as_deref().unwrap_or("/dev/vhost-net");
    command.needs_file(path, Access::ReadWrite, place);
    Some((0..count).map(|_| command.pass_fd(FdKind::device(path))).collect())
}

/// One descriptor, or several with colons between.
fn descriptors(
    command: &Command<'_>,
    netdev: Object,
    keys: (&'static str, &'static str),
    fds: &[i32],
) -> Object {
    let text: Vec<String> = fds.iter().map(|fd| command.fd_word(*fd)).collect();
    netdev.set(if fds.len() == 1 { keys.0 } else { keys.1 }, text.join(":"))
}

fn socket(key: &'static str, socket: &SocketAddress) -> Object {
    Object::new("type", "socket").set(key, socket.endpoint())
}

fn vdpa(command: &mut Command<'_>, interface: &Interface, path: &str) -> Object {
    command.needs_file(path, Access::ReadWrite, &interface.place.child("source"));
    let device = FdKind::device(path);
    let set = command.pass_fd_set(device, &format!("{}-vdpa", interface.info.alias()));
    Object::new("type", "vhost-vdpa")
        .set("vhostdev", set)
        .some("queues", interface.driver.options.queues)
}
