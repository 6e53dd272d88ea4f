//! Controllers that nobody wrote: the machine's own, and those that devices need.

use std::collections::BTreeSet;

use domain::Domain;
use domain::devices::{
    Address, Controller, ControllerKind, ControllerType, Disk, DiskBus, PciModel, ScsiModel,
    UsbModel,
};

use crate::machine::Board;

/// Gives controllers without a number the lowest free one of their type.
pub(crate) fn number(domain: &mut Domain) {
    let controllers = &mut domain.devices.controllers;
    let mut taken: BTreeSet<(ControllerType, u32)> =
        controllers.iter().filter_map(|c| Some((c.controller_type(), c.index?))).collect();
    for controller in controllers.iter_mut().filter(|controller| controller.index.is_none()) {
        let kind = controller.controller_type();
        let free = (0..).find(|number| !taken.contains(&(kind, *number))).unwrap_or_default();
        taken.insert((kind, free));
        controller.index = Some(free);
    }
}

/// Adds what the machine brings: USB, SATA, the root of PCI.
pub(crate) fn add_implicit(domain: &mut Domain) {
    let board = Board::of_domain(domain);
    let (usb, root) = match board {
        Board::Q35 => (UsbModel::QemuXhci, PciModel::PcieRoot),
        Board::I440fx => (UsbModel::Piix3Uhci, PciModel::PciRoot),
        Board::Isa | Board::Microvm => return,
    };
    add(domain, ControllerKind::Usb(Some(usb)), 0);
    if board == Board::Q35 {
        add(domain, ControllerKind::Sata, 0);
    }
    add(domain, ControllerKind::Pci(Some(root)), 0);
}

/// Adds the controllers that disks stand on, up to the highest that is used.
pub(crate) fn add_for_addresses(domain: &mut Domain) {
    for (bus, kind) in [
        (DiskBus::Scsi, ControllerKind::Scsi(Some(ScsiModel::Lsilogic))),
        (DiskBus::Fdc, ControllerKind::Fdc),
        (DiskBus::Ide, ControllerKind::Ide(None)),
        (DiskBus::Sata, ControllerKind::Sata),
    ] {
        let disks = domain.devices.disks.iter().filter(|disk| disk.bus() == bus);
        if let Some(highest) = disks.filter_map(drive_controller).max() {
            // The number comes from the document; nobody has that many disks.
            (0..=highest.min(255)).for_each(|number| add(domain, kind, number));
        }
    }
    for controller in &mut domain.devices.controllers {
        if let ControllerKind::Scsi(model @ (None | Some(ScsiModel::Auto))) = &mut controller.kind {
            *model = Some(ScsiModel::Lsilogic);
        }
    }
    super::sort(domain);
}

/// Adds a controller unless there is one of its type and number.
pub(crate) fn add(domain: &mut Domain, kind: ControllerKind, number: u32) {
    let controllers = &mut domain.devices.controllers;
    let same =
        |c: &Controller| c.controller_type() == kind.controller_type() && c.index == Some(number);
    if !controllers.iter().any(same) {
        controllers.push(Controller::new(kind, number));
    }
}

fn drive_controller(disk: &Disk) -> Option<u32> {
    if let Some(Address::Drive(drive)) = &disk.info.address {
        return Some(drive.controller);
    }
    None
}
