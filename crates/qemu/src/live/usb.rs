//! Ports of USB devices.
//!
//! Ports are assigned at each start and are no part of the definition; see section "USB" of libvirt's
//! documentation of `<hub>`.

use domain::devices::{
    Address, Controller, ControllerKind, DeviceKind, DeviceRef, DiskBus, FsDriverType, InputBus,
    SerialTarget, SoundModel, UsbAddress, UsbModel,
};
use domain::{Domain, Faults};

/// Gives each USB device without a port the lowest one that is free.
pub(crate) fn assign(domain: &mut Domain, faults: &Faults) {
    let devices: Vec<DeviceRef> = usb_devices(domain);
    if devices.is_empty() {
        return;
    }
    let mut taken: Vec<UsbAddress> = Vec::new();
    for device in &devices {
        if let Some(Address::Usb(address)) = &domain.devices.info(*device).address
            && !address.port.is_empty()
        {
            taken.push(address.clone());
        }
    }
    for device in devices {
        let wish = match &domain.devices.info(device).address {
            Some(Address::Usb(address)) if !address.port.is_empty() => continue,
            Some(Address::Usb(address)) => Some(address.bus),
            Some(_) | None => None,
        };
        match free_port(domain, &taken, wish) {
            Some(address) => {
                taken.push(address.clone());
                domain.devices.info_mut(device).address = Some(Address::Usb(address));
            }
            None => faults.push(domain.place.refused(
                "no USB port is free; add a controller such as <controller type='usb' model='qemu-xhci'/>",
            )),
        }
    }
}

/// Devices on USB in the order in which they take ports.
fn usb_devices(domain: &Domain) -> Vec<DeviceRef> {
    let devices = &domain.devices;
    let disks = devices
        .all(DeviceKind::Disk)
        .filter(|device| devices.disks[device.index].bus() == DiskBus::Usb);
    let inputs = devices
        .all(DeviceKind::Input)
        .filter(|device| devices.inputs[device.index].bus == Some(InputBus::Usb));
    let sounds = devices
        .all(DeviceKind::Sound)
        .filter(|device| devices.sounds[device.index].model == SoundModel::Usb);
    let readers = devices
        .all(DeviceKind::Controller)
        .filter(|device| devices.controllers[device.index].kind == ControllerKind::Ccid);
    let serials = devices
        .all(DeviceKind::Serial)
        .filter(|device| devices.serials[device.index].target == Some(SerialTarget::Usb));
    let before = disks.chain(sounds).chain(readers).chain(serials);
    let players = devices
        .all(DeviceKind::Filesystem)
        .filter(|device| devices.filesystems[device.index].driver_type() == FsDriverType::Mtp);
    before.chain(inputs).chain(players).chain(devices.all(DeviceKind::Redirdev)).collect()
}

fn free_port(domain: &Domain, taken: &[UsbAddress], wish: Option<u32>) -> Option<UsbAddress> {
    let controllers = domain.devices.controllers.iter();
    let buses =
        controllers.filter_map(|controller| Some((controller.number(), ports(controller)?)));
    for (bus, ports) in buses.filter(|(bus, _)| wish.is_none_or(|wish| wish == *bus)) {
        for port in 1..=ports {
            let address = UsbAddress { bus, port: vec![port] };
            if !taken.contains(&address) {
                return Some(address);
            }
        }
    }
    None
}

/// How many ports a USB controller has; companions and other controllers have none of their own.
fn ports(controller: &Controller) -> Option<u32> {
    match controller.usb_model()? {
        UsbModel::Piix3Uhci | UsbModel::Piix4Uhci | UsbModel::Vt82c686bUhci => Some(2),
        UsbModel::PciOhci => Some(3),
        UsbModel::Ehci | UsbModel::Ich9Ehci1 => Some(6),
        UsbModel::NecXhci | UsbModel::QemuXhci => Some(controller.ports.unwrap_or(4)),
        UsbModel::Qusb1 | UsbModel::Qusb2 => Some(controller.ports.unwrap_or(8)),
        UsbModel::Ich9Uhci1 | UsbModel::Ich9Uhci2 | UsbModel::Ich9Uhci3 | UsbModel::None => None,
    }
}
