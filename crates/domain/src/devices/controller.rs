//! Controllers, `<controller>`: buses and what serves them.

use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, DiskThread, VirtioOptions};

mod models;

pub use models::{IdeModel, PciModel, PciModelName, ScsiModel, UsbModel, VirtioModel};

/// What a controller serves, with its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerKind {
    /// IDE disks.
    Ide(Option<IdeModel>),
    /// Floppy disks.
    Fdc,
    /// SCSI disks.
    Scsi(Option<ScsiModel>),
    /// SATA disks.
    Sata,
    /// Channels and consoles.
    VirtioSerial(Option<VirtioModel>),
    /// Smart cards.
    Ccid,
    /// USB devices.
    Usb(Option<UsbModel>),
    /// PCI devices.
    Pci(Option<PciModel>),
}

crate::keywords! {
    /// What a controller serves.
    pub enum ControllerType {
        /// IDE disks.
        Ide = "ide",
        /// Floppy disks.
        Fdc = "fdc",
        /// SCSI disks.
        Scsi = "scsi",
        /// SATA disks.
        Sata = "sata",
        /// Channels and consoles.
        VirtioSerial = "virtio-serial",
        /// Smart cards.
        Ccid = "ccid",
        /// USB devices.
        Usb = "usb",
        /// PCI devices.
        Pci = "pci",
        /// Xen's bus.
        Xenbus = "xenbus",
        /// Apple's ISA bridge.
        Isa = "isa",
    }
}

crate::attributes! {
    /// The numbers by which a PCI controller shows itself to the guest.
    pub struct PciTarget {
        /// The number of a bridge's chassis.
        pub chassis_number: u8 = number "chassisNr",
        /// The number of a port's chassis.
        pub chassis: u8 = number "chassis",
        /// The number of a port.
        pub port: u8 = hex "port",
        /// The number of an expander's bus.
        pub bus_number: u8 = number "busNr",
        /// Whether devices can be plugged into the running guest.
        pub hotplug: bool = on_off "hotplug",
    }
}

crate::attributes! {
    /// How a controller serves its disks.
    pub struct ControllerDriver {
        /// How many queues there are.
        pub queues: u32 = number "queues",
        /// How many requests a disk takes at once.
        pub commands_per_disk: u32 = number "cmd_per_lun",
        /// How many sectors a request has.
        pub max_sectors: u32 = number "max_sectors",
        /// Whether notifications leave the virtual CPU.
        pub ioeventfd: bool = on_off "ioeventfd",
        /// The thread that serves the controller.
        pub iothread: u32 = number "iothread",
    }
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Where the element stands.
    pub place: Place,
    /// What it serves, with its model.
    pub kind: ControllerKind,
    /// Its number among the controllers of its type; none takes the lowest free one.
    pub index: Option<u32>,
    /// How many ports it has: USB or virtio serial.
    pub ports: Option<u32>,
    /// How many interrupts a virtio serial controller has.
    pub vectors: Option<u32>,
    /// The device that plays a PCI controller's model.
    pub pci_model_name: Option<PciModelName>,
    /// The numbers of a PCI controller.
    pub pci_target: PciTarget,
    /// The NUMA node of what stands on a PCI expander.
    pub numa_node: Option<u32>,
    /// How much of the address space above 4 GiB a PCI root keeps for devices.
    pub pci_hole: Option<MemorySize>,
    /// How it serves its disks.
    pub driver: ControllerDriver,
    /// The threads that serve its queues.
    pub threads: Vec<DiskThread>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Controller {
    /// A controller that defaults add.
    #[must_use]
    pub fn new(kind: ControllerKind, index: u32) -> Self {
        Self {
            place: Place::default(),
            kind,
            index: Some(index),
            ports: None,
            vectors: None,
            pci_model_name: None,
            pci_target: PciTarget::default(),
            numa_node: None,
            pci_hole: None,
            driver: ControllerDriver::default(),
            threads: Vec::new(),
            virtio: VirtioOptions::default(),
            info: DeviceInfo::default(),
        }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "usb"); // The keyword itself is read next.
        let driver = reader.child("driver");
        let target = reader.child("target");
        if let Some(target) = &target {
            target.refuse_attributes(&["index", "memReserve"]);
        }
        let node = target.as_ref().and_then(|target| target.child("node"));
        let info = DeviceInfo::parse(reader);
        let model_name = reader.child("model").and_then(|model| model.keyword("name"));
        let kind = ControllerKind::parse(reader);
        Some(Self {
            place: reader.place(),
            index: reader.number("index"),
            ports: reader.number("ports"),
            vectors: reader.number("vectors"),
            pci_model_name: model_name,
            pci_target: target.map(|target| PciTarget::parse(&target)).unwrap_or_default(),
            numa_node: node.and_then(|node| node.text_number()),
            pci_hole: reader.child("pcihole64").and_then(|hole| MemorySize::parse(&hole)),
            virtio: driver.as_ref().map(VirtioOptions::parse).unwrap_or_default(),
            threads: driver.as_ref().map(DiskThread::parse_all).unwrap_or_default(),
            driver: driver.as_ref().map(ControllerDriver::parse).unwrap_or_default(),
            info,
            kind: kind?,
        })
    }

    /// What it serves.
    #[must_use]
    pub fn controller_type(&self) -> ControllerType {
        self.kind.controller_type()
    }

    /// The number among the controllers of its type; 0 before numbers are assigned.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.index.unwrap_or_default()
    }

    /// The model of a PCI controller.
    #[must_use]
    pub fn pci_model(&self) -> Option<PciModel> {
        if let ControllerKind::Pci(model) = self.kind { model } else { None }
    }

    /// The model of a USB controller.
    #[must_use]
    pub fn usb_model(&self) -> Option<UsbModel> {
        if let ControllerKind::Usb(model) = self.kind { model } else { None }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("controller")
            .attribute("type", self.controller_type())
            .optional("index", self.index)
            .optional("model", self.kind.model())
            .optional("ports", self.ports)
            .optional("vectors", self.vectors)
            .children(|w| {
                let driver = self.driver.write_attributes(w.element("driver"));
                self.virtio
                    .write_attributes(driver)
                    .children_if_any(|w| DiskThread::write_all(&self.threads, w));
                w.element("model").optional("name", self.pci_model_name).empty_if_any();
                let target = self.pci_target.write_attributes(w.element("target"));
                target.children_if_any(|w| {
                    if let Some(node) = self.numa_node {
                        w.element("node").text(node);
                    }
                });
                if let Some(size) = self.pci_hole {
                    size.write("pcihole64", w);
                }
                self.info.write(w);
            });
    }
}

impl ControllerKind {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        Some(match reader.keyword::<ControllerType>("type")? {
            ControllerType::Ide => Self::Ide(reader.keyword("model")),
            ControllerType::Fdc => Self::Fdc,
            ControllerType::Scsi => Self::Scsi(reader.keyword("model")),
            ControllerType::Sata => Self::Sata,
            ControllerType::VirtioSerial => Self::VirtioSerial(reader.keyword("model")),
            ControllerType::Ccid => Self::Ccid,
            ControllerType::Usb => Self::Usb(reader.keyword("model")),
            ControllerType::Pci => Self::Pci(reader.keyword("model")),
            ControllerType::Xenbus | ControllerType::Isa => {
                reader.refuse_attribute("type", "no such controller in a supported guest");
                return None;
            }
        })
    }

    /// What it serves.
    #[must_use]
    pub fn controller_type(self) -> ControllerType {
        match self {
            Self::Ide(_) => ControllerType::Ide,
            Self::Fdc => ControllerType::Fdc,
            Self::Scsi(_) => ControllerType::Scsi,
            Self::Sata => ControllerType::Sata,
            Self::VirtioSerial(_) => ControllerType::VirtioSerial,
            Self::Ccid => ControllerType::Ccid,
            Self::Usb(_) => ControllerType::Usb,
            Self::Pci(_) => ControllerType::Pci,
        }
    }

    fn model(self) -> Option<&'static str> {
        match self {
            Self::Ide(model) => model.map(IdeModel::as_str),
            Self::Scsi(model) => model.map(ScsiModel::as_str),
            Self::VirtioSerial(model) => model.map(VirtioModel::as_str),
            Self::Usb(model) => model.map(UsbModel::as_str),
            Self::Pci(model) => model.map(PciModel::as_str),
            Self::Fdc | Self::Sata | Self::Ccid => None,
        }
    }
}
