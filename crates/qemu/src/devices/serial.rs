//! Serial ports.

use domain::devices::{Address, AddressType, Serial, SerialModel, SerialTarget};
use domain::{Domain, Faults};

use crate::board::Board;
use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, placed};
use crate::json::Object;
use crate::rules::refuse_broken;

/// Fills in bus, device and number.
pub(crate) fn complete(domain: &mut Domain) {
    let mut ports = FreePorts::after(domain.devices.serials.iter().filter_map(|s| s.port));
    let (usual, uart) = Board::of_domain(domain).uart();
    for serial in &mut domain.devices.serials {
        let target = serial.target.get_or_insert(match serial.info.address {
            Some(Address::Pci(_)) => SerialTarget::Pci,
            Some(Address::Usb(_)) => SerialTarget::Usb,
            _ => usual,
        });
        // Definitions say ISA from a time when they had no word for the machine's own port.
        if *target == SerialTarget::Isa && usual != SerialTarget::Isa {
            *target = usual;
            serial.model = None;
        }
        serial.model.get_or_insert(match *target {
            SerialTarget::Isa => SerialModel::Isa,
            SerialTarget::System => uart,
            SerialTarget::Usb => SerialModel::Usb,
            SerialTarget::Pci => SerialModel::Pci,
            SerialTarget::IsaDebug => SerialModel::IsaDebugcon,
        });
        serial.port.get_or_insert_with(|| ports.next());
    }
}

/// Refuses ports whose bus, device and address do not fit together.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    for serial in &domain.devices.serials {
        let (Some(target), Some(model)) = (serial.target, serial.model) else { continue };
        let (device, bus) = match target {
            SerialTarget::Isa => (SerialModel::Isa, AddressType::Isa),
            SerialTarget::Usb => (SerialModel::Usb, AddressType::Usb),
            SerialTarget::Pci => (SerialModel::Pci, AddressType::Pci),
            SerialTarget::IsaDebug => (SerialModel::IsaDebugcon, AddressType::Isa),
            SerialTarget::System => continue, // The board knows its own.
        };
        let elsewhere = serial.info.address.as_ref().is_some_and(|it| it.kind() != bus);
        let rules = [
            (model != device, "the device is of another bus; correct <target> or its <model>"),
            (elsewhere, "the port has an address of another bus; correct <address> or <target>"),
        ];
        refuse_broken(faults, &serial.place, rules);
    }
}

/// Numbers for ports that have none: those above all that are given, ascending.
pub(crate) struct FreePorts(u32);

impl FreePorts {
    /// The numbers above these.
    pub(crate) fn after(given: impl Iterator<Item = u32>) -> Self {
        Self(given.max().map_or(0, |highest| highest.saturating_add(1)))
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u32 {
        let port = self.0;
        self.0 = self.0.saturating_add(1);
        port
    }
}

/// Adds the host's side and the port.
pub(crate) fn arguments(command: &mut Command<'_>, serial: &Serial) {
    let backend = chardev::arguments(command, &serial.chardev, serial.info.alias(), Purpose::Port);
    if serial.target == Some(SerialTarget::System) {
        // The board has the port already.
        command.argv.plain("-serial", format!("chardev:{backend}"));
        return;
    }
    let model = serial.model.unwrap_or(SerialModel::Isa);
    let device = Object::new("driver", model.as_str()).set("chardev", backend);
    let index = serial.port.filter(|_| model == SerialModel::Isa);
    let device = placed(command, &serial.info, device.some("index", index));
    command.device(&device);
}
