//! The guest's devices: one file for each element, as in the crate `domain`. What they share is here.

use domain::devices::{Address, DeviceInfo, PciPlace, VirtioModel, VirtioOptions};

use crate::board::Board;
use crate::command::Command;
use crate::json::Object;

pub(crate) mod audio;
pub(crate) mod channel;
pub(crate) mod chardev;
pub(crate) mod console;
pub(crate) mod controller;
pub(crate) mod crypto;
pub(crate) mod disk;
pub(crate) mod filesystem;
pub(crate) mod graphics;
pub(crate) mod hostdev;
pub(crate) mod hub;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod interface;
pub(crate) mod iommu;
pub(crate) mod memballoon;
pub(crate) mod memory_device;
pub(crate) mod panic;
pub(crate) mod parallel;
pub(crate) mod pstore;
pub(crate) mod raw_scsi;
pub(crate) mod ready;
pub(crate) mod redirdev;
pub(crate) mod rng;
pub(crate) mod serial;
pub(crate) mod shmem;
pub(crate) mod smartcard;
pub(crate) mod sound;
pub(crate) mod tpm;
pub(crate) mod video;
pub(crate) mod virtio_serial;
pub(crate) mod vsock;
pub(crate) mod watchdog;

/// Adds what all devices have to a device's properties: id, boot order, option ROM, ACPI index, address.
pub(crate) fn placed(command: &Command<'_>, info: &DeviceInfo, device: Object) -> Object {
    let rom = info.rom.as_ref();
    let has_rom = rom.and_then(|rom| rom.enabled).unwrap_or(true);
    let file = rom.and_then(|rom| rom.file.as_deref()).or((!has_rom).then_some(""));
    let device = device
        .set("id", info.alias())
        .some("bootindex", info.boot_order)
        .some("acpi-index", info.acpi_index)
        .some("rombar", rom.and_then(|rom| rom.bar).map(u8::from))
        .some("romfile", file);
    addressed(command, info, device)
}

/// Adds the address to a device's properties.
pub(crate) fn addressed(command: &Command<'_>, info: &DeviceInfo, device: Object) -> Object {
    match &info.address {
        Some(Address::Pci(place)) => pci(command, place, device),
        Some(Address::Usb(usb)) => {
            let bus = format!("{}.0", usb_bus(command, usb.bus));
            device.set("bus", bus).set("port", usb.port_path())
        }
        Some(Address::VirtioSerial(port)) => {
            let bus = format!("{}.{}", serial_bus(command, port.controller), port.bus);
            device.set("bus", bus).some("nr", port.port)
        }
        Some(Address::Isa(isa)) => device.some("iobase", isa.iobase).some("irq", isa.irq),
        Some(Address::Ccid(ccid)) => {
            device.set("bus", format!("{}.0", ccid_bus(command, ccid.controller)))
        }
        Some(Address::Dimm(dimm)) => device.some("slot", dimm.slot).some("addr", dimm.base),
        // A disk's place is part of how its bus names it; see `disk`.
        Some(Address::Drive(_) | Address::Unassigned) | None => device,
    }
}

fn pci(command: &Command<'_>, place: &PciPlace, device: Object) -> Object {
    let (bus, slot, function) =
        (place.address.bus(), place.address.slot(), place.address.function());
    let bus = match bus {
        0 => Board::of_domain(command.domain).root_bus().to_owned(),
        bus => {
            let mut controllers = command.domain.devices.controllers.iter();
            let is_bus = |controller: &&domain::devices::Controller| {
                controller.pci_model().is_some() && controller.number() == u32::from(bus)
            };
            controllers.find(is_bus).map_or_else(String::new, |c| c.info.alias().to_owned())
        }
    };
    let address =
        if function == 0 { format!("0x{slot:x}") } else { format!("0x{slot:x}.0x{function:x}") };
    device.set("bus", bus).some("multifunction", place.multifunction).set("addr", address)
}

fn usb_bus<'a>(command: &Command<'a>, bus: u32) -> &'a str {
    let mut controllers = command.domain.devices.controllers.iter();
    controllers
        .find(|c| c.usb_model().is_some() && c.number() == bus)
        .map_or("usb", |controller| controller.info.alias())
}

fn ccid_bus<'a>(command: &Command<'a>, index: u32) -> &'a str {
    let mut controllers = command.domain.devices.controllers.iter();
    controllers
        .find(|c| c.kind == domain::devices::ControllerKind::Ccid && c.number() == index)
        .map_or("ccid0", |controller| controller.info.alias())
}

fn serial_bus<'a>(command: &Command<'a>, index: u32) -> &'a str {
    use domain::devices::ControllerKind::VirtioSerial;
    let mut controllers = command.domain.devices.controllers.iter();
    controllers
        .find(|c| matches!(c.kind, VirtioSerial(_)) && c.number() == index)
        .map_or("virtio-serial0", |controller| controller.info.alias())
}

/// Adds what all virtio devices have to a device's properties.
pub(crate) fn virtio(options: &VirtioOptions, device: Object) -> Object {
    device
        .some("iommu_platform", options.iommu)
        .some("ats", options.ats)
        .some("packed", options.packed)
        .some("page-per-vq", options.page_per_vq)
}

/// QEMU's name of a virtio device on PCI, such as `virtio-net-pci-transitional`.
pub(crate) fn virtio_driver(name: &str, model: VirtioModel) -> String {
    let suffix = match model {
        VirtioModel::Virtio => "",
        VirtioModel::Transitional => "-transitional",
        VirtioModel::NonTransitional => "-non-transitional",
    };
    format!("{name}-pci{suffix}")
}

/// Which threads serve which queues of a device, as QEMU's `iothread-vq-mapping`.
pub(crate) fn thread_map(threads: &[domain::devices::DiskThread]) -> Option<Vec<Object>> {
    let map = threads.iter().map(|thread| {
        let queues = (!thread.queues.is_empty()).then(|| thread.queues.clone());
        Object::new("iothread", format!("iothread{}", thread.id)).some("vqs", queues)
    });
    (!threads.is_empty()).then(|| map.collect())
}
