//! Devices by which a guest tells that it crashed, `<panic>`.

use domain::devices::{Address, Panic, PanicModel};
use domain::{Domain, Faults};

use crate::board::Board;
use crate::command::Command;
use crate::devices::addressed;
use crate::json::Object;

/// Fills in models.
pub(crate) fn complete(domain: &mut Domain) {
    let usual = Board::of_domain(domain).default_panic();
    for panic in &mut domain.devices.panics {
        panic.model = panic.model.or(usual);
    }
}

/// Refuses two devices of one model.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let panics = &domain.devices.panics;
    for panic in panics.iter().filter(|panic| panic.model.is_none()) {
        faults.push(panic.place.refused("the machine has no usual one; add model='pvpanic'"));
    }
    for (index, panic) in panics.iter().enumerate() {
        if panics.iter().take(index).any(|other| other.model == panic.model) {
            faults.push(panic.place.refused("a panic device of this model is there; remove one"));
        }
    }
}

/// Whether the guest has Hyper-V's crash registers, which are a feature of the CPU.
pub(crate) fn has_hyperv(domain: &Domain) -> bool {
    domain.devices.panics.iter().any(|panic| panic.model == Some(PanicModel::Hyperv))
}

/// Adds a device.
pub(crate) fn arguments(command: &mut Command<'_>, panic: &Panic) {
    match panic.model.unwrap_or(PanicModel::Isa) {
        PanicModel::Isa => {
            let port =
                if let Some(Address::Isa(isa)) = &panic.info.address { isa.iobase } else { None };
            command.device(&Object::new("driver", "pvpanic").some("ioport", port));
        }
        PanicModel::Pvpanic => {
            let device = Object::new("driver", "pvpanic-pci");
            command.device(&addressed(command, &panic.info, device));
        }
        // One is no device, the crate `domain` refuses the others.
        PanicModel::Hyperv | PanicModel::Default | PanicModel::Pseries | PanicModel::S390 => {}
    }
}
