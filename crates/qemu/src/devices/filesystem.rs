//! Directories of the host in the guest, `<filesystem>`.

use domain::devices::{
    AccessMode, Filesystem, FsBinary, FsDriverType, FsIdRange, FsType, MultiDevices, VirtioModel,
};
use domain::{Domain, Faults};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;
use crate::memory_backing;
use crate::plan::{Access, Helper, HostFile, Invocation, LISTENER, Service};

/// Fills in what is served and with whose rights, and checks it.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let filesystems = &domain.devices.filesystems;
    for (index, filesystem) in filesystems.iter().enumerate() {
        let virtiofs = |it: &Filesystem| it.driver_type() == FsDriverType::Virtiofs;
        let same = |other: &Filesystem| virtiofs(other) && other.target == filesystem.target;
        if virtiofs(filesystem) && filesystems[..index].iter().any(same) {
            let what = "another filesystem has this target; give another";
            faults.push(filesystem.place.refused(what));
        }
    }
    let shared = memory_backing::is_shared(domain);
    for filesystem in &mut domain.devices.filesystems {
        filesystem.kind.get_or_insert(FsType::Mount);
        if filesystem.socket.is_none() {
            filesystem.access.get_or_insert(AccessMode::Passthrough);
        }
        if let Some(what) = wrong(filesystem, shared) {
            faults.push(filesystem.place.refused(what));
        }
    }
}

fn wrong(filesystem: &Filesystem, shared_memory: bool) -> Option<&'static str> {
    let virtiofs = filesystem.driver_type() == FsDriverType::Virtiofs;
    if filesystem.kind != Some(FsType::Mount) {
        return Some("a QEMU guest gets directories only; use type='mount'");
    }
    if filesystem.target.is_none() {
        return Some("<target> has no name; add one such as <target dir='share'/>");
    }
    if filesystem.source.is_none() && filesystem.socket.is_none() {
        return Some("<source> has no directory; add one such as <source dir='/srv/share'/>");
    }
    if virtiofs && !shared_memory {
        return Some("virtio-fs needs memory that others see; add <access mode='shared'/>");
    }
    if virtiofs && filesystem.driver.write_policy.is_some() {
        return Some("virtio-fs has no 'wrpolicy'; remove it");
    }
    if virtiofs && (filesystem.file_mode.is_some() || filesystem.directory_mode.is_some()) {
        return Some("virtio-fs makes files with the guest's modes; remove 'fmode' and 'dmode'");
    }
    if virtiofs && filesystem.multi_devices.is_some() {
        return Some("virtio-fs has no 'multidevs'; remove it");
    }
    if virtiofs && filesystem.socket.is_none() && filesystem.access != Some(AccessMode::Passthrough)
    {
        return Some("virtio-fs has the guest's rights only; use accessmode='passthrough'");
    }
    if !virtiofs && filesystem.socket.is_some() {
        return Some("only <driver type='virtiofs'/> is served at a socket; add it");
    }
    let mapped = filesystem.access == Some(AccessMode::Mapped);
    if !mapped && (filesystem.file_mode.is_some() || filesystem.directory_mode.is_some()) {
        return Some("'fmode' and 'dmode' need accessmode='mapped'; add it");
    }
    None
}

/// Adds the directory and the device by which the guest gets it.
pub(crate) fn arguments(command: &mut Command<'_>, filesystem: &Filesystem) {
    match filesystem.driver_type() {
        FsDriverType::Path => nine_p(command, filesystem),
        FsDriverType::Virtiofs => virtiofs(command, filesystem),
        FsDriverType::Mtp => {
            needs_directory(command, filesystem);
            let device = Object::new("driver", "usb-mtp")
                .some("rootdir", filesystem.source.as_ref())
                .some("desc", filesystem.target.as_ref())
                .set("readonly", filesystem.readonly);
            let device = placed(command, &filesystem.info, device);
            command.device(&device);
        }
        FsDriverType::Handle | FsDriverType::Loop | FsDriverType::Nbd | FsDriverType::Ploop => {
            let what = "no QEMU has this driver; use path or virtiofs";
            command.refuse(&filesystem.place.child("driver"), what);
        }
    }
}

fn needs_directory(command: &mut Command<'_>, filesystem: &Filesystem) {
    let access = if filesystem.readonly { Access::Read } else { Access::ReadWrite };
    if let Some(path) = &filesystem.source {
        command.needs_file(path, access, &filesystem.place.child("source"));
    }
}

fn model(filesystem: &Filesystem) -> VirtioModel {
    filesystem.model.unwrap_or(VirtioModel::Virtio)
}

fn nine_p(command: &mut Command<'_>, filesystem: &Filesystem) {
    needs_directory(command, filesystem);
    let id = format!("fsdev-{}", filesystem.info.alias());
    let security = match filesystem.access.unwrap_or(AccessMode::Passthrough) {
        AccessMode::Passthrough => "passthrough",
        AccessMode::Mapped => "mapped",
        AccessMode::Squash => "none",
    };
    let multi = filesystem.multi_devices.filter(|multi| *multi != MultiDevices::Default);
    let mode = |mode: Option<u32>| mode.map(|mode| format!("{mode:04o}"));
    let options = Options::new("local")
        .set("security_model", security)
        .some("multidevs", multi)
        .some("fmode", mode(filesystem.file_mode))
        .some("dmode", mode(filesystem.directory_mode))
        .some("writeout", filesystem.driver.write_policy)
        .set("id", &id)
        .some("path", filesystem.source.as_ref())
        .some_on_off("readonly", filesystem.readonly.then_some(true));
    command.argv.options("-fsdev", options);
    let device = Object::new("driver", virtio_driver("virtio-9p", model(filesystem)));
    let device = virtio(&filesystem.virtio, device)
        .set("fsdev", id)
        .some("mount_tag", filesystem.target.as_ref());
    let device = placed(command, &filesystem.info, device);
    command.device(&device);
}

fn virtiofs(command: &mut Command<'_>, filesystem: &Filesystem) {
    let id = format!("chr-vu-{}", filesystem.info.alias());
    let socket = match &filesystem.socket {
        Some(socket) => socket.clone(),
        None => serve(command, filesystem),
    };
    let options = Options::new("socket").set("id", &id).set("path", socket);
    command.argv.options("-chardev", options);
    let device = Object::new("driver", "vhost-user-fs-pci")
        .set("chardev", id)
        .some("queue-size", filesystem.driver.queue_size)
        .some("tag", filesystem.target.as_ref());
    let device = placed(command, &filesystem.info, virtio(&filesystem.virtio, device));
    command.device(&device);
}

/// Notes the program that serves the directory; the result is its socket.
fn serve(command: &mut Command<'_>, filesystem: &Filesystem) -> String {
    let all = &command.domain.devices.filesystems;
    let index =
        all.iter().position(|it| it.place.path == filesystem.place.path).unwrap_or_default();
    let device = format!("fs{index}");
    let socket = command.facts.helpers.virtiofsd.of(&device);
    let binary = filesystem.place.child("binary");
    let lock = &filesystem.binary.lock;
    if lock.posix == Some(true) || lock.flock == Some(true) {
        let what = "virtiofsd keeps locks in the guest and passes none on; turn <lock> off";
        command.ignore(&binary, what);
    }
    if filesystem.binary.sandbox.is_some() {
        let what = "virtiofsd is in the sandbox of its service and makes none; remove <sandbox>";
        command.ignore(&binary, what);
    }
    let program =
        filesystem.binary.path.as_ref().unwrap_or(&command.facts.storage.virtiofsd).clone();
    command.needs_helper(Helper {
        service: Service::Virtiofsd,
        device,
        before: Vec::new(),
        program: Invocation { program, arguments: virtiofsd_arguments(filesystem) },
        inputs: Vec::new(),
        socket: socket.clone(),
        files: filesystem.source.iter().map(|path| served(filesystem, path)).collect(),
        place: filesystem.place.clone(),
    });
    socket
}

/// The directory: virtiofsd opens it, and QEMU does not.
fn served(filesystem: &Filesystem, path: &str) -> HostFile {
    HostFile {
        path: path.to_owned(),
        access: if filesystem.readonly { Access::Read } else { Access::ReadWrite },
        descriptor: None,
        place: filesystem.place.child("source"),
    }
}

/// The options of virtiofsd, <https://gitlab.com/virtio-fs/virtiofsd>.
fn virtiofsd_arguments(filesystem: &Filesystem) -> Vec<String> {
    let binary: &FsBinary = &filesystem.binary;
    let source = filesystem.source.as_deref().unwrap_or_default();
    let mut arguments = vec![format!("--fd={LISTENER}"), format!("--shared-dir={source}")];
    // Its own needs root, or namespaces that the sandbox of its service does not let it make.
    arguments.push("--sandbox=none".to_owned());
    arguments.extend(binary.cache.map(|cache| match cache {
        domain::devices::FsCache::None => "--cache=never".to_owned(),
        domain::devices::FsCache::Always => "--cache=always".to_owned(),
    }));
    arguments.extend((binary.xattr == Some(true)).then(|| "--xattr".to_owned()));
    arguments.extend(binary.threads.map(|threads| format!("--thread-pool-size={threads}")));
    arguments.extend(binary.open_files.map(|files| format!("--rlimit-nofile={files}")));
    arguments.extend(filesystem.readonly.then(|| "--readonly".to_owned()));
    for (option, ranges) in [("uid", &filesystem.uid_map), ("gid", &filesystem.gid_map)] {
        arguments.extend(ranges.iter().map(|range: &FsIdRange| {
            let number = |number: Option<u32>| number.unwrap_or_default();
            let (start, target) = (number(range.start), number(range.target));
            format!("--{option}-map=:{start}:{target}:{}:", number(range.count))
        }));
    }
    arguments
}
