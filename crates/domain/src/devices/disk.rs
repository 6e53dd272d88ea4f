//! Disks, `<disk>`: what the guest sees and what it lies on.

use crate::disk_target::DiskTarget;
use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

mod driver;
mod source;

pub use driver::{CacheMode, DetectZeroes, DiscardMode, DiskDriver, ErrorPolicy, IoMode};
pub use source::{DiskFormat, DiskSource, SourceKind, SourceType, StartupPolicy};

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

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where the element stands.
    pub place: Place,
    /// What the guest sees; a hard disk when nothing is written.
    pub device: Option<DiskDevice>,
    /// The virtio interface.
    pub model: Option<DiskModel>,
    /// How it is served.
    pub driver: DiskDriver,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What it lies on.
    pub source: DiskSource,
    /// Sizes of its blocks.
    pub block_io: BlockIo,
    /// Its name in the guest.
    pub target: DiskTarget,
    /// Its bus.
    pub bus: Option<DiskBus>,
    /// Whether its tray is open.
    pub tray: Option<Tray>,
    /// Whether the guest sees a removable disk.
    pub removable: Option<bool>,
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
const UNSUPPORTED: [&str; 7] = [
    "auth",
    "mirror",
    "geometry",
    "iotune",
    "throttlefilters",
    "encryption",
    "diskSecretsPlacement",
];

impl Disk {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_attributes(&["rawio", "sgio", "snapshot"]);
        reader.refuse_children(&UNSUPPORTED);
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_children(&driver::UNSUPPORTED);
        }
        let source = DiskSource::parse(reader);
        let block_io = reader.child("blockio");
        let info = DeviceInfo::parse(reader);
        let text = |name: &str| reader.child(name).map(|child| child.text().into_owned());
        let Some(target) = reader.child("target") else {
            let _ = reader.raw(); // One message is enough for a disk without a name.
            reader.refuse("<target> is missing; add one such as <target dev='vda' bus='virtio'/>");
            return None;
        };
        target.refuse_attributes(&["rotation_rate", "dpofua"]);
        let _ = target.required("dev", "vda"); // The name itself is read below.
        Some(Self {
            place: reader.place(),
            device: reader.keyword("device"),
            model: reader.keyword("model"),
            virtio: driver.as_ref().map(VirtioOptions::parse).unwrap_or_default(),
            driver: driver.as_ref().map(DiskDriver::parse).unwrap_or_default(),
            block_io: block_io.map(|block_io| BlockIo::parse(&block_io)).unwrap_or_default(),
            bus: target.keyword("bus"),
            tray: target.keyword("tray"),
            removable: target.on_off("removable"),
            readonly: reader.child("readonly").is_some(),
            shareable: reader.child("shareable").is_some(),
            transient: reader.child("transient").is_some(),
            serial: text("serial"),
            wwn: text("wwn"),
            vendor: text("vendor"),
            product: text("product"),
            info,
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
            .children(|w| {
                let driver = self.driver.write_attributes(w.element("driver"));
                self.virtio.write_attributes(driver).empty_if_any();
                self.source.write(w);
                self.block_io.write("blockio", w);
                w.element("target")
                    .attribute("dev", &self.target)
                    .attribute("bus", self.bus())
                    .optional("tray", self.tray)
                    .on_off("removable", self.removable)
                    .empty();
                self.write_flags(w);
                self.info.write(w);
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
