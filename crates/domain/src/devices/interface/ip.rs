//! Addresses and routes of an interface: `<ip>`, `<route>`.

use std::net::IpAddr;

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// The two versions of IP.
    pub enum IpFamily {
        /// Version 4.
        Ipv4 = "ipv4",
        /// Version 6.
        Ipv6 = "ipv6",
    }
}

/// An address with the length of its network's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceIp {
    /// The address.
    pub address: IpAddr,
    /// How many bits the network has.
    pub prefix: Option<u8>,
    /// The address of the other end.
    pub peer: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The version of IP.
    pub family: Option<IpFamily>,
    /// The network.
    pub address: Option<IpAddr>,
    /// Its mask, in place of a prefix.
    pub netmask: Option<IpAddr>,
    /// How many bits the network has.
    pub prefix: Option<u8>,
    /// Where its packets go.
    pub gateway: Option<IpAddr>,
    /// What it costs.
    pub metric: Option<u32>,
}

/// Addresses and routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSettings {
    /// The addresses.
    pub addresses: Vec<InterfaceIp>,
    /// The routes.
    pub routes: Vec<Route>,
}

impl IpSettings {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        Self {
            addresses: reader.children("ip").iter().filter_map(InterfaceIp::parse).collect(),
            routes: reader.children("route").iter().map(Route::parse).collect(),
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        self.addresses.iter().for_each(|ip| ip.write(w));
        self.routes.iter().for_each(|route| route.write(w));
    }
}

impl IpFamily {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl InterfaceIp {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let (family, prefix) = (reader.keyword::<IpFamily>("family"), reader.number("prefix"));
        let peer = reader.value("peer");
        let _ = reader.required("address", "192.168.5.2")?; // The address itself is read next.
        let address: IpAddr = reader.value("address")?;
        if family.is_some_and(|family| family != IpFamily::of(address)) {
            reader.refuse_attribute("family", "is not the one of the address; remove it");
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix.is_some_and(|prefix: u8| prefix > most) {
            reader.refuse_attribute("prefix", format!("has no more than {most} bits"));
        }
        Some(Self { address, prefix: prefix.filter(|prefix| *prefix > 0), peer })
    }

    fn write(&self, w: &mut Writer) {
        w.element("ip")
            .attribute("address", self.address)
            .attribute("family", IpFamily::of(self.address))
            .optional("prefix", self.prefix)
            .optional("peer", self.peer)
            .empty();
    }
}

impl Route {
    fn parse(reader: &Reader<'_>) -> Self {
        let _ = (reader.required("address", "10.20.0.0"), reader.required("gateway", "10.0.0.1"));
        Self {
            family: reader.keyword("family"),
            address: reader.value("address"),
            netmask: reader.value("netmask"),
            prefix: reader.number("prefix"),
            gateway: reader.value("gateway"),
            metric: reader.number("metric"),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.element("route")
            .optional("family", self.family)
            .optional("address", self.address)
            .optional("netmask", self.netmask)
            .optional("prefix", self.prefix)
            .optional("gateway", self.gateway)
            .optional("metric", self.metric)
            .empty();
    }
}
