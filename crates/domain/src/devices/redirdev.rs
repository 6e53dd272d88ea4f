//! USB devices of a remote client, `<redirdev>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Address, Chardev, DeviceInfo};

crate::keywords! {
    /// The bus of a redirected device.
    pub(crate) enum RedirdevBus {
        /// USB.
        Usb = "usb",
    }
}

/// A place for a USB device of a remote client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirdev {
    /// Where the element stands.
    pub place: Place,
    /// Where the client is.
    pub chardev: Chardev,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Redirdev {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _: Option<RedirdevBus> = reader.keyword("bus"); // There is only one.
        let info = DeviceInfo::parse(reader);
        if !matches!(info.address, None | Some(Address::Usb(_))) {
            reader.refuse("a redirected device stands on USB; give <address type='usb'/>");
        }
        Some(Self { place: reader.place(), info, chardev: Chardev::parse(reader)? })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("redirdev").attribute("bus", RedirdevBus::Usb);
        self.chardev.write_type(element).children(|w| {
            self.chardev.write(w);
            self.info.write(w);
        });
    }
}
