//! Controllers: those that the machine brings, those that devices need, and their arguments.

use domain::devices::{Controller, ControllerKind, ControllerType, UsbModel};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::machine::Board;

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
    let isa = Board::of_domain(domain) == Board::Isa;
    for controller in &mut domain.devices.controllers {
        if let ControllerKind::Usb(model @ None) = &mut controller.kind {
            *model = (!isa).then_some(UsbModel::Piix3Uhci);
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
        let device = crate::json::Object::new("driver", "usb-ccid");
        let device = crate::devices::placed(command, &reader.info, device);
        command.device(&device);
    }
}

fn arguments(command: &mut Command<'_>, controller: &Controller) {
    let board = Board::of_domain(command.domain);
    let first = controller.number() == 0;
    match controller.kind {
        ControllerKind::Pci(model) => pci::arguments(command, controller, model),
        ControllerKind::Usb(model) => usb::arguments(command, controller, model),
        ControllerKind::Scsi(model) => scsi::arguments(command, controller, model),
        ControllerKind::VirtioSerial(model) => {
            virtio_serial::arguments(command, controller, model);
        }
        // The board brings the first one.
        ControllerKind::Ide(_) if first && board != Board::Q35 => {}
        ControllerKind::Sata if first && board == Board::Q35 => {}
        ControllerKind::Sata => {
            let device = crate::json::Object::new("driver", "ahci");
            let device = crate::devices::placed(command, &controller.info, device);
            command.device(&device);
        }
        ControllerKind::Ide(_) => {
            let what = "the machine has no such IDE controller; use bus='sata' or bus='virtio'";
            command.refuse(&controller.place, what);
        }
        ControllerKind::Fdc | ControllerKind::Ccid => {}
    }
}
