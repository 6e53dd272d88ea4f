//! Disks: the device that the guest sees. What it lies on is in `disk/block.rs`.

use domain::devices::{
    Address, CacheMode, Disk, DiskBus, DiskSource, DriveAddress, EncryptionEngine, SourceKind, Tray,
};
use domain::{Domain, devices};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::{placed, raw_scsi};
use crate::facts::HostFacts;
use crate::json::Object;
use crate::storage::StorageFacts;

mod block;
mod check;
mod format;
mod frontend;
mod nbdkit;
mod remote;
mod source;

pub use source::image_descriptor;

pub(crate) use check::check;
pub(crate) use frontend::is_removable;
pub(crate) use nbdkit::serves as nbdkit_serves;
pub(crate) use remote::firmware_storage;
pub(crate) use source::{RESERVATIONS, managed_reservations};

/// Fills in buses and what drives imply, and puts disks in order: buses in the order in which they first
/// appear, disks of a bus by their letters.
pub(crate) fn complete(domain: &mut Domain) {
    let mut buses: Vec<DiskBus> = Vec::new();
    for disk in &mut domain.devices.disks {
        disk.device = Some(disk.device());
        disk.bus = Some(disk.bus());
        disk.readonly |= disk.device() == devices::DiskDevice::Cdrom;
        disk.tray = disk.tray.filter(|tray| *tray == Tray::Open);
        disk.driver.cache = disk.driver.cache.filter(|cache| *cache != CacheMode::Default);
        disk.driver.name.get_or_insert_with(|| "qemu".to_owned());
        // What a volume is, its pool says.
        if !matches!(disk.source.kind, SourceKind::Volume(_)) {
            disk.driver.format.get_or_insert(devices::DiskFormat::Raw);
        }
        // A drive that the guest cannot write to takes part in no snapshot anyway.
        let without = Some(devices::SnapshotMode::No);
        disk.snapshot = disk.snapshot.filter(|mode| !(disk.readonly && Some(*mode) == without));
        complete_source(&mut disk.source);
        if !buses.contains(&disk.bus()) {
            buses.push(disk.bus());
        }
    }
    domain
        .devices
        .disks
        .sort_by_key(|disk| (buses.iter().position(|bus| *bus == disk.bus()), disk.target.index()));
}

/// Fills in ports and who decrypts, down the chain.
fn complete_source(source: &mut devices::DiskSource) {
    if let SourceKind::Network(network) = &mut source.kind {
        network.complete();
    }
    if let Some(encryption) = &mut source.encryption {
        encryption.engine.get_or_insert(EncryptionEngine::Qemu);
    }
    if let devices::Backing::Image(image) = &mut source.backing {
        complete_source(&mut image.source);
    }
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

/// Numbers the block nodes of disks, from the last disk to the first. Those that have numbers keep them, and others
/// get numbers behind those.
pub(crate) fn number(domain: &mut Domain, facts: &StorageFacts) {
    let mut next = next_node(domain, facts);
    let disks = domain.devices.disks.iter_mut().rev();
    for disk in disks.filter(|disk| disk.source.index.is_none()) {
        let layers = block::layers(facts, disk);
        block::number(disk, next);
        next += layers;
    }
}

/// Gives a disk of a running guest the numbers that its images have there.
pub(crate) fn keep_numbers(disk: &mut Disk, live: &DiskSource) {
    match live.index {
        Some(first) => block::number(disk, first),
        None => disk.source.index = None,
    }
}

/// Numbers the nodes of one disk of `wanted` anew, behind those of all disks of both domains.
pub(crate) fn renumber(wanted: &mut Domain, live: &Domain, index: usize, facts: &HostFacts) {
    let facts = &facts.storage;
    let next = next_node(wanted, facts).max(next_node(live, facts));
    block::number(&mut wanted.devices.disks[index], next);
}

/// The first number of block nodes behind those of all disks.
fn next_node(domain: &Domain, facts: &StorageFacts) -> u32 {
    let used = |disk: &Disk| Some(disk.source.index? + block::layers(facts, disk));
    domain.devices.disks.iter().filter_map(used).max().unwrap_or(1)
}

/// Adds all disks.
pub(crate) fn all_arguments(command: &mut Command<'_>) {
    floppy_controller(command);
    command.domain.devices.disks.iter().for_each(|disk| arguments(command, disk));
}

/// The number of the first block node behind those of all disks.
pub(crate) fn first_free_node(command: &Command<'_>) -> u32 {
    next_node(command.domain, &command.facts.storage)
}

/// Adds what a disk lies on, and the device.
pub(crate) fn arguments(command: &mut Command<'_>, disk: &Disk) {
    if disk.transient {
        let what = "<transient/> is not supported yet by glassbox; remove it";
        command.refuse(&disk.place, what);
    }
    raw_scsi::warn(command, &disk.place, disk.rawio, disk.sgio);
    if disk.limits.is_some() {
        let what = "limits of one disk are not set by glassbox; use <throttlefilters> and a group";
        let place = disk.place.child("iotune");
        command.ignore(&place, what);
    }
    if disk.tray == Some(Tray::Open) {
        let what = "a guest starts with all trays closed; remove attribute 'tray'";
        command.ignore(&disk.place.child("target"), what);
    }
    if disk.bus() == DiskBus::Sd {
        sd_card(command, disk);
        return;
    }
    // A disk whose medium is missing leaves no drive behind, unless the drive can be empty.
    if command.facts.storage.drops(disk) && !frontend::is_removable(disk) {
        return;
    }
    let server = match &disk.source.kind {
        SourceKind::VhostUser(server) => Some(server),
        SourceKind::File(_)
        | SourceKind::Block(_)
        | SourceKind::Dir(_)
        | SourceKind::Network(_)
        | SourceKind::Volume(_)
        | SourceKind::Nvme(_)
        | SourceKind::VhostVdpa(_) => None,
    };
    let device = if let Some(server) = server {
        frontend::vhost_user(command, disk, server)
    } else {
        let node = block::arguments(command, disk);
        let Some(device) = frontend::device(command, disk) else {
            let what = format!("bus '{}' is not supported yet by glassbox; use virtio", disk.bus());
            command.refuse(&disk.place, what);
            return;
        };
        frontend::properties(disk, device).some("drive", node)
    };
    let mut info = disk.info.clone();
    if disk.bus() == DiskBus::Fdc {
        // Floppy drives are booted from by a property of their controller.
        info.boot_order = None;
    }
    let device = placed(command, &info, device);
    command.device(&device);
}

/// SD cards have no device that could be named; the board takes them from `-drive`.
fn sd_card(command: &mut Command<'_>, disk: &Disk) {
    let (SourceKind::File(Some(path)) | SourceKind::Block(Some(path))) = &disk.source.kind else {
        command.refuse(&disk.place, "an SD card lies on a file or block device; use one of them");
        return;
    };
    let access =
        if disk.readonly { crate::plan::Access::Read } else { crate::plan::Access::ReadWrite };
    command.needs_file(path, access, &disk.source.place);
    let format = disk.driver.format.and_then(format::driver).unwrap_or("raw");
    let options = Options::pair("file", path)
        .set("format", format)
        .set("if", "sd")
        .set("index", disk.target.index())
        .some_on_off("readonly", disk.readonly.then_some(true))
        .some("cache", disk.driver.cache.map(CacheMode::as_str))
        .some("discard", disk.driver.discard.map(devices::DiscardMode::as_str))
        .some("aio", disk.driver.io.map(devices::IoMode::as_str));
    command.argv.options("-drive", options);
}

fn drive(disk: &Disk) -> Option<DriveAddress> {
    if let Some(Address::Drive(address)) = &disk.info.address { Some(*address) } else { None }
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
