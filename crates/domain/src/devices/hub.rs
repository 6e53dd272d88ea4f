//! USB hubs, `<hub>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// What a hub is for.
    pub enum HubType {
        /// USB.
        Usb = "usb",
    }
}

/// A USB hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hub {
    /// Where the element stands.
    pub place: Place,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Hub {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let info = DeviceInfo::parse(reader);
        let _ = reader.required("type", "usb")?; // The keyword itself is read next.
        reader.keyword::<HubType>("type")?;
        Some(Self { place: reader.place(), info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("hub").attribute("type", HubType::Usb);
        element.children(|w| self.info.write(w));
    }
}
