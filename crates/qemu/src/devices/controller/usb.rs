//! USB controllers.

use domain::devices::{Controller, UsbModel};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::devices::{addressed, placed, usb_bus};
use crate::json::Object;

/// Ports of an xHCI controller, by QEMU's limit.
const MOST_PORTS: u32 = 15;

/// Adds a USB controller; companions are ports of the controller with the same number.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    controller: &Controller,
    model: Option<UsbModel>,
) {
    let Some(name) = model.and_then(device_name) else {
        if let Some(UsbModel::Qusb1 | UsbModel::Qusb2) = model {
            command.refuse(&controller.place, "no QEMU guest has Xen's USB; use model='qemu-xhci'");
        }
        return;
    };
    if command.facts.lacks(name) {
        let place = &controller.place;
        let place = if place.path.is_empty() { &command.domain.place } else { place };
        let what = format!("this QEMU has no USB controller '{name}'; give another model");
        command.refuse(place, what);
        return;
    }
    let device =
        Object::new("driver", name).some("p2", controller.ports).some("p3", controller.ports);
    let device = match controller.info.master_start_port {
        Some(port) => {
            let bus = format!("{}.0", usb_bus(command, controller.number()));
            addressed(
                command,
                &controller.info,
                device.set("masterbus", bus).set("firstport", port),
            )
        }
        None => placed(command, &controller.info, device),
    };
    command.device(&device);
}

/// The function of its slot that a part of an ICH9 controller has; none for other controllers.
pub(crate) fn ich9_function(model: UsbModel) -> Option<u8> {
    match model {
        UsbModel::Ich9Uhci1 => Some(0),
        UsbModel::Ich9Uhci2 => Some(1),
        UsbModel::Ich9Uhci3 => Some(2),
        UsbModel::Ich9Ehci1 => Some(7),
        UsbModel::Piix3Uhci
        | UsbModel::Piix4Uhci
        | UsbModel::Ehci
        | UsbModel::Vt82c686bUhci
        | UsbModel::PciOhci
        | UsbModel::NecXhci
        | UsbModel::Qusb1
        | UsbModel::Qusb2
        | UsbModel::QemuXhci
        | UsbModel::None => None,
    }
}

/// The first port that a companion serves of the two that each has.
pub(crate) fn first_port(model: UsbModel) -> Option<u32> {
    ich9_function(model).filter(|_| model != UsbModel::Ich9Ehci1).map(|part| 2 * u32::from(part))
}

/// Refuses controllers that cannot be: too many ports, companions without their master, a second controller
/// beside none.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let controllers = &domain.devices.controllers;
    let usb = || controllers.iter().filter_map(|c| Some((c, c.usb_model()?)));
    for (controller, model) in usb() {
        let refuse = |what: String| faults.push(controller.place.refused(what));
        let xhci = matches!(model, UsbModel::QemuXhci | UsbModel::NecXhci);
        if let Some(ports) = controller.ports.filter(|ports| xhci && *ports > MOST_PORTS) {
            refuse(format!("{ports} ports are too many; give at most {MOST_PORTS}"));
        }
        let is_master = |(other, model): (&Controller, UsbModel)| {
            other.number() == controller.number() && model == UsbModel::Ich9Ehci1
        };
        if first_port(model).is_some() && !usb().any(is_master) {
            refuse(
                "the companion has no master; add a controller model='ich9-ehci1' with its index"
                    .to_owned(),
            );
        }
        if model != UsbModel::None && usb().any(|(_, other)| other == UsbModel::None) {
            refuse("another controller says that there is no USB; remove one of them".to_owned());
        }
    }
}

fn device_name(model: UsbModel) -> Option<&'static str> {
    match model {
        UsbModel::Piix3Uhci => Some("piix3-usb-uhci"),
        UsbModel::Piix4Uhci => Some("piix4-usb-uhci"),
        UsbModel::Ehci => Some("usb-ehci"),
        UsbModel::Ich9Ehci1 => Some("ich9-usb-ehci1"),
        UsbModel::Ich9Uhci1 => Some("ich9-usb-uhci1"),
        UsbModel::Ich9Uhci2 => Some("ich9-usb-uhci2"),
        UsbModel::Ich9Uhci3 => Some("ich9-usb-uhci3"),
        UsbModel::Vt82c686bUhci => Some("vt82c686b-usb-uhci"),
        UsbModel::PciOhci => Some("pci-ohci"),
        UsbModel::NecXhci => Some("nec-usb-xhci"),
        UsbModel::QemuXhci => Some("qemu-xhci"),
        UsbModel::Qusb1 | UsbModel::Qusb2 | UsbModel::None => None,
    }
}
