//! Places that boards give to certain devices.

use domain::Domain;
use domain::devices::{ControllerKind, DeviceKind, DeviceRef, PciModel, SoundModel, UsbModel};

use crate::board::Board;

use super::{Pass, kinds};

/// Takes the places of the board's own devices and of those that stand where they always stood.
pub(super) fn assign(pass: &mut Pass<'_>, domain: &Domain) {
    match pass.board {
        Board::Q35 => q35(pass, domain),
        Board::I440fx => i440fx(pass, domain),
        Board::Isa | Board::Microvm | Board::ArmVirt | Board::RiscvVirt => {}
    }
}

/// Intel's PIIX3: bridge 01.0, IDE 01.1, USB 01.2, power management 01.3.
fn i440fx(pass: &mut Pass<'_>, domain: &Domain) {
    pass.buses.occupy_root(1, 0);
    pass.buses.occupy_root(1, 3);
    for device in wanting(domain, DeviceKind::Controller) {
        let controller = &domain.devices.controllers[device.index];
        let first = controller.number() == 0;
        let function = if first && matches!(controller.kind, ControllerKind::Ide(_)) {
            1
        } else if first && controller.usb_model() == Some(UsbModel::Piix3Uhci) {
            2
        } else {
            continue;
        };
        pass.take(device, 1, function);
    }
    first_video(pass, domain, 2);
}

/// Intel's ICH9: bridge 1f.0, SATA 1f.2, SMBus 1f.3, USB 1d and 1a, PCI bridge 1e.0, sound 1b.0.
fn q35(pass: &mut Pass<'_>, domain: &Domain) {
    pass.buses.occupy_root(0x1f, 0);
    pass.buses.occupy_root(0x1f, 3);
    let mut usb_slots = [0x1d, 0x1a].into_iter();
    for device in wanting(domain, DeviceKind::Controller) {
        let controller = &domain.devices.controllers[device.index];
        if controller.kind == ControllerKind::Sata && controller.number() == 0 {
            pass.take(device, 0x1f, 2);
        } else if controller.usb_model() == Some(UsbModel::Ich9Uhci1) {
            if let Some(slot) = usb_slots.next() {
                pass.take(device, slot, 0);
            }
        } else if controller.pci_model() == Some(PciModel::DmiToPciBridge) {
            pass.take(device, 0x1e, 0);
        }
    }
    first_video(pass, domain, 1);
    let sounds = wanting(domain, DeviceKind::Sound);
    let is_ich9 =
        |device: &&DeviceRef| domain.devices.sounds[device.index].model == SoundModel::Ich9;
    if let Some(first) = sounds.iter().find(is_ich9) {
        pass.take(*first, 0x1b, 0);
    }
}

fn first_video(pass: &mut Pass<'_>, domain: &Domain, slot: u8) {
    let first = DeviceRef { kind: DeviceKind::Video, index: 0 };
    let wants = !domain.devices.videos.is_empty()
        && kinds::wants_address(domain, first)
        && kinds::connect(domain, pass.board, first).is_some();
    if wants {
        pass.take(first, slot, 0);
    }
}

fn wanting(domain: &Domain, kind: DeviceKind) -> Vec<DeviceRef> {
    let devices = domain.devices.all(kind);
    devices.filter(|device| kinds::wants_address(domain, *device)).collect()
}
