//! Where a device stands on its bus, `<address>`.

use crate::pci_address::PciAddress;
use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

crate::keywords! {
    /// A kind of bus.
    pub enum AddressType {
        /// PCI and PCI Express.
        Pci = "pci",
        /// Disks on a controller.
        Drive = "drive",
        /// Ports of a virtio serial controller.
        VirtioSerial = "virtio-serial",
        /// Slots of a smart card reader.
        Ccid = "ccid",
        /// USB.
        Usb = "usb",
        /// Registers of ISA.
        Isa = "isa",
        /// Slots of memory.
        Dimm = "dimm",
        /// No bus: the device is kept out of the guest.
        Unassigned = "unassigned",
        /// Registers of a machine without PCI.
        VirtioMmio = "virtio-mmio",
        /// Channels of s390.
        Ccw = "ccw",
        /// Virtual I/O of POWER.
        SpaprVio = "spapr-vio",
        /// A mediated device of the host.
        Mdev = "mdev",
    }
}

/// An address on PCI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PciPlace {
    /// The address; the one that is "not assigned" asks for an address on PCI.
    pub address: PciAddress,
    /// Whether the slot's other functions are in use.
    pub multifunction: Option<bool>,
}

/// A disk on a controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriveAddress {
    /// The controller's index.
    pub controller: u32,
    /// The controller's bus.
    pub bus: u32,
    /// The target on the bus.
    pub target: u32,
    /// The unit of the target.
    pub unit: u32,
}

/// A port of a virtio serial controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VirtioSerialAddress {
    /// The controller's index.
    pub controller: u32,
    /// Always 0.
    pub bus: u32,
    /// The port; none asks for one.
    pub port: Option<u32>,
}

/// A slot of a smart card reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CcidAddress {
    /// The reader's index.
    pub controller: u32,
    /// The slot.
    pub slot: u32,
}

/// A port of a USB bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsbAddress {
    /// The controller's index.
    pub bus: u32,
    /// The ports on the way through hubs, such as `1.2`; empty asks for one.
    pub port: Vec<u32>,
}

/// Registers of ISA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IsaAddress {
    /// The first port.
    pub iobase: Option<u32>,
    /// The interrupt.
    pub irq: Option<u32>,
}

/// A slot of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DimmAddress {
    /// The slot.
    pub slot: Option<u32>,
    /// The guest's physical address.
    pub base: Option<u64>,
}

/// Where a device stands on its bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// PCI and PCI Express.
    Pci(PciPlace),
    /// A disk on a controller.
    Drive(DriveAddress),
    /// A port of a virtio serial controller.
    VirtioSerial(VirtioSerialAddress),
    /// A slot of a smart card reader.
    Ccid(CcidAddress),
    /// USB.
    Usb(UsbAddress),
    /// Registers of ISA.
    Isa(IsaAddress),
    /// A slot of memory.
    Dimm(DimmAddress),
    /// No bus.
    Unassigned,
}

impl Address {
    /// Reads an `<address>`; an address that no supported guest has is refused.
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "pci"); // The keyword itself is read next.
        match reader.keyword::<AddressType>("type")? {
            AddressType::Pci => PciPlace::parse(reader).map(Self::Pci),
            AddressType::Drive => Some(Self::Drive(DriveAddress::parse(reader))),
            AddressType::VirtioSerial => {
                Some(Self::VirtioSerial(VirtioSerialAddress::parse(reader)))
            }
            AddressType::Ccid => Some(Self::Ccid(CcidAddress {
                controller: reader.number("controller").unwrap_or_default(),
                slot: reader.number("slot").unwrap_or_default(),
            })),
            AddressType::Usb => Some(Self::Usb(UsbAddress::parse(reader))),
            AddressType::Isa => Some(Self::Isa(IsaAddress {
                iobase: reader.number("iobase"),
                irq: reader.number("irq"),
            })),
            AddressType::Dimm => Some(Self::Dimm(DimmAddress {
                slot: reader.number("slot"),
                base: reader.number("base"),
            })),
            AddressType::Unassigned => Some(Self::Unassigned),
            AddressType::VirtioMmio
            | AddressType::Ccw
            | AddressType::SpaprVio
            | AddressType::Mdev => {
                let _ = reader.raw(); // The address is refused whole.
                reader.refuse_attribute("type", "no such bus in a supported guest; use pci");
                None
            }
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("address").attribute("type", self.kind());
        match self {
            Self::Pci(pci) => pci.write(element),
            Self::Drive(drive) => drive.write(element),
            Self::VirtioSerial(port) => element
                .attribute("controller", port.controller)
                .attribute("bus", port.bus)
                .optional("port", port.port)
                .empty(),
            Self::Ccid(ccid) => {
                element
                    .attribute("controller", ccid.controller)
                    .attribute("slot", ccid.slot)
                    .empty();
            }
            Self::Usb(usb) => {
                let port = (!usb.port.is_empty()).then(|| usb.port_path());
                element.attribute("bus", usb.bus).optional("port", port).empty();
            }
            Self::Isa(isa) => element
                .optional("iobase", isa.iobase.map(|iobase| format!("0x{iobase:x}")))
                .optional("irq", isa.irq.map(|irq| format!("0x{irq:x}")))
                .empty(),
            Self::Dimm(dimm) => element
                .optional("slot", dimm.slot)
                .optional("base", dimm.base.map(|base| format!("0x{base:x}")))
                .empty(),
            Self::Unassigned => element.empty(),
        }
    }

    /// The kind of bus.
    #[must_use]
    pub fn kind(&self) -> AddressType {
        match self {
            Self::Pci(_) => AddressType::Pci,
            Self::Drive(_) => AddressType::Drive,
            Self::VirtioSerial(_) => AddressType::VirtioSerial,
            Self::Ccid(_) => AddressType::Ccid,
            Self::Usb(_) => AddressType::Usb,
            Self::Isa(_) => AddressType::Isa,
            Self::Dimm(_) => AddressType::Dimm,
            Self::Unassigned => AddressType::Unassigned,
        }
    }
}

impl PciPlace {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_children(&["zpci"]);
        let multifunction = reader.on_off("multifunction");
        Some(Self { address: PciAddress::parse(reader)?, multifunction })
    }

    fn write(&self, element: OpenElement<'_>) {
        if self.address.is_unassigned() {
            return element.on_off("multifunction", self.multifunction).empty();
        }
        self.address.write_attributes(element).on_off("multifunction", self.multifunction).empty();
    }
}

impl DriveAddress {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        Self {
            controller: reader.number("controller").unwrap_or_default(),
            bus: reader.number("bus").unwrap_or_default(),
            target: reader.number("target").unwrap_or_default(),
            unit: reader.number("unit").unwrap_or_default(),
        }
    }

    fn write(self, element: OpenElement<'_>) {
        element
            .attribute("controller", self.controller)
            .attribute("bus", self.bus)
            .attribute("target", self.target)
            .attribute("unit", self.unit)
            .empty();
    }
}

impl VirtioSerialAddress {
    fn parse(reader: &Reader<'_>) -> Self {
        Self {
            controller: reader.number("controller").unwrap_or_default(),
            bus: reader.number("bus").unwrap_or_default(),
            port: reader.number("port"),
        }
    }
}

impl UsbAddress {
    fn parse(reader: &Reader<'_>) -> Self {
        let bus = reader.number("bus").unwrap_or_default();
        let Some(text) = reader.attribute("port") else { return Self { bus, port: Vec::new() } };
        let port: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        let fits = |port: &Vec<u32>| port.len() <= 4 && !port.contains(&0);
        match port.ok().filter(fits) {
            Some(port) => Self { bus, port },
            None => {
                let what = format!("'{text}' is no USB port; write up to four numbers such as 1.2");
                reader.refuse_attribute("port", what);
                Self { bus, port: Vec::new() }
            }
        }
    }

    /// The port as QEMU and the format write it, such as `1.2`.
    #[must_use]
    pub fn port_path(&self) -> String {
        self.port.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
    }
}
