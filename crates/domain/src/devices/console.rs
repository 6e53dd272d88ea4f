//! Consoles, `<console>`: a serial port seen again, or a virtio port.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo};

crate::keywords! {
    /// What a console is in the guest.
    pub enum ConsoleTarget {
        /// The serial port of the same number.
        Serial = "serial",
        /// A port of a virtio serial controller.
        Virtio = "virtio",
        /// Xen's.
        Xen = "xen",
    }
}

/// A console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Where the element stands.
    pub place: Place,
    /// The host's side.
    pub chardev: Chardev,
    /// What it is in the guest; a serial port when nothing is written.
    pub target: Option<ConsoleTarget>,
    /// Its number.
    pub port: Option<u32>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Console {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.attribute("tty"); // The terminal of the last run.
        let target = reader.child("target");
        let target = target.as_ref();
        let info = DeviceInfo::parse(reader);
        Some(Self {
            place: reader.place(),
            target: target.and_then(|target| target.keyword("type")),
            port: target.and_then(|target| target.number("port")),
            info,
            chardev: Chardev::parse(reader)?,
        })
    }

    /// Whether the console is a serial port seen again, and no device of its own.
    #[must_use]
    pub fn is_serial(&self) -> bool {
        self.target.unwrap_or(ConsoleTarget::Serial) == ConsoleTarget::Serial
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.chardev.write_type(writer.element("console")).children(|w| {
            self.chardev.write(w);
            w.element("target")
                .optional("type", self.target)
                .optional("port", self.port)
                .empty_if_any();
            self.info.write(w);
        });
    }
}
