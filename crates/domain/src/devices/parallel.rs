//! Parallel ports, `<parallel>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo};

/// A parallel port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parallel {
    /// Where the element stands.
    pub place: Place,
    /// The host's side.
    pub chardev: Chardev,
    /// Its number.
    pub port: Option<u32>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Parallel {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let target = reader.child("target");
        let info = DeviceInfo::parse(reader);
        Some(Self {
            place: reader.place(),
            port: target.and_then(|target| target.number("port")),
            info,
            chardev: Chardev::parse(reader)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.chardev.write_type(writer.element("parallel")).children(|w| {
            self.chardev.write(w);
            w.element("target").optional("port", self.port).empty_if_any();
            self.info.write(w);
        });
    }
}
