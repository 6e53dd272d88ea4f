//! Private channels between guest and host, `<channel>`.

use std::net::Ipv4Addr;

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

/// What a channel is in the guest, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelPort {
    /// A port of a virtio serial controller with this name, such as `org.qemu.guest_agent.0`.
    Virtio(Option<String>),
    /// A TCP address of the user-mode network.
    Guestfwd {
        /// The IPv4 address.
        address: Ipv4Addr,
        /// The port.
        port: u16,
    },
}

/// A private channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Where the element stands.
    pub place: Place,
    /// The host's side.
    pub chardev: Chardev,
    /// What it is in the guest.
    pub port: ChannelPort,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Channel {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let info = DeviceInfo::parse(reader);
        let chardev = Chardev::parse(reader);
        let Some(target) = reader.child("target") else {
            reader.refuse("<target> is missing; add <target type='virtio' name='...'/>");
            return None;
        };
        let port = ChannelPort::parse(&target);
        Some(Self { place: reader.place(), chardev: chardev?, port: port?, info })
    }

    /// The name that the guest sees.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.port {
            ChannelPort::Virtio(name) => name.as_deref(),
            ChannelPort::Guestfwd { .. } => None,
        }
    }

    /// Whether it is a port of a virtio serial controller.
    #[must_use]
    pub fn is_virtio(&self) -> bool {
        matches!(self.port, ChannelPort::Virtio(_))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.chardev.write_type(writer.element("channel")).children(|w| {
            self.chardev.write(w);
            let target = w.element("target");
            match &self.port {
                ChannelPort::Virtio(name) => target
                    .attribute("type", ChannelTarget::Virtio)
                    .optional("name", name.as_ref())
                    .empty(),
                ChannelPort::Guestfwd { address, port } => target
                    .attribute("type", ChannelTarget::Guestfwd)
                    .attribute("address", address)
                    .attribute("port", port)
                    .empty(),
            }
            self.info.write(w);
        });
    }
}

impl ChannelPort {
    fn parse(target: &Reader<'_>) -> Option<Self> {
        let _ = target.required("type", "virtio"); // The keyword itself is read next.
        let _ = target.attribute("state"); // What the guest last did with it.
        match target.keyword("type")? {
            ChannelTarget::Virtio => Some(Self::Virtio(target.string("name"))),
            ChannelTarget::Guestfwd => {
                let _ = (target.required("address", "10.0.2.1"), target.required("port", "4600")); // Read next.
                let (address, port) = (target.value("address"), target.number("port"));
                Some(Self::Guestfwd { address: address?, port: port? })
            }
        }
    }
}
