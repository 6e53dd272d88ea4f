//! Serial ports, `<serial>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo};

crate::keywords! {
    /// The bus of a serial port.
    pub enum SerialTarget {
        /// ISA.
        Isa = "isa-serial",
        /// USB.
        Usb = "usb-serial",
        /// PCI.
        Pci = "pci-serial",
        /// The debug port of ISA.
        IsaDebug = "isa-debug",
        /// The machine's own, without a bus.
        System = "system-serial",
    }
}

crate::keywords! {
    /// The device of a serial port.
    pub enum SerialModel {
        /// The PC's UART.
        Isa = "isa-serial",
        /// A UART on USB.
        Usb = "usb-serial",
        /// A UART on PCI.
        Pci = "pci-serial",
        /// QEMU's debug console.
        IsaDebugcon = "isa-debugcon",
        /// ARM's UART.
        Pl011 = "pl011",
        /// RISC-V's UART.
        Uart16550a = "16550a",
    }
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serial {
    /// Where the element stands.
    pub place: Place,
    /// The host's side.
    pub chardev: Chardev,
    /// The bus.
    pub target: Option<SerialTarget>,
    /// The device.
    pub model: Option<SerialModel>,
    /// Its number.
    pub port: Option<u32>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Serial {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let target = reader.child("target");
        let target = target.as_ref();
        let model = target.and_then(|target| target.child("model"));
        let info = DeviceInfo::parse(reader);
        Some(Self {
            place: reader.place(),
            target: target.and_then(|target| target.keyword("type")),
            model: model.and_then(|model| model.keyword("name")),
            port: target.and_then(|target| target.number("port")),
            info,
            chardev: Chardev::parse(reader)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.chardev.write_type(writer.element("serial")).children(|w| {
            self.chardev.write(w);
            w.element("target")
                .optional("type", self.target)
                .optional("port", self.port)
                .children_if_any(|w| {
                    w.element("model").optional("name", self.model).empty_if_any();
                });
            self.info.write(w);
        });
    }
}
