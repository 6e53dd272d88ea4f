//! Interfaces that cannot be.

use domain::devices::{
    BackendType, DirectMode, Interface, InterfaceSource, InterfaceType, TeamingType,
    VirtualPortType,
};
use domain::{Domain, Faults};

use super::virtio_model;

/// Refuses what an interface's type cannot have.
pub(super) fn all(domain: &Domain, faults: &Faults) {
    for interface in &domain.devices.interfaces {
        for what in host_side(interface)
            .into_iter()
            .chain(host_device(interface))
            .chain(device(interface))
            .flatten()
        {
            faults.push(interface.place.refused(what));
        }
        let limited = interface.bandwidth != domain::devices::Bandwidth::default();
        if limited && !is_tap(interface) && interface.kind() != InterfaceType::Hostdev {
            let what = "an interface of this type is not limited; use type='bridge'";
            let place = interface.place.child("bandwidth");
            faults.push(place.ignored(what));
        }
    }
}

/// Whether the host's side is a device of the host's network.
pub(super) fn is_tap(interface: &Interface) -> bool {
    use InterfaceType as T;
    match interface.kind() {
        T::Ethernet | T::Network | T::Bridge | T::Direct => true,
        T::User
        | T::VhostUser
        | T::Server
        | T::Client
        | T::Mcast
        | T::Udp
        | T::Internal
        | T::Hostdev
        | T::Vdpa
        | T::Vds
        | T::Null => false,
    }
}

fn host_side(interface: &Interface) -> [Option<String>; 11] {
    use InterfaceType as T;
    let kind = interface.kind();
    let refuse = |wrong: bool, what: &str| wrong.then(|| format!("type '{kind}': {what}"));
    let is_passt = interface.backend.kind == Some(BackendType::Passt);
    let any_tap = is_tap(interface);
    let bridged = matches!(kind, T::Network | T::Bridge);
    let without_socket = matches!(
        &interface.source,
        InterfaceSource::VhostUser { path, mode, .. } if path.is_none() || mode.is_none()
    );
    let ported = bridged || matches!(kind, T::Direct | T::Hostdev);
    let has_mtu = any_tap && kind != T::Direct || kind == T::VhostUser || is_passt;
    [
        refuse(
            is_passt && !matches!(kind, T::User | T::VhostUser),
            "passt is for type='user' or type='vhostuser'; remove <backend type='passt'>",
        ),
        refuse(
            !interface.port_forwards.is_empty() && !is_passt,
            "only passt forwards ports; add <backend type='passt'/> or remove <portForward>",
        ),
        refuse(
            without_socket && !is_passt,
            "the socket is not named; add <source type='unix' path='...' mode='client'/>",
        ),
        refuse(
            interface.backend.tap.is_some() && !(any_tap && kind != T::Direct),
            "there is no tap device; remove 'tap' from <backend>",
        ),
        refuse(
            interface.filter.is_some() && !(bridged || kind == T::Ethernet),
            "there is nothing to filter on the host; remove <filterref>",
        ),
        refuse(
            interface.virtual_port.is_some() && !ported,
            "it has no virtual port; remove <virtualport>",
        ),
        refuse(
            interface.mtu.is_some() && !has_mtu,
            "its packets' size cannot be set; remove <mtu>",
        ),
        refuse(
            interface.coalesced_frames.is_some() && !(bridged || kind == T::Vdpa),
            "its packets are not coalesced; remove <coalesce>",
        ),
        refuse(
            (interface.script.is_some() || interface.downscript.is_some()) && kind != T::Ethernet,
            "scripts are for type='ethernet'; remove them",
        ),
        refuse(
            interface.bandwidth.inbound.floor.is_some() && kind != T::Network,
            "'floor' is for type='network'; remove it",
        ),
        guest_ip(interface, is_passt),
    ]
}

/// What only some devices of the host's network have.
fn host_device(interface: &Interface) -> [Option<String>; 5] {
    use InterfaceType as T;
    let kind = interface.kind();
    let refuse = |wrong: bool, what: &str| wrong.then(|| format!("type '{kind}': {what}"));
    let is_passt = interface.backend.kind == Some(BackendType::Passt);
    let bridged = matches!(kind, T::Network | T::Bridge);
    [
        refuse(
            interface.target.managed == Some(false) && kind != T::Ethernet,
            "only a device of type='ethernet' is made by others; remove 'managed'",
        ),
        refuse(
            kind == T::Hostdev && interface.bandwidth != domain::devices::Bandwidth::default(),
            "a device of the host is not limited; remove <bandwidth>",
        ),
        refuse(
            interface.backend.log_file.is_some() && !is_passt,
            "passt writes a log; remove 'logFile'",
        ),
        refuse(
            interface.isolated == Some(true) && !(bridged && interface.virtual_port.is_none()),
            "only ports of a Linux bridge are isolated; remove <port>",
        ),
        refuse(
            interface.vlan != domain::devices::Vlan::default() && !tagged(interface),
            "its packets are not tagged; remove <vlan>",
        ),
    ]
}

/// Whether the host's side tags packets: a device of SR-IOV or Open vSwitch does, and a network may.
fn tagged(interface: &Interface) -> bool {
    let open = Some(VirtualPortType::OpenVswitch);
    match &interface.source {
        InterfaceSource::Hostdev { .. } | InterfaceSource::Network { .. } => true,
        InterfaceSource::Direct { mode, .. } => *mode == Some(DirectMode::Passthrough),
        InterfaceSource::Bridge(_) => {
            interface.virtual_port.as_ref().and_then(|port| port.kind) == open
        }
        InterfaceSource::User { .. }
        | InterfaceSource::Ethernet(_)
        | InterfaceSource::VhostUser { .. }
        | InterfaceSource::Server(_)
        | InterfaceSource::Client(_)
        | InterfaceSource::Mcast(_)
        | InterfaceSource::Udp(..)
        | InterfaceSource::Internal(_)
        | InterfaceSource::Vdpa(_)
        | InterfaceSource::Vds
        | InterfaceSource::Null => false,
    }
}

/// QEMU's translator has one network of each version; passt takes more.
fn guest_ip(interface: &Interface, is_passt: bool) -> Option<String> {
    let settings = &interface.guest_ip;
    let kind = interface.kind();
    if settings.addresses.is_empty() && settings.routes.is_empty() {
        return None;
    }
    if !matches!(kind, InterfaceType::User | InterfaceType::VhostUser) {
        return Some(format!("type '{kind}': the guest's addresses cannot be set; remove <ip>"));
    }
    let v4 = settings.addresses.iter().filter(|ip| ip.address.is_ipv4()).count();
    let v6 = settings.addresses.len() - v4;
    if !settings.routes.is_empty() || settings.addresses.iter().any(|ip| ip.peer.is_some()) {
        return Some("the guest's routes and peers cannot be set; remove them".to_owned());
    }
    if v4 > 1 || v6 > 1 {
        return Some("the guest has one address of each version; remove other <ip>".to_owned());
    }
    let wide = settings.addresses.iter().any(|ip| {
        let least = if ip.address.is_ipv4() { 4 } else { 0 };
        let most = if ip.address.is_ipv4() { 27 } else { 120 };
        !is_passt && ip.prefix.is_some_and(|prefix| prefix < least || prefix > most)
    });
    wide.then(|| {
        "QEMU's network has a prefix of 4 to 27 bits, of IPv6 up to 120; give one of these"
            .to_owned()
    })
}

fn device(interface: &Interface) -> [Option<String>; 4] {
    use InterfaceType as T;
    let kind = interface.kind();
    let refuse = |wrong: bool, what: &str| wrong.then(|| format!("type '{kind}': {what}"));
    let virtio = virtio_model(interface).is_some();
    let queued = is_tap(interface) || matches!(kind, T::VhostUser | T::Vdpa);
    let team = interface.teaming.as_ref().map(|teaming| teaming.kind);
    [
        refuse(
            matches!(kind, T::VhostUser | T::Vdpa) && !virtio,
            "the device must be one of virtio; use <model type='virtio'/>",
        ),
        refuse(
            interface.driver.options.queues.is_some() && !queued,
            "it has one pair of queues only; remove 'queues'",
        ),
        refuse(
            team == Some(TeamingType::Persistent) && !virtio,
            "the device that stays must be one of virtio; use <model type='virtio'/>",
        ),
        refuse(
            team == Some(TeamingType::Transient) && kind != T::Hostdev,
            "the device that goes must be one of the host; use type='hostdev'",
        ),
    ]
}
