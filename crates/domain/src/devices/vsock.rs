//! Sockets between guest and host, `<vsock>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioModel, VirtioOptions};

crate::attributes! {
    /// The guest's number.
    pub struct GuestCid {
        /// Whether the host chooses it at each start.
        pub auto: bool = yes_no "auto",
        /// The number, from 3 on.
        pub address: u32 = number "address",
    }
}

/// A device for sockets between guest and host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vsock {
    /// Where the element stands.
    pub place: Place,
    /// The virtio interface.
    pub model: Option<VirtioModel>,
    /// The guest's number.
    pub cid: GuestCid,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Vsock {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let driver = reader.child("driver");
        let cid = reader.child("cid");
        let mut number = cid.as_ref().map(GuestCid::parse).unwrap_or_default();
        if let Some(cid) = &cid
            && number.address.is_some_and(|address| address < 3)
        {
            cid.refuse_attribute("address", "0 to 2 are not for guests; give 3 or more");
        }
        if number.auto == Some(true) {
            // The number is the one of the last run.
            number.address = None;
        }
        Some(Self {
            place: reader.place(),
            model: reader.keyword("model"),
            cid: number,
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info: DeviceInfo::parse(reader),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("vsock").optional("model", self.model).children(|w| {
            self.cid.write("cid", w);
            self.virtio.write("driver", w);
            self.info.write(w);
        });
    }
}
