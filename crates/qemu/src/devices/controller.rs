//! Controllers: those that the machine brings, those that devices need, and their arguments.

use domain::devices::{Controller, ControllerKind, ControllerType};
use domain::{Domain, Faults};

use crate::board::Board;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;

mod implicit;
mod pci;
mod scsi;
mod usb;
mod virtio_serial;

pub(crate) use implicit::{add, add_for_addresses, add_implicit, number};
pub(crate) use pci::model_name;
pub(crate) use usb::ich9_function;

/// Fills in models, and puts controllers in order: types in the order in which they first appear, those of a
/// type by number.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let usb = Board::of_domain(domain).default_usb();
    for controller in &mut domain.devices.controllers {
        if let ControllerKind::Usb(model @ None) = &mut controller.kind {
            *model = usb;
        }
    }
    sort(domain);
    usb::check(domain, faults);
    scsi::check(domain, faults);
    for pair in domain.devices.controllers.windows(2) {
        let same = pair[0].controller_type() == pair[1].controller_type()
            && pair[0].number() == pair[1].number();
        if same && pair[1].info.master_start_port.is_none() {
            let what = "another controller of the type has this index; give another or none";
            faults.push(pair[1].place.refused(what));
        }
    }
}

pub(crate) fn sort(domain: &mut Domain) {
    let mut types: Vec<ControllerType> = Vec::new();
    for controller in &domain.devices.controllers {
        if !types.contains(&controller.controller_type()) {
            types.push(controller.controller_type());
        }
    }
    domain.devices.controllers.sort_by_key(|controller| {
        let group = types.iter().position(|kind| *kind == controller.controller_type());
        (group, controller.number(), controller.info.master_start_port.is_some())
    });
}

/// Adds all controllers but readers of smart cards, type by type.
pub(crate) fn all_arguments(command: &mut Command<'_>) {
    let order = [
        ControllerType::Pci,
        ControllerType::Usb,
        ControllerType::Scsi,
        ControllerType::Ide,
        ControllerType::Sata,
        ControllerType::VirtioSerial,
    ];
    for kind in order {
        let controllers = command.domain.devices.controllers.iter();
        for controller in controllers.filter(|controller| controller.controller_type() == kind) {
            arguments(command, controller);
        }
    }
}

/// Adds the readers of smart cards, which stand on USB hubs perhaps.
pub(crate) fn ccid_arguments(command: &mut Command<'_>) {
    let controllers = command.domain.devices.controllers.iter();
    for reader in controllers.filter(|c| c.controller_type() == ControllerType::Ccid) {
        let device = Object::new("driver", "usb-ccid");
        command.device(&placed(command, &reader.info, device));
    }
}

/// Adds a controller, if it is a device.
pub(crate) fn arguments(command: &mut Command<'_>, controller: &Controller) {
    let kind = controller.controller_type();
    let on_board = Board::of_domain(command.domain).own_disks() == Some(kind);
    match controller.kind {
        ControllerKind::Pci(model) => pci::arguments(command, controller, model),
        ControllerKind::Usb(model) => usb::arguments(command, controller, model),
        ControllerKind::Scsi(model) => scsi::arguments(command, controller, model),
        ControllerKind::VirtioSerial(model) => {
            virtio_serial::arguments(command, controller, model);
        }
        ControllerKind::Ide(_) | ControllerKind::Sata if on_board && controller.number() == 0 => {}
        ControllerKind::Sata => {
            let device = Object::new("driver", "ahci");
            command.device(&placed(command, &controller.info, device));
        }
        ControllerKind::Ide(_) => {
            let what = "the machine has no such IDE controller; use bus='sata' or bus='virtio'";
            command.refuse(&controller.place, what);
        }
        ControllerKind::Fdc | ControllerKind::Ccid => {}
    }
}
