//! USB controllers.

use domain::devices::{Controller, UsbModel};

use crate::command::Command;
use crate::devices::{addressed, placed};
use crate::json::Object;

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
    let device =
        Object::new("driver", name).some("p2", controller.ports).some("p3", controller.ports);
    let device = match controller.info.master_start_port {
        Some(port) => {
            let bus = match controller.number() {
                0 => "usb.0".to_owned(),
                number => format!("usb{number}.0"),
            };
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
