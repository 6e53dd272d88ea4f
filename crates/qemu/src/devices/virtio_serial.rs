//! Ports of virtio serial controllers.

use std::collections::{BTreeMap, BTreeSet};

use domain::devices::{Address, ControllerKind, DeviceKind, DeviceRef, VirtioSerialAddress};
use domain::{Domain, Faults};

use crate::devices::controller;

/// Ports of a controller: 0 is for a console, and QEMU's limit is 31.
const PORTS: u32 = 31;

/// Gives channels without a port the lowest one that is free, and adds the controllers that they need.
///
/// Consoles take a port as well, from 0 on, but QEMU chooses it, so it is not written down.
pub(crate) fn assign_ports(domain: &mut Domain, faults: &Faults) {
    let devices = ports(domain);
    let mut taken = BTreeSet::new();
    let mut controllers: BTreeMap<u32, u32> = BTreeMap::new();
    for controller in &domain.devices.controllers {
        if matches!(controller.kind, ControllerKind::VirtioSerial(_)) {
            controllers.insert(controller.number(), controller.ports.unwrap_or(PORTS));
        }
    }
    for device in &devices {
        let address = given(domain, *device);
        controllers.entry(address.controller).or_insert(PORTS);
        taken.extend(address.port.map(|port| (address.controller, port)));
    }
    for device in devices {
        let wish = given(domain, device);
        if wish.port.is_some() {
            continue;
        }
        let console = device.kind == DeviceKind::Console;
        let place = lowest_free(&controllers, &taken, wish.controller, u32::from(!console));
        let (controller, port) = place;
        controllers.entry(controller).or_insert(PORTS);
        taken.insert(place);
        if !console {
            let address = VirtioSerialAddress { controller, bus: 0, port: Some(port) };
            domain.devices.info_mut(device).address = Some(Address::VirtioSerial(address));
        }
    }
    for number in controllers.into_keys() {
        controller::add(domain, ControllerKind::VirtioSerial(None), number);
    }
    controller::sort(domain);
    check(domain, faults);
}

/// The address that the user gave; controller 0 and no port when there is none.
fn given(domain: &Domain, device: DeviceRef) -> VirtioSerialAddress {
    match &domain.devices.info(device).address {
        Some(Address::VirtioSerial(address)) => *address,
        Some(_) | None => VirtioSerialAddress::default(),
    }
}

fn check(domain: &Domain, faults: &Faults) {
    let mut taken = BTreeSet::new();
    for device in ports(domain) {
        let address = given(domain, device);
        let port = address.port.map(|port| (address.controller, port));
        if port.is_some_and(|port| !taken.insert(port)) {
            let what = "another device has this virtio serial port; give another or none";
            faults.push(domain.devices.place(device).refused(what));
        }
    }
}

/// The devices that stand on virtio serial controllers: consoles first, as they take ports first.
fn ports(domain: &Domain) -> Vec<DeviceRef> {
    let devices = &domain.devices;
    let consoles = devices
        .all(DeviceKind::Console)
        .filter(|console| !devices.consoles[console.index].is_serial());
    let channels = devices
        .all(DeviceKind::Channel)
        .filter(|channel| devices.channels[channel.index].is_virtio());
    consoles.chain(channels).collect()
}

/// The lowest free port of the controllers from the wished one on, else the first of a new controller.
fn lowest_free(
    controllers: &BTreeMap<u32, u32>,
    taken: &BTreeSet<(u32, u32)>,
    from: u32,
    lowest: u32,
) -> (u32, u32) {
    for (controller, ports) in controllers.range(from..) {
        for port in lowest..*ports {
            if !taken.contains(&(*controller, port)) {
                return (*controller, port);
            }
        }
    }
    let next = (0..).find(|number| !controllers.contains_key(number)).unwrap_or_default();
    (next, lowest)
}
