//! Ports of virtio serial controllers.

use std::collections::BTreeSet;

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
    if devices.is_empty() {
        return;
    }
    let mut taken = BTreeSet::new();
    let mut highest = 0;
    for device in &devices {
        if let Some(Address::VirtioSerial(address)) = &domain.devices.info(*device).address {
            highest = highest.max(address.controller);
            taken.extend(address.port.map(|port| (address.controller, port)));
        }
    }
    for device in devices {
        let wish = match &domain.devices.info(device).address {
            Some(Address::VirtioSerial(VirtioSerialAddress { port: Some(_), .. })) => continue,
            Some(Address::VirtioSerial(address)) => address.controller,
            Some(_) | None => 0,
        };
        let console = device.kind == DeviceKind::Console;
        let (controller, port) = lowest_free(&taken, wish, u32::from(!console));
        highest = highest.max(controller);
        taken.insert((controller, port));
        if !console {
            let address = VirtioSerialAddress { controller, bus: 0, port: Some(port) };
            domain.devices.info_mut(device).address = Some(Address::VirtioSerial(address));
        }
    }
    if highest > 255 {
        let what = format!("virtio serial controller {highest} is out of range; use 0 to 255");
        faults.push(domain.place.refused(what));
        return;
    }
    for number in 0..=highest {
        controller::add(domain, ControllerKind::VirtioSerial(None), number);
    }
    controller::sort(domain);
}

/// The devices that stand on virtio serial controllers: consoles first, as they take ports first.
fn ports(domain: &Domain) -> Vec<DeviceRef> {
    let devices = &domain.devices;
    let consoles = devices
        .all(DeviceKind::Console)
        .filter(|console| !devices.consoles[console.index].is_serial());
    consoles.chain(devices.all(DeviceKind::Channel)).collect()
}

fn lowest_free(taken: &BTreeSet<(u32, u32)>, from: u32, lowest: u32) -> (u32, u32) {
    let places =
        (from..).flat_map(|controller| (lowest..PORTS).map(move |port| (controller, port)));
    places.into_iter().find(|place| !taken.contains(place)).unwrap_or((from, lowest))
}
