//! A virtual network, `<network>`: what guests name in `<interface type='network'>`.
//!
//! The format is libvirt's, <https://libvirt.org/formatnetwork.html>. It is read for a host whose bridges are made by
//! systemd-networkd, by the generator's files for it. What networkd has no word for is refused when guests would be
//! reached otherwise than the definition says, such as a forward through one device only, and reported when they
//! lack a comfort, such as names of a DNS server.

use crate::fault::{Faults, Place};
use crate::mac_address::MacAddress;
use crate::names::{DomainUuid, NetworkName};
use crate::reader::Reader;
use crate::tree;

mod bridge;
mod dhcp;
mod dns;
mod forward;
mod ip;

pub use bridge::{BridgeName, BridgeNameError, NetworkBridge};
pub use dhcp::{BootFile, BootFileError, Dhcp, DhcpHost, DhcpPool, LeaseTime};
pub use dns::{DnsDomain, DnsDomainError, NetworkDns};
pub use forward::Forward;
pub use ip::{NetworkIp, NetworkRoute, Subnet};

/// Elements that are refused, with the reason.
const REFUSED: [(&str, &str); 5] = [
    ("virtualport", "a bridge of the kernel has no virtual ports; remove it"),
    ("portgroup", "there are no groups of ports; write what it says in the guests' <interface>"),
    ("vlan", "packets are not tagged; use a bridge that tags them with <forward mode='bridge'/>"),
    ("port", "ports are not isolated; remove it, or use a bridge of your own"),
    ("device", "the element is of another hypervisor; remove it"),
];

/// Elements that are left out, with the reason.
const IGNORED: [(&str, &str); 1] =
    [("bandwidth", "limits are not set by glassbox; use tc or systemd.network(5)")];

/// The namespace of words for dnsmasq.
const DNSMASQ: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";

/// A virtual network as its user wrote it; `None` and empty lists are what the user left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Where the element stands.
    pub place: Place,
    /// The name.
    pub name: NetworkName,
    /// The UUID.
    pub uuid: Option<DomainUuid>,
    /// A short description.
    pub title: Option<String>,
    /// What is reached beyond the guests and the host.
    pub forward: Forward,
    /// The bridge.
    pub bridge: NetworkBridge,
    /// The bridge's address.
    pub mac: Option<MacAddress>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// The DNS domain that guests are told.
    pub domain: Option<DnsDomain>,
    /// What guests are told of DNS.
    pub dns: NetworkDns,
    /// The host's addresses, each with the network around it.
    pub addresses: Vec<NetworkIp>,
    /// Networks that are behind guests.
    pub routes: Vec<NetworkRoute>,
}

impl Network {
    /// Reads the whole document of the file `FILE.xml`, whose name must be the network's, for guests find it by that.
    /// All that is wrong with it is put into `faults`; there is a network when what it cannot
    /// be without could be read, and it may be made only if no fault is a refusal.
    ///
    /// ```
    /// use domain::{Faults, Network, NetworkName};
    /// let file = NetworkName::try_from("lan").unwrap();
    /// let faults = Faults::new();
    /// let text = "<network><name>lan</name><ip address='10.0.0.1' prefix='24'/></network>";
    /// let network = Network::parse(text, &file, &faults).unwrap();
    /// assert_eq!(network.bridge_name().as_str(), "virbr-lan");
    /// assert!(!faults.any_refused());
    /// ```
    #[must_use]
    pub fn parse(text: &str, file: &NetworkName, faults: &Faults) -> Option<Self> {
        match tree::parse(text) {
            Ok(root) => Self::from_tree(&root, file, faults),
            Err(fault) => {
                faults.push(fault);
                None
            }
        }
    }

    fn from_tree(root: &tree::Element<'_>, file: &NetworkName, faults: &Faults) -> Option<Self> {
        let reader = Reader::root(root, faults);
        if root.name != "network" || root.namespace.is_some() {
            let _ = reader.raw(); // One message is enough for a document of another kind.
            reader.refuse(format!("the root element is <{}>; give a <network>", root.qualified));
            return None;
        }
        leave_out(&reader);
        let network = Self {
            place: reader.place(),
            name: name(&reader, file)?,
            uuid: reader.child("uuid").and_then(|uuid| uuid.text_value()),
            title: reader.child("title").map(|title| title.text().into_owned()),
            forward: Forward::parse(&reader),
            bridge: NetworkBridge::parse(&reader),
            mac: reader.child("mac").and_then(|mac| mac.value("address")),
            mtu: reader.child("mtu").and_then(|mtu| mtu_of(&mtu)),
            domain: reader.child("domain").and_then(|domain| DnsDomain::parse(&domain)),
            dns: NetworkDns::parse(&reader),
            addresses: reader.children("ip").iter().filter_map(NetworkIp::parse).collect(),
            routes: reader.children("route").iter().filter_map(NetworkRoute::parse).collect(),
        };
        network.check(&reader);
        Some(network)
    }

    /// The bridge on which its guests stand: the named one, else one whose name is made of the network's.
    #[must_use]
    pub fn bridge_name(&self) -> BridgeName {
        self.bridge.name.clone().unwrap_or_else(|| BridgeName::derived(&self.name))
    }

    /// Whether the bridge is there already, and is not the network's to make.
    #[must_use]
    pub fn has_own_bridge(&self) -> bool {
        self.forward != Forward::Bridge
    }

    /// What elements must be to one another.
    fn check(&self, reader: &Reader<'_>) {
        let existing = !self.has_own_bridge();
        if existing && self.bridge.name.is_none() {
            reader.refuse("the bridge is not named; add one such as <bridge name='br0'/>");
        }
        let made = self.bridge.stp.is_some()
            || self.bridge.delay.is_some()
            || self.mac.is_some()
            || self.mtu.is_some()
            || self.domain.is_some()
            || self.dns != NetworkDns::default()
            || !self.addresses.is_empty()
            || !self.routes.is_empty();
        if existing && made {
            reader.refuse(
                "the bridge of <forward mode='bridge'/> is used as it is; give it no more than its name, and set \
                 addresses, DHCP, STP and MTU where it is made",
            );
        }
        if self.addresses.is_empty() && self.forward.is_routed() {
            reader.refuse(
                "packets are forwarded for guests that have no address of the host; add one such as \
                 <ip address='192.168.122.1' prefix='24'/>",
            );
        }
        let servers = self.addresses.iter().filter(|ip| ip.dhcp.is_some()).count();
        if servers > 1 {
            reader.refuse("a network has one DHCP server; remove all <dhcp> but one");
        }
    }
}

/// The name, if it is the file's.
fn name(reader: &Reader<'_>, file: &NetworkName) -> Option<NetworkName> {
    let Some(element) = reader.child("name") else {
        let _ = reader.raw(); // Nothing can be said of a network without a name.
        reader.refuse("<name> is missing; add one such as <name>lan</name>");
        return None;
    };
    let name = element.text_value::<NetworkName>();
    if let Some(name) = name.as_ref().filter(|name| *name != file) {
        element.refuse(format!(
            "the name is '{name}' but the file is '{file}.xml'; rename the file or change the name"
        ));
    }
    if name.is_none() {
        let _ = reader.raw();
    }
    name
}

/// The size of packets that a bridge takes, `ETH_MIN_MTU` and `ETH_MAX_MTU` of linux/if_ether.h.
fn mtu_of(reader: &Reader<'_>) -> Option<u32> {
    let size = reader.number("size")?;
    if !(68..=65535).contains(&size) {
        reader.refuse_attribute("size", "packets have 68 to 65535 bytes; give such a number");
    }
    Some(size)
}

/// What is of no use here: of the last run, of other programs, or not done.
fn leave_out(reader: &Reader<'_>) {
    let _ = reader.attribute("connections"); // Of the last run.
    // Guests without an address of the host talk IPv6 to one another in any case: nothing here filters.
    let _ = reader.yes_no("ipv6");
    if reader.yes_no("trustGuestRxFilters") == Some(true) {
        let what =
            "attribute 'trustGuestRxFilters': the guests' filters are not followed; remove it";
        reader.faults().push(reader.place().ignored(what));
    }
    for kept in ["description", "metadata"] {
        let _ = reader.child(kept).map(|child| child.raw());
    }
    for (name, why) in REFUSED {
        for child in reader.children(name) {
            let _ = child.raw(); // It is refused whole.
            child.refuse(why);
        }
    }
    for (name, why) in IGNORED {
        reader.children(name).iter().for_each(|child| child.ignore(why));
    }
    for options in reader.children_in(DNSMASQ, "options") {
        let _ = options.raw(); // It is refused whole.
        options.refuse("no dnsmasq is started; remove it");
    }
}

#[cfg(test)]
mod tests;
