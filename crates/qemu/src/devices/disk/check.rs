//! What no guest can have: combinations of a disk's words that libvirt refuses, too.

use std::collections::BTreeSet;

use domain::devices::{
    self, Address, AddressType, AuthType, BlockIo, CacheMode, ControllerKind, Disk, DiskBus,
    DiskDevice, DiskFormat, DiskModel, DiskSource, EncryptionEngine, EncryptionFormat, ErrorPolicy,
    IoMode, NetworkProtocol, ScsiModel, SourceKind, StartupPolicy, Tray, VirtioOptions,
};
use domain::{Domain, Faults};

use super::drive;
use super::frontend::is_removable;
use crate::memory_backing;
use crate::storage::is_known;

/// Refuses disks that cannot be.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let disks = &domain.devices.disks;
    let (mut targets, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for disk in disks {
        let refuse = |what: &str| faults.push(disk.place.refused(what));
        for rule in [medium, bus_and_device, lun, texts, driver, virtio_only, source, address] {
            if let Err(what) = rule(disk) {
                refuse(what);
            }
        }
        if !targets.insert(&disk.target) {
            refuse("another disk has this target; give another");
        }
        let address = drive(disk).map(|at| (disk.bus(), at.controller, at.bus, at.target, at.unit));
        if address.is_some_and(|address| !addresses.insert(address)) {
            refuse("another disk has this address; give another or none");
        }
        if on_oldest_scsi(domain, disk) && drive(disk).is_some_and(|at| at.target != 0) {
            refuse("the controller model 'lsilogic' has no targets; use target='0' and a unit");
        }
        let server = matches!(disk.source.kind, SourceKind::VhostUser(_));
        if server && !memory_backing::is_shared(domain) {
            refuse("the server of a vhost-user disk must see memory; add <access mode='shared'/>");
        }
        let threads = disk.driver.iothread.iter().chain(disk.threads.iter().map(|it| &it.id));
        let known = domain.iothreads.ids();
        if threads.clone().any(|id| !known.contains(id)) {
            refuse("the disk's thread is not one of <iothreads>; add it there");
        }
        let groups = domain.throttle_groups.as_ref();
        let has = |name: &String| groups.is_some_and(|groups| groups.has(name));
        if !disk.throttle_filters.iter().all(has) {
            refuse("the group of a throttle filter is not in <throttlegroups>; add it there");
        }
    }
}

/// Whether a disk stands on a SCSI controller that takes its disks for targets.
fn on_oldest_scsi(domain: &Domain, disk: &Disk) -> bool {
    let number = drive(disk).map(|at| at.controller);
    let oldest = ControllerKind::Scsi(Some(ScsiModel::Lsilogic));
    let mut controllers = domain.devices.controllers.iter();
    disk.bus() == DiskBus::Scsi
        && controllers.any(|controller| controller.kind == oldest && controller.index == number)
}

type Rule = Result<(), &'static str>;

/// `what` if `wrong`.
fn unless(wrong: bool, what: &'static str) -> Rule {
    if wrong { Err(what) } else { Ok(()) }
}

fn medium(disk: &Disk) -> Rule {
    let empty = disk.source.is_empty();
    unless(
        empty && !is_removable(disk),
        "<source> is missing; only CD-ROM and floppy drives can be empty",
    )?;
    unless(
        empty && disk.bus() == DiskBus::Usb,
        "a drive on USB cannot be empty; give a <source> or use bus='sata'",
    )?;
    unless(
        disk.tray == Some(Tray::Open) && !is_removable(disk),
        "only CD-ROM and floppy drives have a tray; remove 'tray'",
    )?;
    unless(
        disk.source.startup_policy == Some(StartupPolicy::Requisite) && !is_removable(disk),
        "startupPolicy='requisite' is for CD-ROM and floppy drives; use another",
    )?;
    let network = matches!(disk.source.kind, SourceKind::Network(_));
    unless(
        network && disk.source.startup_policy.is_some(),
        "whether a server has the image is not known before; remove 'startupPolicy'",
    )
}

fn bus_and_device(disk: &Disk) -> Rule {
    let (bus, device) = (disk.bus(), disk.device());
    unless(
        device == DiskDevice::Floppy && bus != DiskBus::Fdc,
        "floppy drives stand on bus='fdc'; use it",
    )?;
    unless(
        device != DiskDevice::Floppy && bus == DiskBus::Fdc,
        "bus='fdc' has floppy drives only; use another bus or device='floppy'",
    )?;
    unless(
        device == DiskDevice::Cdrom && matches!(bus, DiskBus::Virtio | DiskBus::Sd),
        "the bus has no CD-ROM drives; use bus='sata', 'scsi', 'ide' or 'usb'",
    )?;
    unless(
        disk.removable.is_some() && !matches!(bus, DiskBus::Usb | DiskBus::Scsi),
        "'removable' is for disks on USB and SCSI; remove it",
    )?;
    let rotates = matches!(bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
    unless(
        disk.rotation_rate.is_some() && !(rotates && device == DiskDevice::Disk),
        "'rotation_rate' is for hard disks on SCSI, IDE and SATA; remove it",
    )?;
    let with_sizes = rotates || matches!(bus, DiskBus::Virtio | DiskBus::Usb);
    unless(
        disk.block_io != BlockIo::default() && !with_sizes,
        "the bus has no <blockio>; remove it",
    )?;
    unless(
        device == DiskDevice::Floppy && disk.target.prefix() != "fd",
        "a floppy drive has a name such as 'fda'; give <target dev='fda'/>",
    )?;
    unless(
        device != DiskDevice::Floppy && disk.target.prefix() == "fd",
        "a name such as 'fda' is of floppy drives; use another <target dev>",
    )?;
    let turns = disk.geometry != devices::Geometry::default();
    unless(
        turns && matches!(bus, DiskBus::Usb | DiskBus::Sd),
        "the bus has no <geometry>; remove it",
    )?;
    unless(
        disk.dpofua.is_some() && bus != DiskBus::Scsi,
        "'dpofua' is for disks on SCSI; remove it",
    )
}

fn lun(disk: &Disk) -> Rule {
    let lun = disk.device() == DiskDevice::Lun;
    let iscsi = match &disk.source.kind {
        SourceKind::Network(network) => network.protocol == NetworkProtocol::Iscsi,
        SourceKind::Block(_) | SourceKind::Volume(_) => true,
        SourceKind::File(_)
        | SourceKind::Dir(_)
        | SourceKind::Nvme(_)
        | SourceKind::VhostUser(_)
        | SourceKind::VhostVdpa(_) => false,
    };
    unless(lun && disk.bus() != DiskBus::Scsi, "device='lun' stands on bus='scsi'; use it")?;
    unless(lun && !iscsi, "device='lun' lies on a block device or iSCSI; use one of them")?;
    let raw = disk.driver.format.is_none_or(|format| format == DiskFormat::Raw);
    unless(lun && !raw, "device='lun' has no format; use <driver type='raw'/>")?;
    unless(
        (disk.rawio.is_some() || disk.sgio.is_some()) && !lun,
        "'rawio' and 'sgio' are for device='lun'; remove them",
    )?;
    unless(lun && disk.wwn.is_some(), "device='lun' has a <wwn> of its own; remove it")?;
    unless(
        lun && (disk.vendor.is_some() || disk.product.is_some()),
        "device='lun' has a <vendor> and <product> of its own; remove them",
    )?;
    unless(
        lun && disk.driver.copy_on_read == Some(true),
        "copy_on_read is not for device='lun'; remove it",
    )?;
    unless(
        !lun && disk.source.reservations.is_some(),
        "<reservations> is for device='lun'; remove it",
    )
}

/// What the guest reads about a disk.
fn texts(disk: &Disk) -> Rule {
    let printable = |text: &String, most: usize| {
        text.len() <= most && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    };
    let scsi = disk.bus() == DiskBus::Scsi;
    unless(
        (disk.vendor.is_some() || disk.product.is_some()) && !scsi,
        "<vendor> and <product> are for disks on SCSI; remove them",
    )?;
    unless(
        disk.vendor.as_ref().is_some_and(|text| !printable(text, 8)),
        "<vendor> is up to 8 printable characters; shorten it",
    )?;
    unless(
        disk.product.as_ref().is_some_and(|text| !printable(text, 16)),
        "<product> is up to 16 printable characters; shorten it",
    )?;
    let hexadecimal =
        |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    unless(
        disk.wwn.as_ref().is_some_and(|text| !hexadecimal(text)),
        "<wwn> is 16 hexadecimal digits; write it so",
    )?;
    let named = matches!(disk.bus(), DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
    unless(disk.wwn.is_some() && !named, "<wwn> is for disks on SCSI, IDE and SATA; remove it")?;
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_ .+".contains(c);
    unless(
        disk.serial.as_ref().is_some_and(|text| !text.chars().all(safe)),
        "<serial> is letters, digits and -_ .+; take out the others",
    )
}

fn driver(disk: &Disk) -> Rule {
    let driver = &disk.driver;
    unless(
        driver.name.as_deref().is_some_and(|name| name != "qemu"),
        "<driver> has another name than 'qemu'; QEMU serves all disks of its guests",
    )?;
    let raw = driver.format.is_none_or(|format| format == DiskFormat::Raw);
    unless(
        disk.shareable && !disk.readonly && !raw,
        "guests that share a disk would destroy this format; use raw or remove <shareable/>",
    )?;
    unless(
        driver.read_error_policy == Some(ErrorPolicy::Enospace),
        "reading fails for other reasons than a full disk; use another rerror_policy",
    )?;
    unless(
        disk.limits.is_some() && !disk.throttle_filters.is_empty(),
        "both <iotune> and <throttlefilters> are given; remove one",
    )?;
    unless(
        driver.copy_on_read == Some(true) && disk.readonly,
        "copy_on_read writes to the image, and <readonly/> forbids it; remove one",
    )?;
    let direct = matches!(driver.cache, Some(CacheMode::None | CacheMode::Directsync));
    unless(
        driver.io == Some(IoMode::Native) && !direct,
        "io='native' works without the host's cache only; use cache='none' or 'directsync'",
    )?;
    let qcow2 = driver.format == Some(DiskFormat::Qcow2);
    unless(
        driver.discard_no_unref.is_some() && (!qcow2 || disk.readonly),
        "discard_no_unref is for qcow2 images that are written; remove it",
    )?;
    unless(
        disk.source.data.is_some() && !qcow2,
        "<dataStore> is of qcow2 images; remove it or use <driver type='qcow2'/>",
    )?;
    unless(
        disk.metadata_cache.is_some() && !qcow2,
        "<metadata_cache> is for qcow2 images; remove it",
    )?;
    unless(
        driver.format == Some(DiskFormat::Dir),
        "QEMU has no format 'dir'; use <disk type='dir'> with <driver type='fat'/>",
    )?;
    let fat = driver.format == Some(DiskFormat::Fat);
    let directory = matches!(disk.source.kind, SourceKind::Dir(_));
    unless(fat && !directory, "the format 'fat' is for <disk type='dir'>; use raw")?;
    unless(directory && !disk.readonly, "a directory is shown for reading only; add <readonly/>")
}

fn virtio_only(disk: &Disk) -> Rule {
    let virtio = disk.bus() == DiskBus::Virtio;
    let driver = &disk.driver;
    unless(
        !virtio && (driver.ioeventfd.is_some() || driver.event_idx.is_some()),
        "'ioeventfd' and 'event_idx' are for bus='virtio'; remove them",
    )?;
    unless(
        !virtio && (driver.queues.is_some() || driver.queue_size.is_some()),
        "'queues' and 'queue_size' are for bus='virtio'; remove them",
    )?;
    let threads = driver.iothread.is_some() || !disk.threads.is_empty();
    unless(
        driver.queue_size.is_some_and(|size| !size.is_power_of_two()),
        "'queue_size' is a power of 2; give such as 256",
    )?;
    unless(!virtio && threads, "threads serve disks on bus='virtio'; remove 'iothread'")?;
    unless(
        driver.iothread.is_some() && !disk.threads.is_empty(),
        "both 'iothread' and <iothreads> are given; remove one",
    )?;
    unless(
        !virtio && disk.virtio != VirtioOptions::default(),
        "'iommu', 'ats', 'packed' and 'page_per_vq' are for bus='virtio'; remove them",
    )?;
    let model = disk.model.is_some_and(|model| model != DiskModel::Virtio);
    unless(!virtio && model, "the model is for bus='virtio'; remove it")?;
    queues(disk)
}

/// Each queue is served by one thread.
fn queues(disk: &Disk) -> Rule {
    let mut ids: Vec<u32> = disk.threads.iter().map(|thread| thread.id).collect();
    ids.sort_unstable();
    unless(ids.windows(2).any(|pair| pair[0] == pair[1]), "a thread is given twice; remove one")?;
    let some = disk.threads.iter().filter(|thread| !thread.queues.is_empty()).count();
    if some == 0 {
        return Ok(());
    }
    unless(some != disk.threads.len(), "give queues to all threads or to none")?;
    let Some(count) = disk.driver.queues else {
        return Err("queues of threads need the attribute 'queues' of <driver>; add it");
    };
    let mut queues: Vec<u32> =
        disk.threads.iter().flat_map(|thread| thread.queues.clone()).collect();
    queues.sort_unstable();
    unless(
        !queues.iter().copied().eq(0..count),
        "give each queue from 0 up to one below 'queues' to one thread",
    )
}

fn source(disk: &Disk) -> Rule {
    disk.source.chain().try_for_each(|source| {
        if let SourceKind::Network(network) = &source.kind {
            unless(!is_known(network.protocol), "no QEMU knows the protocol; use another")?;
            login(source, network.protocol)?;
        }
        encryption(source)
    })?;
    let server = matches!(disk.source.kind, SourceKind::VhostUser(_));
    unless(
        server && disk.bus() != DiskBus::Virtio,
        "a vhost-user disk stands on bus='virtio'; use it",
    )?;
    let own = &disk.driver;
    let has_words = disk.serial.is_some()
        || disk.readonly
        || disk.shareable
        || disk.transient
        || own.cache.is_some()
        || own.io.is_some()
        || own.discard.is_some()
        || own.detect_zeroes.is_some()
        || own.copy_on_read.is_some()
        || own.error_policy.is_some()
        || disk.limits.is_some()
        || !disk.throttle_filters.is_empty();
    let below = !matches!(disk.source.backing, devices::Backing::Unknown);
    let has_parts = disk.geometry != devices::Geometry::default()
        || disk.block_io != BlockIo::default()
        || disk.metadata_cache.is_some()
        || disk.source.encryption.is_some()
        || disk.source.auth.is_some()
        || disk.snapshot.is_some_and(|mode| mode != devices::SnapshotMode::No)
        || own.iothread.is_some()
        || own.ioeventfd.is_some()
        || below;
    unless(
        server && (has_words || has_parts),
        "the server of a vhost-user disk decides how it is read and written; remove those words",
    )
}

/// Who may log in, and with what.
fn login(source: &DiskSource, protocol: NetworkProtocol) -> Rule {
    use NetworkProtocol as P;
    let Some(auth) = &source.auth else { return Ok(()) };
    let anonymous =
        matches!(protocol, P::Nbd | P::Sheepdog | P::Gluster | P::Tftp | P::Vxhs | P::Nfs);
    unless(anonymous, "nobody logs in with this protocol; remove <auth>")?;
    unless(
        protocol == P::Iscsi && auth.kind != AuthType::Iscsi,
        "the <secret> of iSCSI has type='iscsi'; correct it",
    )?;
    unless(
        protocol == P::Rbd && auth.kind != AuthType::Ceph,
        "the <secret> of Ceph has type='ceph'; correct it",
    )
}

fn encryption(source: &DiskSource) -> Rule {
    let Some(encryption) = &source.encryption else { return Ok(()) };
    let old = matches!(encryption.format, EncryptionFormat::Default | EncryptionFormat::Qcow);
    unless(old, "no QEMU knows this encryption any more; use format='luks'")?;
    unless(encryption.secrets.is_empty(), "<encryption> has no <secret>; add one")?;
    if encryption.engine == Some(EncryptionEngine::Librbd) {
        let ceph = source.kind.protocol() == Some(NetworkProtocol::Rbd);
        return unless(!ceph, "engine='librbd' is for protocol='rbd'; remove it");
    }
    unless(
        encryption.format != EncryptionFormat::Luks,
        "QEMU itself decrypts format='luks' only; use it, or engine='librbd' for Ceph",
    )?;
    unless(encryption.secrets.len() > 1, "QEMU takes one <secret> only; remove the others")
}

/// Each bus has its kind of address.
fn address(disk: &Disk) -> Rule {
    let Some(address) = &disk.info.address else { return Ok(()) };
    let fits = match disk.bus() {
        DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi | DiskBus::Fdc => AddressType::Drive,
        DiskBus::Usb => AddressType::Usb,
        DiskBus::Virtio | DiskBus::Nvme => AddressType::Pci,
        DiskBus::Xen | DiskBus::Uml | DiskBus::Sd => return Ok(()),
    };
    unless(
        address.kind() != fits,
        "the bus has addresses of another type; correct <address> or remove it",
    )?;
    let Address::Drive(drive) = address else { return Ok(()) };
    unless(
        disk.bus() == DiskBus::Scsi && drive.bus != 0,
        "a SCSI controller has one bus only; use bus='0'",
    )?;
    let flat = matches!(disk.bus(), DiskBus::Ide | DiskBus::Sata | DiskBus::Fdc);
    unless(flat && drive.target != 0, "the bus has no targets; use target='0'")?;
    let single = matches!(disk.bus(), DiskBus::Sata | DiskBus::Fdc);
    unless(single && drive.bus != 0, "the controller has one bus; use bus='0'")
}
