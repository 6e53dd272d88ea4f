//! Controllers that nobody wrote: the machine's own, and those that devices need.

use std::collections::BTreeSet;

use domain::Domain;
use domain::devices::{
    Address, Controller, ControllerKind, ControllerType, Disk, DiskBus, PciModel, ScsiModel,
    UsbModel,
};

use super::usb;
use crate::board::Board;

/// Gives controllers without a number the lowest free one of their type; parts of an ICH9 USB controller
/// join the part before them.
pub(crate) fn number(domain: &mut Domain) {
    let controllers = &mut domain.devices.controllers;
    let mut taken: BTreeSet<(ControllerType, u32)> =
        controllers.iter().filter_map(|c| Some((c.controller_type(), c.index?))).collect();
    // The last ICH9 controller that was begun: its number and its parts so far.
    let mut open: Option<(u32, Vec<UsbModel>)> = None;
    for controller in controllers.iter_mut() {
        let part = controller.usb_model().filter(|model| usb::ich9_function(*model).is_some());
        controller.info.master_start_port =
            controller.info.master_start_port.or(part.and_then(usb::first_port));
        if controller.index.is_some() {
            continue;
        }
        let joined = open.as_mut().filter(|(_, parts)| part.is_some_and(|p| !parts.contains(&p)));
        if let Some((number, parts)) = joined {
            parts.extend(part);
            controller.index = Some(*number);
            continue;
        }
        let kind = controller.controller_type();
        // Number 0 is the root, whether it is written or not.
        let root = matches!(controller.pci_model(), Some(PciModel::PciRoot | PciModel::PcieRoot));
        let lowest = u32::from(kind == ControllerType::Pci && !root);
        let free = (lowest..).find(|number| !taken.contains(&(kind, *number))).unwrap_or_default();
        taken.insert((kind, free));
        controller.index = Some(free);
        if let Some(part) = part {
            open = Some((free, vec![part]));
        }
    }
}

/// Adds what the machine brings: USB, SATA, the root of PCI.
pub(crate) fn add_implicit(domain: &mut Domain) {
    let board = Board::of_domain(domain);
    if let Some(usb) = board.implicit_usb() {
        add(domain, ControllerKind::Usb(Some(usb)), 0);
    }
    if board.own_disks() == Some(ControllerType::Sata) {
        add(domain, ControllerKind::Sata, 0);
    }
    if let Some(root) = board.pci_root() {
        add(domain, ControllerKind::Pci(Some(root)), 0);
    }
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
