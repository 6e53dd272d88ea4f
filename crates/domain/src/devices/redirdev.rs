//! USB devices of a remote client, `<redirdev>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo, HubType};

/// A USB device of a remote client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirdev {
    /// Where the element stands.
    pub place: Place,
    /// The connection to the client.
    pub chardev: Chardev,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Redirdev {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let info = DeviceInfo::parse(reader);
        // USB is the only bus, and the one that is meant when nothing is written.
        let _ = reader.keyword::<HubType>("bus");
        Some(Self { place: reader.place(), chardev: Chardev::parse(reader)?, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("redirdev").attribute("bus", HubType::Usb);
        self.chardev.write_type(element).children(|w| {
            self.chardev.write(w);
            self.info.write(w);
        });
    }
}
