//! Private channels between guest and host, `<channel>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo};

crate::keywords! {
    /// How the guest sees a channel.
    pub enum ChannelTarget {
        /// A named port of a virtio serial controller.
        Virtio = "virtio",
        /// A TCP address of the user-mode network.
        Guestfwd = "guestfwd",
    }
}

/// A private channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Where the element stands.
    pub place: Place,
    /// The host's side.
    pub chardev: Chardev,
    /// The name that the guest sees, such as `org.qemu.guest_agent.0`.
    pub name: Option<String>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Channel {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let Some(target) = reader.child("target") else {
            reader.refuse("<target> is missing; add <target type='virtio' name='...'/>");
            return None;
        };
        let info = DeviceInfo::parse(reader);
        let _ = target.required("type", "virtio"); // The keyword itself is read next.
        let _ = target.attribute("state"); // What the guest last did with it.
        match target.keyword("type")? {
            ChannelTarget::Virtio => {}
            ChannelTarget::Guestfwd => {
                let _ = (target.raw(), reader.raw()); // The channel is refused whole.
                target.refuse_attribute("type", "not supported yet by glassbox; use virtio");
                return None;
            }
        }
        Some(Self {
            place: reader.place(),
            name: target.string("name"),
            info,
            chardev: Chardev::parse(reader)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.chardev.write_type(writer.element("channel")).children(|w| {
            self.chardev.write(w);
            w.element("target")
                .attribute("type", ChannelTarget::Virtio)
                .optional("name", self.name.as_ref())
                .empty();
            self.info.write(w);
        });
    }
}
