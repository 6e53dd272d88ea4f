//! The device that the guest sees, on each bus.

use domain::devices::{
    Controller, ControllerKind, ControllerType, Disk, DiskBus, DiskDevice, DiskModel, ErrorPolicy,
    Geometry, ScsiModel, VhostUserSource, VirtioModel,
};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::chardev::reconnects;
use crate::devices::{thread_map, virtio, virtio_driver};
use crate::json::Object;

use super::{block, drive};

/// Whether a disk's medium can be taken out.
pub(crate) fn is_removable(disk: &Disk) -> bool {
    matches!(disk.device(), DiskDevice::Cdrom | DiskDevice::Floppy)
}

/// The device of a disk's bus; nothing for a bus that no supported guest has.
pub(super) fn device(command: &Command<'_>, disk: &Disk) -> Option<Object> {
    match disk.bus() {
        DiskBus::Virtio => Some(virtio_disk("virtio-blk", disk)),
        DiskBus::Ide | DiskBus::Sata => Some(ide_disk(command, disk)),
        DiskBus::Fdc => drive(disk).map(|at| Object::new("driver", "floppy").set("unit", at.unit)),
        DiskBus::Scsi => Some(scsi_disk(command, disk)),
        DiskBus::Usb => Some(Object::new("driver", "usb-storage")),
        DiskBus::Xen | DiskBus::Uml | DiskBus::Sd | DiskBus::Nvme => None,
    }
}

fn virtio_disk(name: &str, disk: &Disk) -> Object {
    let model = match disk.model.unwrap_or(DiskModel::Virtio) {
        DiskModel::Virtio => VirtioModel::Virtio,
        DiskModel::Transitional => VirtioModel::Transitional,
        DiskModel::NonTransitional => VirtioModel::NonTransitional,
    };
    let driver = &disk.driver;
    let device = Object::new("driver", virtio_driver(name, model))
        .some("iothread", driver.iothread.map(|id| format!("iothread{id}")))
        .some("iothread-vq-mapping", thread_map(&disk.threads))
        .some("ioeventfd", driver.ioeventfd)
        .some("event_idx", driver.event_idx)
        .some("num-queues", driver.queues)
        .some("queue-size", driver.queue_size);
    virtio(&disk.virtio, device)
}

/// A disk that another program serves.
pub(super) fn vhost_user(
    command: &mut Command<'_>,
    disk: &Disk,
    server: &VhostUserSource,
) -> Object {
    let id = format!("chr-vu-{}", disk.info.alias());
    let options = Options::new("socket").set("id", &id).set("path", &server.path);
    let options = match server.reconnect.enabled {
        Some(enabled) => {
            let seconds = server.reconnect.timeout.filter(|_| enabled).unwrap_or_default();
            reconnects(command.facts, options, seconds)
        }
        None => options,
    };
    command.argv.options("-chardev", options);
    virtio_disk("vhost-user-blk", disk).set("chardev", id)
}

fn controller<'a>(
    command: &Command<'a>,
    kind: ControllerType,
    index: u32,
) -> Option<&'a Controller> {
    let mut controllers = command.domain.devices.controllers.iter();
    controllers.find(|c| c.controller_type() == kind && c.number() == index)
}

fn ide_disk(command: &Command<'_>, disk: &Disk) -> Object {
    let name = if disk.device() == DiskDevice::Cdrom { "ide-cd" } else { "ide-hd" };
    let device = Object::new("driver", name);
    let Some(at) = drive(disk) else { return device };
    let ide = disk.bus() == DiskBus::Ide;
    let kind = if ide { ControllerType::Ide } else { ControllerType::Sata };
    let own = Board::of_domain(command.domain).own_disks();
    // The board's own controller is no device, so an alias of the user's does not name its bus.
    let bus = if at.controller == 0 && own == Some(kind) {
        "ide"
    } else {
        controller(command, kind, at.controller).map_or("ide", |c| c.info.alias())
    };
    if ide {
        return device.set("bus", format!("{bus}.{}", at.bus)).set("unit", at.unit);
    }
    // A SATA port is a bus of its own.
    device.set("bus", format!("{bus}.{}", at.unit))
}

fn scsi_disk(command: &Command<'_>, disk: &Disk) -> Object {
    let name = match disk.device() {
        DiskDevice::Lun => "scsi-block",
        DiskDevice::Cdrom => "scsi-cd",
        DiskDevice::Disk | DiskDevice::Floppy => "scsi-hd",
    };
    let device = Object::new("driver", name);
    let Some(at) = drive(disk) else { return device };
    let owner = controller(command, ControllerType::Scsi, at.controller);
    let bus = owner.map_or("scsi0", |controller| controller.info.alias());
    let oldest = owner.is_none_or(|controller| {
        matches!(controller.kind, ControllerKind::Scsi(None | Some(ScsiModel::Lsilogic)))
    });
    let device = if oldest {
        // This one takes its disks for targets.
        device.set("bus", format!("{bus}.{}", at.bus)).set("scsi-id", at.unit)
    } else {
        device
            .set("bus", format!("{bus}.0"))
            .set("channel", at.bus)
            .set("scsi-id", at.target)
            .set("lun", at.unit)
    };
    // Without an id of its own the guest would see QEMU's name of the block node, which changes.
    let own = (disk.device() != DiskDevice::Lun)
        .then(|| disk.serial.clone().unwrap_or_else(|| format!("drive-{}", disk.info.alias())));
    device.some("device_id", own)
}

/// Adds what disks of all buses have.
pub(super) fn properties(disk: &Disk, device: Object) -> Object {
    let driver = &disk.driver;
    let writes = policy(driver.error_policy);
    let reads = policy(driver.read_error_policy.or(driver.error_policy));
    // QEMU knows the policy for a full disk only for writing.
    let reads = if reads == Some("enospc") { Some("report") } else { reads };
    let wwn = disk.wwn.as_ref().and_then(|wwn| u64::from_str_radix(wwn, 16).ok());
    let cache = block::write_cache(disk).filter(|_| disk.device() != DiskDevice::Lun);
    // Libvirt's guests know their disks by serials in which spaces are escaped.
    let serial = disk.serial.as_ref().map(|serial| serial.replace(' ', "\\ "));
    let device = device
        .some("write-cache", cache)
        .some("werror", writes)
        .some("rerror", reads)
        .some("share-rw", disk.shareable.then_some(true))
        .some("logical_block_size", disk.block_io.logical_block_size)
        .some("physical_block_size", disk.block_io.physical_block_size)
        .some("discard_granularity", disk.block_io.discard_granularity)
        .some("wwn", wwn)
        .some("rotation_rate", disk.rotation_rate)
        .some("vendor", disk.vendor.as_ref())
        .some("product", disk.product.as_ref())
        .some("removable", disk.removable)
        .some("dpofua", disk.dpofua)
        .some("serial", serial);
    geometry(&disk.geometry, device)
}

fn geometry(geometry: &Geometry, device: Object) -> Object {
    device
        .some("cyls", geometry.cylinders)
        .some("heads", geometry.heads)
        .some("secs", geometry.sectors)
        .some("bios-chs-trans", geometry.translation.map(domain::devices::Translation::as_str))
}

fn policy(policy: Option<ErrorPolicy>) -> Option<&'static str> {
    policy.map(|policy| match policy {
        ErrorPolicy::Stop => "stop",
        ErrorPolicy::Report => "report",
        ErrorPolicy::Ignore => "ignore",
        ErrorPolicy::Enospace => "enospc",
    })
}
