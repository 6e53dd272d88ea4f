//! The storage of images: files, devices, directories. Servers are in `remote`.

use domain::devices::{DiskDevice, DiskFormat, Reservations, SourceKind};

use crate::command::Command;
use crate::json::Object;
use crate::plan::{Access, FdKind, Helper, PassedPci};

use super::block::Layer;
use super::remote;

/// The driver and options of an image's storage node; nothing when it is refused.
pub(super) fn properties(command: &mut Command<'_>, layer: &Layer<'_>) -> Option<Object> {
    if layer.image.source.fd_group.is_some() {
        let what = "groups of descriptors are not supported yet by glassbox; remove 'fdgroup'";
        command.refuse(&layer.image.source.place, what);
    }
    let reservations = reservations(command, layer);
    let driver = &layer.disk.driver;
    let aio = driver.io.map(domain::devices::IoMode::as_str);
    match &layer.kind {
        SourceKind::File(Some(path)) => {
            needs(command, layer, path);
            let node = Object::new("driver", "file").set("filename", path).some("aio", aio);
            Some(node.some("pr-manager", reservations))
        }
        SourceKind::Block(Some(path)) => {
            needs(command, layer, path);
            let node =
                Object::new("driver", block_driver(command, layer, path)).set("filename", path);
            Some(node.some("aio", aio).some("pr-manager", reservations))
        }
        SourceKind::Dir(Some(path)) => {
            needs(command, layer, path);
            if layer.format != DiskFormat::Fat {
                let what = "a directory is shown as a FAT disk only; add <driver type='fat'/>";
                command.refuse(&layer.disk.place, what);
            }
            let floppy = layer.disk.device() == DiskDevice::Floppy;
            let node = Object::new("driver", "vvfat").set("dir", path);
            Some(node.set("floppy", floppy).set("rw", false))
        }
        SourceKind::Network(network) => remote::properties(command, &layer.image, network),
        SourceKind::Nvme(nvme) => {
            let place = layer.image.source.place.clone();
            let managed = nvme.managed == Some(true);
            command.takes_pci(PassedPci { address: nvme.address, managed, place });
            let node = Object::new("driver", "nvme").set("device", nvme.address.to_string());
            Some(node.set("namespace", nvme.namespace))
        }
        SourceKind::VhostVdpa(path) => {
            needs(command, layer, path);
            let purpose = format!("{}-vdpa", layer.image.node("storage"));
            let device = command.pass_fd_set(FdKind::device(path), &purpose);
            Some(Object::new("driver", "virtio-blk-vhost-vdpa").set("path", device))
        }
        SourceKind::File(None)
        | SourceKind::Block(None)
        | SourceKind::Dir(None)
        | SourceKind::VhostUser(_)
        | SourceKind::Volume(_) => None,
    }
}

fn needs(command: &mut Command<'_>, layer: &Layer<'_>, path: &str) {
    let access = if layer.readonly() { Access::Read } else { Access::ReadWrite };
    command.needs_file(path, access, &layer.image.source.place);
}

/// CD-ROM drives of the host are passed through as such.
fn block_driver(command: &Command<'_>, layer: &Layer<'_>, path: &str) -> &'static str {
    let cdrom = layer.disk.device() == DiskDevice::Cdrom;
    if cdrom && command.facts.storage.cdrom_drives.contains(path) {
        "host_cdrom"
    } else {
        "host_device"
    }
}

/// Adds the helper for reservations; the result is its id.
fn reservations(command: &mut Command<'_>, layer: &Layer<'_>) -> Option<String> {
    match layer.image.source.reservations.as_ref()? {
        // All disks share it; see `managed_reservations`.
        Reservations::Managed => Some(MANAGED.to_owned()),
        Reservations::At(path) => {
            let id = format!("pr-helper-{}", layer.image.node("storage"));
            let helper = Object::new("qom-type", "pr-manager-helper").set("id", &id);
            command.object(&helper.set("path", path));
            Some(id)
        }
    }
}

/// The id of the guest's own helper.
const MANAGED: &str = "pr-helper0";

/// Adds the guest's own helper for reservations, if a disk wants it.
pub(crate) fn managed_reservations(command: &mut Command<'_>) {
    let mut sources = command.domain.devices.disks.iter().flat_map(|disk| disk.source.chain());
    let Some(user) = sources.find(|source| source.reservations == Some(Reservations::Managed))
    else {
        return;
    };
    let socket = format!("{}/{MANAGED}.sock", command.facts.directories.guest);
    let helper = Object::new("qom-type", "pr-manager-helper").set("id", MANAGED);
    command.object(&helper.set("path", &socket));
    let arguments = vec!["-k".to_owned(), socket.clone()];
    let program = command.facts.storage.reservation_helper.clone();
    command.needs_helper(Helper { program, arguments, socket, place: user.place.clone() });
}
