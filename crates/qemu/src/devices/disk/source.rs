//! The storage of images: files, devices, directories. Servers are in `remote`.

use domain::devices::{Disk, DiskDevice, DiskFormat, DiskSource, Reservations, SourceKind};

use crate::command::Command;
use crate::inherited::Opened;
use crate::json::Object;
use crate::plan::{Access, FdKind, Helper, HostCache, Invocation, PassedPci, Service};

use super::block::{Layer, bypasses_cache};
use super::remote;

/// The driver and options of an image's storage node; nothing when it is refused.
pub(super) fn properties(command: &mut Command<'_>, layer: &Layer<'_>) -> Option<Object> {
    let reservations = reservations(command, layer);
    let driver = &layer.disk.driver;
    let aio = driver.io.map(domain::devices::IoMode::as_str);
    match &layer.kind {
        SourceKind::File(Some(path)) => {
            let path = opened(command, layer, path, Opened::File);
            let node = Object::new("driver", "file").set("filename", path).some("aio", aio);
            Some(node.some("pr-manager", reservations))
        }
        SourceKind::Block(Some(path)) => {
            let driver = block_driver(command, layer, path);
            let path = opened(command, layer, path, Opened::Block);
            let node = Object::new("driver", driver).set("filename", path);
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
        SourceKind::Network(network) => {
            remote::properties(command, &layer.image, network, Some(layer))
        }
        SourceKind::Nvme(nvme) => {
            let place = layer.image.source.place.clone();
            let driver = (nvme.managed == Some(true)).then(|| PassedPci::USUAL_DRIVER.to_owned());
            command.takes_pci(PassedPci { address: nvme.address, driver, place });
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

/// The path by which QEMU opens an image: of what the caller opened for it, else the image's own.
fn opened(
    command: &mut Command<'_>,
    layer: &Layer<'_>,
    path: &str,
    kind: fn(Access) -> Opened,
) -> String {
    let place = &layer.image.source.place;
    let name = descriptor(layer);
    let cache = HostCache { bypassed: bypasses_cache(layer.disk), place: place.clone() };
    if let Some(set) = command.inherits_image(&name, &kind(layer.access()), &cache) {
        return set;
    }
    if let Some(group) = &layer.image.source.fd_group {
        let what = format!("no file descriptor '{group}' is inherited; pass one, or remove");
        command.refuse(place, format!("{what} 'fdgroup'"));
    }
    command.needs_openable(path, layer.access(), name, place);
    path.to_owned()
}

/// The name of what the caller may open for an image: its group, else the target of the disk, with what tells the
/// images apart that the disk's own lies on.
fn descriptor(layer: &Layer<'_>) -> String {
    named(layer.disk, layer.image.source, &layer.suffix)
}

/// The name under which the caller may open the image `source` of a disk, which stands `depth` images below the disk's
/// own; see [`crate::Inherited`].
#[must_use]
pub fn image_descriptor(disk: &Disk, source: &DiskSource, depth: usize) -> String {
    named(disk, source, &suffix(depth))
}

/// What tells the images of a disk apart by how far they stand below its own.
pub(super) fn suffix(depth: usize) -> String {
    if depth == 0 { String::new() } else { format!(".{depth}") }
}

fn named(disk: &Disk, source: &DiskSource, suffix: &str) -> String {
    source.fd_group.clone().unwrap_or_else(|| format!("{}{suffix}", disk.target))
}

/// Whether the caller opened the image. QEMU takes of a set what is open as it wants it, and does not find a
/// descriptor for reading first when the only one is for writing too.
pub(super) fn is_inherited(command: &Command<'_>, layer: &Layer<'_>) -> bool {
    command.launch.inherited.has(&descriptor(layer))
}

fn needs(command: &mut Command<'_>, layer: &Layer<'_>, path: &str) {
    command.needs_file(path, layer.access(), &layer.image.source.place);
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
        Reservations::Managed => Some(RESERVATIONS.to_owned()),
        Reservations::At(path) => {
            let id = format!("pr-helper-{}", layer.image.node("storage"));
            let helper = Object::new("qom-type", "pr-manager-helper").set("id", &id);
            command.object(&helper.set("path", path));
            Some(id)
        }
    }
}

/// The id of the guest's own helper, and the device that its unit is for.
pub(crate) const RESERVATIONS: &str = "pr-helper0";

/// Adds the guest's own helper for reservations, if a disk wants it.
pub(crate) fn managed_reservations(command: &mut Command<'_>) {
    let mut sources = command.domain.devices.disks.iter().flat_map(|disk| disk.source.chain());
    let Some(user) = sources.find(|source| source.reservations == Some(Reservations::Managed))
    else {
        return;
    };
    let socket = command.facts.helpers.reservations.clone();
    let helper = Object::new("qom-type", "pr-manager-helper").set("id", RESERVATIONS);
    command.object(&helper.set("path", &socket));
    let program = command.facts.storage.reservation_helper.clone();
    command.needs_helper(Helper {
        service: Service::Reservations,
        device: RESERVATIONS.to_owned(),
        before: Vec::new(),
        program: Invocation { program, arguments: Vec::new() },
        inputs: Vec::new(),
        socket,
        files: Vec::new(),
        place: user.place.clone(),
    });
}
