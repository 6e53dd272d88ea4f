//! Network interfaces, `<interface>`.

use crate::fault::Place;
use crate::mac_address::MacAddress;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// What an interface is connected to.
    pub enum InterfaceType {
        /// A network that QEMU itself translates.
        User = "user",
        /// A tap device.
        Ethernet = "ethernet",
        /// A vhost-user server.
        VhostUser = "vhostuser",
        /// A listening socket of another guest.
        Server = "server",
        /// A socket of another guest.
        Client = "client",
        /// A multicast group of guests.
        Mcast = "mcast",
        /// UDP.
        Udp = "udp",
        /// A virtual network.
        Network = "network",
        /// A bridge.
        Bridge = "bridge",
        /// An internal network.
        Internal = "internal",
        /// A host interface by macvtap.
        Direct = "direct",
        /// A host device.
        Hostdev = "hostdev",
        /// A vDPA device.
        Vdpa = "vdpa",
        /// A distributed switch of VMware.
        Vds = "vds",
        /// Nothing.
        Null = "null",
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Where the element stands.
    pub place: Place,
    /// What it is connected to.
    pub kind: InterfaceType,
    /// Its address; none gets one that is made of the guest's UUID.
    pub mac: Option<MacAddress>,
    /// The model, a word of libvirt's list such as `virtio` or a device of QEMU.
    pub model: Option<String>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// Whether the cable is plugged.
    pub link_up: Option<bool>,
    /// What all devices have.
    pub info: DeviceInfo,
}

crate::keywords! {
    /// Whether the cable is plugged.
    pub enum LinkState {
        /// It is.
        Up = "up",
        /// It is not.
        Down = "down",
    }
}

/// Children that libvirt knows and that are not read yet.
const UNSUPPORTED: [&str; 17] = [
    "source",
    "target",
    "guest",
    "backend",
    "filterref",
    "bandwidth",
    "vlan",
    "port",
    "virtualport",
    "portForward",
    "script",
    "downscript",
    "tune",
    "mtu",
    "coalesce",
    "teaming",
    "route",
];

/// Attributes of `<driver>` that libvirt knows and that are not read yet.
const UNSUPPORTED_DRIVER: [&str; 9] = [
    "name",
    "txmode",
    "ioeventfd",
    "event_idx",
    "queues",
    "rx_queue_size",
    "tx_queue_size",
    "rss",
    "rss_hash_report",
];

impl Interface {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "user"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        if kind != InterfaceType::User {
            let _ = reader.raw(); // The interface is refused whole.
            reader.refuse_attribute("type", "not supported yet by glassbox; use user");
            return None;
        }
        reader.refuse_attributes(&["managed", "trustGuestRxFilters"]);
        reader.refuse_children(&UNSUPPORTED);
        reader.refuse_children(&["ip"]);
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_attributes(&UNSUPPORTED_DRIVER);
            driver.refuse_children(&["host", "guest"]);
        }
        let link = reader.child("link").and_then(|link| link.keyword::<LinkState>("state"));
        Some(Self {
            place: reader.place(),
            kind,
            mac: reader.child("mac").and_then(|mac| mac.value("address")),
            model: reader.child("model").and_then(|model| model.string("type")),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            link_up: link.map(|state| state == LinkState::Up),
            info: DeviceInfo::parse(reader),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("interface").attribute("type", self.kind).children(|w| {
            w.element("mac").optional("address", self.mac).empty_if_any();
            w.element("model").optional("type", self.model.as_ref()).empty_if_any();
            self.virtio.write("driver", w);
            let state = self.link_up.map(|up| if up { LinkState::Up } else { LinkState::Down });
            w.element("link").optional("state", state).empty_if_any();
            self.info.write(w);
        });
    }
}
