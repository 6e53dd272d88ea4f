//! Disks, `<disk>`: what the guest sees and what it lies on.

use crate::block_limits::BlockLimits;
use crate::disk_target::DiskTarget;
use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::tree::Node;
use crate::writer::Writer;

use super::{DeviceInfo, Sgio, VirtioOptions};

mod backing;
mod driver;
mod network;
mod secret;
mod source;

pub use backing::{Backing, BackingImage, Slice};
pub use driver::{
    CacheMode, DetectZeroes, DiscardMode, DiskDriver, DiskThread, ErrorPolicy, IoMode,
};
pub use network::{NetworkHost, NetworkIdentity, NetworkProtocol, NetworkSource, NetworkTransport};
pub use secret::{Auth, AuthType, Encryption, EncryptionEngine, EncryptionFormat, SecretKey};
pub use source::{
    DiskFormat, DiskSource, NvmeSource, Reservations, SourceKind, SourceType, StartupPolicy,
    VhostUserSource, VolumeMode, VolumeSource,
};

crate::keywords! {
    /// What the guest sees.
    pub enum DiskDevice {
        /// A hard disk.
        Disk = "disk",
        /// A CD-ROM drive.
        Cdrom = "cdrom",
        /// A floppy drive.
        Floppy = "floppy",
        /// A SCSI device of the host.
        Lun = "lun",
    }
}

crate::keywords! {
    /// The bus of a disk.
    pub enum DiskBus {
        /// IDE.
        Ide = "ide",
        /// The floppy controller.
        Fdc = "fdc",
        /// SCSI.
        Scsi = "scsi",
        /// virtio.
        Virtio = "virtio",
        /// Xen's.
        Xen = "xen",
        /// USB.
        Usb = "usb",
        /// User-mode Linux's.
        Uml = "uml",
        /// SATA.
        Sata = "sata",
        /// SD cards.
        Sd = "sd",
        /// NVMe.
        Nvme = "nvme",
    }
}

crate::keywords! {
    /// Interfaces of a virtio disk.
    pub enum DiskModel {
        /// What suits the bus.
        Virtio = "virtio",
        /// With the old interface.
        Transitional = "virtio-transitional",
        /// Without it.
        NonTransitional = "virtio-non-transitional",
    }
}

crate::keywords! {
    /// Whether the tray of a drive is open.
    pub enum Tray {
        /// It is closed.
        Closed = "closed",
        /// It is open.
        Open = "open",
    }
}

crate::attributes! {
    /// Sizes of the disk's blocks.
    pub struct BlockIo {
        /// What the guest addresses, in bytes.
        pub logical_block_size: u32 = number "logical_block_size",
        /// What the disk writes at once, in bytes.
        pub physical_block_size: u32 = number "physical_block_size",
        /// What it discards at once, in bytes.
        pub discard_granularity: u32 = number "discard_granularity",
    }
}

crate::keywords! {
    /// What a snapshot of the guest does with a disk.
    pub enum SnapshotMode {
        /// Nothing.
        No = "no",
        /// It is kept in the image.
        Internal = "internal",
        /// Later writes go to another image.
        External = "external",
        /// Somebody else makes it.
        Manual = "manual",
    }
}

crate::keywords! {
    /// How the BIOS counts cylinders.
    pub enum Translation {
        /// As they are.
        None = "none",
        /// As it likes.
        Auto = "auto",
        /// Through blocks.
        Lba = "lba",
    }
}

crate::attributes! {
    /// How the guest's BIOS sees the disk.
    pub struct Geometry {
        /// Cylinders.
        pub cylinders: u32 = number "cyls",
        /// Heads.
        pub heads: u32 = number "heads",
        /// Sectors of a track.
        pub sectors: u32 = number "secs",
        /// How the BIOS counts cylinders.
        pub translation: Translation = keyword "trans",
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where the element stands.
    pub place: Place,
    /// What the guest sees; a hard disk when nothing is written.
    pub device: Option<DiskDevice>,
    /// The virtio interface.
    pub model: Option<DiskModel>,
    /// Whether the guest may send it any SCSI command.
    pub rawio: Option<bool>,
    /// Which SCSI commands pass.
    pub sgio: Option<Sgio>,
    /// What snapshots do with it.
    pub snapshot: Option<SnapshotMode>,
    /// How it is served.
    pub driver: DiskDriver,
    /// The threads that serve its queues.
    pub threads: Vec<DiskThread>,
    /// Most that is kept of a qcow2 image's tables.
    pub metadata_cache: Option<MemorySize>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What it lies on.
    pub source: DiskSource,
    /// How the BIOS sees it.
    pub geometry: Geometry,
    /// Sizes of its blocks.
    pub block_io: BlockIo,
    /// Its name in the guest.
    pub target: DiskTarget,
    /// Its bus.
    pub bus: Option<DiskBus>,
    /// Whether its tray is open.
    pub tray: Option<Tray>,
    /// Rotations a minute that the guest sees; 1 is a disk that does not rotate.
    pub rotation_rate: Option<u16>,
    /// Whether the guest sees a removable disk.
    pub removable: Option<bool>,
    /// Whether the guest may ask for writes that are on the medium when they end.
    pub dpofua: Option<bool>,
    /// Limits of its own.
    pub limits: Option<BlockLimits>,
    /// Names of groups of limits that it shares with others, the nearest to the image first.
    pub throttle_filters: Vec<String>,
    /// Whether the guest cannot write to it.
    pub readonly: bool,
    /// Whether several guests use it.
    pub shareable: bool,
    /// Whether what the guest writes is lost when it ends.
    pub transient: bool,
    /// The serial number that the guest sees.
    pub serial: Option<String>,
    /// The world-wide name that the guest sees, 16 hexadecimal digits.
    pub wwn: Option<String>,
    /// The vendor that the guest sees.
    pub vendor: Option<String>,
    /// The product that the guest sees.
    pub product: Option<String>,
    /// What all devices have.
    pub info: DeviceInfo,
}

/// Children that libvirt knows and that are not read yet.
const UNSUPPORTED: [&str; 2] = ["backenddomain", "diskSecretsPlacement"];

impl Disk {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_children(&UNSUPPORTED);
        for mirror in reader.children("mirror") {
            mirror.ignore("a running guest's copy; no copy is begun with the guest, remove it");
        }
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_children(&driver::UNSUPPORTED);
        }
        let source = DiskSource::parse(reader);
        let Some(target) = reader.child("target") else {
            let _ = reader.raw(); // One message is enough for a disk without a name.
            reader.refuse("<target> is missing; add one such as <target dev='vda' bus='virtio'/>");
            return None;
        };
        let _ = target.required("dev", "vda"); // The name itself is read later.
        Self::read(reader, driver.as_ref(), &target, source)
    }

    fn read(
        reader: &Reader<'_>,
        driver: Option<&Reader<'_>>,
        target: &Reader<'_>,
        source: Option<DiskSource>,
    ) -> Option<Self> {
        let text = |name: &str| reader.child(name).map(|child| child.text().into_owned());
        let filters = reader.child("throttlefilters");
        let filters = filters.iter().flat_map(|filters| filters.children("throttlefilter"));
        Some(Self {
            place: reader.place(),
            device: reader.keyword("device"),
            model: reader.keyword("model"),
            rawio: reader.yes_no("rawio"),
            sgio: reader.keyword("sgio"),
            snapshot: reader.keyword("snapshot"),
            virtio: driver.map(VirtioOptions::parse).unwrap_or_default(),
            driver: driver.map(DiskDriver::parse).unwrap_or_default(),
            threads: driver.map(DiskThread::parse_all).unwrap_or_default(),
            metadata_cache: driver.and_then(backing::parse_metadata_cache),
            geometry: reader.child("geometry").map(|it| Geometry::parse(&it)).unwrap_or_default(),
            block_io: reader.child("blockio").map(|it| BlockIo::parse(&it)).unwrap_or_default(),
            bus: target.keyword("bus"),
            tray: target.keyword("tray"),
            rotation_rate: target.number("rotation_rate"),
            removable: target.on_off("removable"),
            dpofua: target.on_off("dpofua"),
            limits: reader.child("iotune").map(|iotune| BlockLimits::parse(&iotune)),
            throttle_filters: filters
                .filter_map(|filter| Some(filter.required("group", "limit0")?.to_owned()))
                .collect(),
            readonly: reader.child("readonly").is_some(),
            shareable: reader.child("shareable").is_some(),
            transient: transient(reader),
            serial: reader.child("serial").map(|serial| exact_text(&serial)),
            wwn: text("wwn"),
            vendor: text("vendor"),
            product: text("product"),
            info: DeviceInfo::parse(reader),
            target: target.value("dev")?,
            source: source?,
        })
    }

    /// What the guest sees.
    #[must_use]
    pub fn device(&self) -> DiskDevice {
        self.device.unwrap_or(DiskDevice::Disk)
    }

    /// The bus; a target's prefix names it when nothing is written.
    #[must_use]
    pub fn bus(&self) -> DiskBus {
        self.bus.unwrap_or_else(|| match self.target.prefix() {
            "hd" => DiskBus::Ide,
            "sd" => DiskBus::Scsi,
            "fd" => DiskBus::Fdc,
            "xvd" => DiskBus::Xen,
            "ubd" => DiskBus::Uml,
            _ => DiskBus::Virtio,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("disk")
            .attribute("type", self.source.kind.source_type())
            .attribute("device", self.device())
            .optional("model", self.model)
            .yes_no("rawio", self.rawio)
            .optional("sgio", self.sgio)
            .optional("snapshot", self.snapshot)
            .children(|w| {
                let driver = self.driver.write_attributes(w.element("driver"));
                self.virtio.write_attributes(driver).children_if_any(|w| {
                    DiskThread::write_all(&self.threads, w);
                    backing::write_metadata_cache(self.metadata_cache, w);
                });
                self.source.write_of_disk(w);
                self.source.write(self.source.index, w);
                self.source.backing.write(w);
                self.geometry.write("geometry", w);
                self.block_io.write("blockio", w);
                self.write_target(w);
                self.write_flags(w);
                self.source.write_encryption_of_disk(w);
                self.info.write(w);
            });
    }

    fn write_target(&self, w: &mut Writer) {
        w.element("target")
            .attribute("dev", &self.target)
            .attribute("bus", self.bus())
            .optional("tray", self.tray)
            .optional("rotation_rate", self.rotation_rate)
            .on_off("removable", self.removable)
            .on_off("dpofua", self.dpofua)
            .empty();
        if let Some(limits) = &self.limits {
            limits.write("iotune", w);
        }
        w.element("throttlefilters").children_if_any(|w| {
            for group in &self.throttle_filters {
                w.element("throttlefilter").attribute("group", group).empty();
            }
        });
    }

    fn write_flags(&self, writer: &mut Writer) {
        for (name, present) in [
            ("readonly", self.readonly),
            ("shareable", self.shareable),
            ("transient", self.transient),
        ] {
            if present {
                writer.element(name).empty();
            }
        }
        for (name, text) in [
            ("serial", &self.serial),
            ("wwn", &self.wwn),
            ("vendor", &self.vendor),
            ("product", &self.product),
        ] {
            if let Some(text) = text {
                writer.element(name).text(text);
            }
        }
    }
}

/// Whether what the guest writes is lost. That several guests share an image below is not read yet.
fn transient(reader: &Reader<'_>) -> bool {
    let Some(transient) = reader.child("transient") else { return false };
    transient.refuse_attributes(&["shareBacking"]);
    true
}

/// A text with the spaces around it, which count.
fn exact_text(reader: &Reader<'_>) -> String {
    let children = reader.raw().children.iter();
    let texts = children.filter_map(|child| match child {
        Node::Text(text) => Some(text.as_ref()),
        Node::Element(_) => None,
    });
    texts.collect()
}
