//! Network interfaces: `-netdev` and the device.

use domain::devices::{
    Interface, InterfaceSource, InterfaceType, TeamingType, TxMode, VirtioModel,
};
use domain::{Domain, Faults, MacAddress};

use crate::board::Board;
use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::facts::NetworkFacts;
use crate::json::Object;

mod check;
mod netdev;
mod passt;

/// Fills in models and addresses, and refuses what cannot be.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let usual = Board::of_domain(domain).default_nic();
    for (place, interface) in domain.devices.interfaces.iter_mut().enumerate() {
        match interface.kind() {
            // The device is the host's, so its model says nothing.
            InterfaceType::Hostdev => {}
            InterfaceType::Vdpa | InterfaceType::VhostUser => {
                interface.model.get_or_insert_with(|| "virtio".to_owned());
            }
            InterfaceType::User
            | InterfaceType::Ethernet
            | InterfaceType::Server
            | InterfaceType::Client
            | InterfaceType::Mcast
            | InterfaceType::Udp
            | InterfaceType::Network
            | InterfaceType::Bridge
            | InterfaceType::Internal
            | InterfaceType::Direct
            | InterfaceType::Vds
            | InterfaceType::Null => {
                interface.model.get_or_insert_with(|| usual.to_owned());
            }
        }
        if let InterfaceSource::Direct { mode, .. } = &mut interface.source {
            mode.get_or_insert(domain::devices::DirectMode::Vepa);
        }
        if let Some(uuid) = &domain.uuid {
            interface.mac.address.get_or_insert_with(|| MacAddress::derived(uuid, place));
        }
    }
    check::all(domain, faults);
}

/// The interface's virtio interface, if its model is a virtio one.
pub(crate) fn virtio_model(interface: &Interface) -> Option<VirtioModel> {
    match interface.model.as_deref()? {
        "virtio" => Some(VirtioModel::Virtio),
        "virtio-transitional" => Some(VirtioModel::Transitional),
        "virtio-non-transitional" => Some(VirtioModel::NonTransitional),
        _ => None,
    }
}

/// Adds the host's side and the device. A device of the host is among those, see [`super::hostdev`].
pub(crate) fn arguments(command: &mut Command<'_>, interface: &Interface) {
    if interface.kind() == InterfaceType::Hostdev || !netdev::arguments(command, interface) {
        return;
    }
    if interface.link_up == Some(false) {
        command.unplugs(interface.info.alias(), &interface.place);
    }
    let device = match virtio_model(interface) {
        Some(model) => virtio_device(interface, model, mtu(&command.facts.network, interface)),
        None => Object::new("driver", interface.model.as_deref().unwrap_or_default()),
    };
    let mac = interface.mac.address.map(|mac| mac.to_string());
    let device = device.set("netdev", netdev::id(interface)).some("mac", mac);
    command.device(&placed(command, &interface.info, device));
}

/// The largest packet: the interface's own, else that of its network.
fn mtu(host: &NetworkFacts, interface: &Interface) -> Option<u32> {
    let inherited = || {
        let InterfaceSource::Network { network, .. } = &interface.source else { return None };
        host.networks.get(network)?.as_ref().ok()?.mtu
    };
    interface.mtu.or_else(inherited)
}

/// A device of virtio with all that only such a one has.
fn virtio_device(interface: &Interface, model: VirtioModel, mtu: Option<u32>) -> Object {
    let driver = &interface.driver;
    let options = &driver.options;
    let tx = options.tx_mode.map(|mode| match mode {
        TxMode::Iothread => "bh",
        TxMode::Timer => "timer",
    });
    let device = virtio(&driver.virtio, Object::new("driver", virtio_driver("virtio-net", model)))
        .some("tx", tx)
        .some("ioeventfd", options.ioeventfd)
        .some("event_idx", options.event_idx);
    // Each pair of queues takes two interrupts; one is for the control queue, one for changed settings.
    let vectors = options.queues.map(|queues| 2 * u32::from(queues) + 2);
    let teaming = interface.teaming.as_ref();
    let failover = teaming.and_then(|t| (t.kind == TeamingType::Persistent).then_some(true));
    offloads(interface, device)
        .some("mq", vectors.map(|_| true))
        .some("vectors", vectors)
        .some("rx_queue_size", options.rx_queue_size)
        .some("tx_queue_size", options.tx_queue_size)
        .some("rss", options.rss)
        .some("hash", options.rss_hash_report)
        .some("host_mtu", mtu)
        .some("failover", failover)
}

/// Work that guest and host offer to each other.
fn offloads(interface: &Interface, device: Object) -> Object {
    let (host, guest) = (&interface.driver.host, &interface.driver.guest);
    device
        .some("csum", host.csum)
        .some("gso", host.gso)
        .some("host_tso4", host.tso4)
        .some("host_tso6", host.tso6)
        .some("host_ecn", host.ecn)
        .some("host_ufo", host.ufo)
        .some("mrg_rxbuf", host.mrg_rxbuf)
        .some("guest_csum", guest.csum)
        .some("guest_tso4", guest.tso4)
        .some("guest_tso6", guest.tso6)
        .some("guest_ecn", guest.ecn)
        .some("guest_ufo", guest.ufo)
}
