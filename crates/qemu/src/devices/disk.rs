//! Disks: the device that the guest sees. What it lies on is in `disk/block.rs`.

use domain::devices::{
    Address, CacheMode, Disk, DiskBus, DiskDevice, DiskModel, DriveAddress, ErrorPolicy, Tray,
    VirtioModel,
};
use domain::{Domain, devices};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;
use crate::machine::Board;

mod block;

/// Fills in buses and what drives imply, and puts disks in order: buses in the order in which they first
/// appear, disks of a bus by their letters.
pub(crate) fn complete(domain: &mut Domain) {
    let mut buses: Vec<DiskBus> = Vec::new();
    for disk in &mut domain.devices.disks {
        disk.device = Some(disk.device());
        disk.bus = Some(disk.bus());
        disk.readonly |= disk.device() == DiskDevice::Cdrom;
        disk.tray = disk.tray.filter(|tray| *tray == Tray::Open);
        disk.driver.cache = disk.driver.cache.filter(|cache| *cache != CacheMode::Default);
        disk.driver.name.get_or_insert_with(|| "qemu".to_owned());
        disk.driver.format.get_or_insert(devices::DiskFormat::Raw);
        if !buses.contains(&disk.bus()) {
            buses.push(disk.bus());
        }
    }
    domain
        .devices
        .disks
        .sort_by_key(|disk| (buses.iter().position(|bus| *bus == disk.bus()), disk.target.index()));
}

/// Gives disks of old buses the place that their letters say.
pub(crate) fn assign_addresses(domain: &mut Domain) {
    for disk in domain.devices.disks.iter_mut().filter(|disk| disk.info.address.is_none()) {
        let n = disk.target.index();
        let (controller, bus, unit) = match disk.bus() {
            DiskBus::Ide => (n / 4, n % 4 / 2, n % 2),
            DiskBus::Sata => (n / 6, 0, n % 6),
            DiskBus::Fdc => (n / 2, 0, n % 2),
            DiskBus::Scsi => (n / 7, 0, n % 7),
            DiskBus::Virtio
            | DiskBus::Xen
            | DiskBus::Usb
            | DiskBus::Uml
            | DiskBus::Sd
            | DiskBus::Nvme => continue,
        };
        let address = DriveAddress { controller, bus, target: 0, unit };
        disk.info.address = Some(Address::Drive(address));
    }
}

/// Adds all disks: block nodes are numbered from the last disk to the first, but stand in order.
pub(crate) fn all_arguments(command: &mut Command<'_>) {
    let disks = &command.domain.devices.disks;
    let mut numbers: Vec<u32> = Vec::with_capacity(disks.len());
    let mut next = 1;
    for disk in disks.iter().rev() {
        numbers.push(next);
        next += block::layers(disk);
    }
    floppy_controller(command);
    for (disk, number) in disks.iter().zip(numbers.into_iter().rev()) {
        arguments(command, disk, number);
    }
}

/// The number of the first block node behind those of all disks.
pub(crate) fn first_free_node(domain: &Domain) -> u32 {
    1 + domain.devices.disks.iter().map(block::layers).sum::<u32>()
}

fn arguments(command: &mut Command<'_>, disk: &Disk, number: u32) {
    if disk.driver.copy_on_read.is_some() || disk.transient {
        let what = "copy_on_read and <transient/> are not supported yet by glassbox; remove them";
        command.refuse(&disk.place, what);
    }
    let node = block::arguments(command, disk, number);
    let device = match disk.bus() {
        DiskBus::Virtio => Some(virtio_disk(disk)),
        DiskBus::Ide | DiskBus::Sata => Some(ide_disk(command, disk)),
        DiskBus::Fdc => drive(disk).map(|at| Object::new("driver", "floppy").set("unit", at.unit)),
        DiskBus::Scsi
        | DiskBus::Usb
        | DiskBus::Xen
        | DiskBus::Uml
        | DiskBus::Sd
        | DiskBus::Nvme => None,
    };
    let Some(device) = device else {
        let what = format!("bus '{}' is not supported yet by glassbox; use virtio", disk.bus());
        command.refuse(&disk.place, what);
        return;
    };
    let device = properties(disk, device).some("drive", node);
    let mut info = disk.info.clone();
    if disk.bus() == DiskBus::Fdc {
        // Floppy drives are booted from by a property of their controller.
        info.boot_order = None;
    }
    let device = placed(command, &info, device);
    command.device(&device);
}

fn virtio_disk(disk: &Disk) -> Object {
    let model = match disk.model.unwrap_or(DiskModel::Virtio) {
        DiskModel::Virtio => VirtioModel::Virtio,
        DiskModel::Transitional => VirtioModel::Transitional,
        DiskModel::NonTransitional => VirtioModel::NonTransitional,
    };
    let driver = &disk.driver;
    let device = Object::new("driver", virtio_driver("virtio-blk", model))
        .some("iothread", driver.iothread.map(|id| format!("iothread{id}")))
        .some("ioeventfd", driver.ioeventfd)
        .some("event_idx", driver.event_idx)
        .some("num-queues", driver.queues)
        .some("queue-size", driver.queue_size);
    virtio(&disk.virtio, device)
}

fn ide_disk(command: &Command<'_>, disk: &Disk) -> Object {
    let name = if disk.device() == DiskDevice::Cdrom { "ide-cd" } else { "ide-hd" };
    let device = Object::new("driver", name);
    let Some(at) = drive(disk) else { return device };
    let ide = disk.bus() == DiskBus::Ide;
    let kind = if ide { devices::ControllerType::Ide } else { devices::ControllerType::Sata };
    let mut controllers = command.domain.devices.controllers.iter();
    let controller =
        controllers.find(|c| c.controller_type() == kind && c.number() == at.controller);
    let bus = controller.map_or("ide", |controller| controller.info.alias());
    if ide {
        return device.set("bus", format!("{bus}.{}", at.bus)).set("unit", at.unit);
    }
    // A SATA port is a bus of its own.
    device.set("bus", format!("{bus}.{}", at.unit))
}

fn drive(disk: &Disk) -> Option<DriveAddress> {
    if let Some(Address::Drive(address)) = &disk.info.address { Some(*address) } else { None }
}

/// Adds what disks of all buses have.
fn properties(disk: &Disk, device: Object) -> Object {
    let driver = &disk.driver;
    let writes = policy(driver.error_policy);
    let reads = policy(driver.read_error_policy.or(driver.error_policy));
    // QEMU knows the policy for a full disk only for writing.
    let reads = if reads == Some("enospc") { Some("report") } else { reads };
    device
        .some("write-cache", block::write_cache(driver.cache))
        .some("werror", writes)
        .some("rerror", reads)
        .some("share-rw", disk.shareable.then_some(true))
        .some("logical_block_size", disk.block_io.logical_block_size)
        .some("physical_block_size", disk.block_io.physical_block_size)
        .some("discard_granularity", disk.block_io.discard_granularity)
        .some("serial", disk.serial.as_ref())
        .some("removable", disk.removable)
}

fn policy(policy: Option<ErrorPolicy>) -> Option<&'static str> {
    policy.map(|policy| match policy {
        ErrorPolicy::Stop => "stop",
        ErrorPolicy::Report => "report",
        ErrorPolicy::Ignore => "ignore",
        ErrorPolicy::Enospace => "enospc",
    })
}

/// Adds the floppy controller of q35, which the chipset lacks, and the boot order of floppy drives.
fn floppy_controller(command: &mut Command<'_>) {
    let q35 = Board::of_domain(command.domain) == Board::Q35;
    let disks = command.domain.devices.disks.iter();
    let floppies: Vec<&Disk> = disks.filter(|disk| disk.bus() == DiskBus::Fdc).collect();
    let letter = |disk: &Disk| if drive(disk).is_some_and(|at| at.unit == 1) { "B" } else { "A" };
    let orders = floppies.iter().filter_map(|disk| Some((letter(disk), disk.info.boot_order?)));
    let orders: Vec<(&str, u32)> = orders.collect();
    if q35 && !floppies.is_empty() {
        let device =
            orders.iter().fold(Object::new("driver", "isa-fdc"), |device, (letter, order)| {
                device.set(format!("bootindex{letter}"), *order)
            });
        command.device(&device);
        return;
    }
    for (letter, order) in orders {
        let options = Options::pair(&format!("isa-fdc.bootindex{letter}"), order);
        command.argv.options("-global", options);
    }
}
