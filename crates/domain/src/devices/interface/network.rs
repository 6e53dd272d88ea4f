//! What the host's network is told of an interface: bandwidth, VLANs, virtual ports, filters, forwarded ports.

use std::net::IpAddr;

use crate::names::DomainUuid;
use crate::reader::Reader;
use crate::writer::Writer;

crate::attributes! {
    /// How much passes in one direction.
    pub struct Rate {
        /// Kibibytes a second on average.
        pub average: u64 = number "average",
        /// Kibibytes a second at most.
        pub peak: u64 = number "peak",
        /// Kibibytes that may pass at peak rate.
        pub burst: u64 = number "burst",
        /// Kibibytes a second that are granted.
        pub floor: u64 = number "floor",
    }
}

/// How much passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// To the guest.
    pub inbound: Rate,
    /// From the guest.
    pub outbound: Rate,
}

/// VLANs whose frames the guest sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vlan {
    /// Whether frames keep their tags.
    pub trunk: Option<bool>,
    /// The tags.
    pub tags: Vec<VlanTag>,
}

crate::attributes! {
    /// One VLAN.
    pub struct VlanTag {
        /// Its number, 0 to 4095.
        pub id: u16 = number "id",
        /// How frames without a tag are treated.
        pub native_mode: NativeMode = keyword "nativeMode",
    }
}

crate::keywords! {
    /// How the native VLAN's frames leave.
    pub enum NativeMode {
        /// With a tag.
        Tagged = "tagged",
        /// Without.
        Untagged = "untagged",
    }
}

crate::keywords! {
    /// Kinds of virtual ports.
    pub enum VirtualPortType {
        /// Edge virtual bridging.
        Qbg = "802.1Qbg",
        /// Bridge port extension.
        Qbh = "802.1Qbh",
        /// Open vSwitch.
        OpenVswitch = "openvswitch",
        /// MidoNet.
        Midonet = "midonet",
        /// None.
        None = "none",
    }
}

crate::attributes! {
    /// What a virtual port is configured with.
    pub struct VirtualPortParameters {
        /// The manager of the type's database.
        pub manager: u8 = number "managerid",
        /// The type.
        pub type_id: u32 = number "typeid",
        /// The type's version.
        pub type_version: u8 = number "typeidversion",
        /// This port.
        pub instance: DomainUuid = value "instanceid",
        /// This port, for Open vSwitch and MidoNet.
        pub interface: DomainUuid = value "interfaceid",
        /// The profile.
        pub profile: String = string "profileid",
    }
}

/// A port of a switch outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualPort {
    /// Its kind.
    pub kind: Option<VirtualPortType>,
    /// What it is configured with.
    pub parameters: VirtualPortParameters,
}

/// A network filter of the host, with values for its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRef {
    /// Its name.
    pub filter: String,
    /// Names and values, by name.
    pub parameters: Vec<(String, String)>,
}

crate::keywords! {
    /// Protocols whose ports are forwarded.
    pub enum ForwardProtocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

crate::attributes! {
    /// Ports that are forwarded, or not.
    pub struct PortRange {
        /// The first.
        pub start: u16 = number "start",
        /// The last; none is the first.
        pub end: u16 = number "end",
        /// The guest's port that the first goes to; none is the same.
        pub to: u16 = number "to",
        /// Whether the ports are left out instead.
        pub exclude: bool = yes_no "exclude",
    }
}

/// Ports of the host that reach the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// The protocol.
    pub protocol: ForwardProtocol,
    /// The host's address; none is all.
    pub address: Option<IpAddr>,
    /// The host's interface; none is all.
    pub dev: Option<String>,
    /// The ports; none is all.
    pub ranges: Vec<PortRange>,
}

impl Bandwidth {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let rate = |name: &str| {
            let Some(child) = reader.child(name) else { return Rate::default() };
            let rate = Rate::parse(&child);
            if rate.average.is_none() && rate.floor.is_none() {
                child.refuse("attribute 'average' is missing; give one such as average='1000'");
            }
            if name == "outbound" && rate.floor.is_some() {
                child.refuse_attribute("floor", "is for <inbound> only; remove it");
            }
            rate
        };
        Self { inbound: rate("inbound"), outbound: rate("outbound") }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("bandwidth").children_if_any(|w| {
            self.inbound.write("inbound", w);
            self.outbound.write("outbound", w);
        });
    }
}

impl Vlan {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let tags: Vec<VlanTag> = reader
            .children("tag")
            .iter()
            .map(|child| {
                let _ = child.required("id", "42"); // The number itself is read next.
                let tag = VlanTag::parse(child);
                if tag.id.is_some_and(|id| id > 4095) {
                    child.refuse_attribute("id", "no VLAN is above 4095; give a lower one");
                }
                tag
            })
            .collect();
        let trunk = reader.yes_no("trunk");
        if tags.is_empty() {
            reader.refuse("<vlan> has no <tag>; add one such as <tag id='42'/>");
        }
        if trunk == Some(false) && tags.len() > 1 {
            reader.refuse_attribute("trunk", "several tags make a trunk; use yes");
        }
        let native = tags.iter().any(|tag| tag.native_mode.is_some());
        let trunk = (trunk == Some(true) || tags.len() > 1 || native).then_some(true);
        Self { trunk, tags }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("vlan").yes_no("trunk", self.trunk).children_if_any(|w| {
            self.tags.iter().for_each(|tag| tag.write("tag", w));
        });
    }
}

impl VirtualPort {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let parameters = reader.child("parameters");
        Self {
            kind: reader.keyword("type"),
            parameters: parameters.map(|p| VirtualPortParameters::parse(&p)).unwrap_or_default(),
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("virtualport")
            .optional("type", self.kind)
            .children(|w| self.parameters.write("parameters", w));
    }
}

impl FilterRef {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let mut parameters: Vec<(String, String)> = reader
            .children("parameter")
            .iter()
            .filter_map(|child| {
                let (name, value) =
                    (child.required("name", "IP"), child.required("value", "10.0.0.1"));
                Some((name?.to_owned(), value?.to_owned()))
            })
            .collect();
        parameters.sort();
        let filter = reader.required("filter", "clean-traffic")?.to_owned();
        Some(Self { filter, parameters })
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("filterref").attribute("filter", &self.filter).children(|w| {
            for (name, value) in &self.parameters {
                w.element("parameter").attribute("name", name).attribute("value", value).empty();
            }
        });
    }
}

impl PortForward {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let (address, dev) = (reader.value("address"), reader.string("dev"));
        let ranges = reader
            .children("range")
            .iter()
            .map(|child| {
                let _ = child.required("start", "22"); // The number itself is read next.
                let range = PortRange::parse(child);
                if range.end.is_some() && range.end < range.start {
                    child.refuse_attribute("end", "is below 'start'; give a higher port");
                }
                if range.exclude == Some(true) && range.to.is_some() {
                    child.refuse_attribute("to", "ports that are left out go nowhere; remove it");
                }
                range
            })
            .collect();
        let _ = reader.required("proto", "tcp")?; // The keyword itself is read next.
        Some(Self { protocol: reader.keyword("proto")?, address, dev, ranges })
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("portForward")
            .attribute("proto", self.protocol)
            .optional("address", self.address)
            .optional("dev", self.dev.as_ref())
            .children(|w| self.ranges.iter().for_each(|range| range.write("range", w)));
    }
}
