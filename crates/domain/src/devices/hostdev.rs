//! Devices of the host in the guest, `<hostdev>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, Sgio, Teaming};

mod source;

pub use source::{
    GuestReset, HostDriver, HostDriverName, HostdevPolicy, HostdevSource, MediatedDevice,
    MediatedModel, PciSource, ScsiAdapter, ScsiHost, ScsiIscsi, ScsiSource, UsbSource,
};

crate::keywords! {
    /// What a device of the host is.
    pub enum HostdevType {
        /// A USB device.
        Usb = "usb",
        /// A PCI function.
        Pci = "pci",
        /// A SCSI device.
        Scsi = "scsi",
        /// A target of vhost-scsi.
        ScsiHost = "scsi_host",
        /// A mediated device.
        Mdev = "mdev",
    }
}

crate::keywords! {
    /// How a device is passed on.
    pub enum HostdevMode {
        /// A guest's kernel drives it.
        Subsystem = "subsystem",
        /// A container's programs use it.
        Capabilities = "capabilities",
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostdev {
    /// Where the element stands.
    pub place: Place,
    /// The device.
    pub source: HostdevSource,
    /// Whether it is taken from its driver and given back.
    pub managed: bool,
    /// Whether QEMU may send the SCSI device any command.
    pub raw_io: Option<bool>,
    /// The team that it is in.
    pub teaming: Option<Teaming>,
    /// Which SCSI commands pass.
    pub sgio: Option<Sgio>,
    /// Whether the guest cannot write to it.
    pub readonly: bool,
    /// Whether several guests have it.
    pub shareable: bool,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Hostdev {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let mode = reader.keyword::<HostdevMode>("mode");
        let _ = reader.required("type", "pci"); // The keyword itself is read next.
        if mode == Some(HostdevMode::Capabilities) {
            let _ = reader.raw(); // The device is refused whole.
            reader.refuse_attribute("mode", "is for containers; use subsystem");
            return None;
        }
        let Some(kind) = reader.keyword::<HostdevType>("type") else {
            let _ = reader.raw(); // Nothing else can be judged without the type.
            return None;
        };
        let source = HostdevSource::parse(reader, kind);
        Some(Self {
            place: reader.place(),
            managed: reader.yes_no("managed").unwrap_or(false),
            raw_io: reader.yes_no("rawio"),
            sgio: reader.keyword("sgio"),
            teaming: reader.child("teaming").and_then(|teaming| Teaming::parse(&teaming)),
            readonly: reader.child("readonly").is_some(),
            shareable: reader.child("shareable").is_some(),
            info: DeviceInfo::parse(reader),
            source: source?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer
            .element("hostdev")
            .attribute("mode", HostdevMode::Subsystem)
            .attribute("type", self.source.kind())
            .yes_no("managed", Some(self.managed))
            .yes_no("rawio", self.raw_io)
            .optional("sgio", self.sgio);
        self.source.write_attributes(element).children(|w| {
            self.source.write(w);
            if let Some(teaming) = &self.teaming {
                teaming.write(w);
            }
            if self.readonly {
                w.element("readonly").empty();
            }
            if self.shareable {
                w.element("shareable").empty();
            }
            self.info.write(w);
        });
    }
}
