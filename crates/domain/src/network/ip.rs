//! Addresses and routes of a network, `<ip>` and `<route>`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::devices::IpFamily;
use crate::reader::Reader;

use super::dhcp::Dhcp;

/// An address of the host in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkIp {
    /// The address, with how much of it is the network's.
    pub subnet: Subnet,
    /// The DHCP server, of IPv4 only.
    pub dhcp: Option<Dhcp>,
}

impl NetworkIp {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let family = reader.keyword::<IpFamily>("family");
        let length = Length::parse(reader);
        let dhcp = reader.child("dhcp");
        let tftp = reader.child("tftp");
        let _ = reader.required("address", "192.168.122.1"); // The address itself is read next.
        let Some(address) = reader.value::<IpAddr>("address") else {
            let _ = dhcp.map(|dhcp| dhcp.raw()); // It cannot be judged without its network.
            return None;
        };
        if family.is_some_and(|family| (family == IpFamily::Ipv4) != address.is_ipv4()) {
            reader.refuse_attribute("family", "is not the one of the address; change it");
        }
        if let Some(tftp) = tftp {
            let _ = tftp.raw(); // It is refused whole.
            tftp.refuse(
                "there is no TFTP server; remove it, and name another by <bootp server='...'>",
            );
        }
        let subnet = Subnet { address, prefix: length.prefix(reader, address)? };
        let dhcp = dhcp.and_then(|dhcp| Dhcp::parse(&dhcp, &subnet));
        Some(Self { subnet, dhcp })
    }
}

/// A network behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRoute {
    /// The network.
    pub destination: Subnet,
    /// A guest that knows the way.
    pub gateway: IpAddr,
    /// What the way costs.
    pub metric: Option<u32>,
}

impl NetworkRoute {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let family = reader.keyword::<IpFamily>("family");
        let length = Length::parse(reader);
        let _ = (reader.required("address", "10.20.0.0"), reader.required("gateway", "10.0.0.2"));
        let address: Option<IpAddr> = reader.value("address");
        let (gateway, metric) = (reader.value::<IpAddr>("gateway"), reader.number("metric"));
        let (address, gateway) = (address?, gateway?);
        if address.is_ipv4() != gateway.is_ipv4() {
            reader.refuse_attribute("gateway", "is of the other version of IP; change it");
        }
        if family.is_some_and(|family| (family == IpFamily::Ipv4) != address.is_ipv4()) {
            reader.refuse_attribute("family", "is not the one of the address; change it");
        }
        let destination = Subnet { address, prefix: length.prefix(reader, address)? };
        Some(Self { destination, gateway, metric })
    }
}

/// How much of an address is the network's, in one of two spellings.
struct Length {
    netmask: Option<Ipv4Addr>,
    prefix: Option<u8>,
}

impl Length {
    fn parse(reader: &Reader<'_>) -> Self {
        Self { netmask: reader.value("netmask"), prefix: reader.number("prefix") }
    }

    /// The length in bits; without one it is that of the address's class, as in libvirt.
    fn prefix(&self, reader: &Reader<'_>, address: IpAddr) -> Option<u8> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let ones = self.netmask.map(|mask| u32::from(mask).leading_ones());
        if let (Some(mask), Some(ones)) = (self.netmask, ones)
            && (address.is_ipv6() || u32::from(mask).checked_shl(ones).unwrap_or_default() != 0)
        {
            reader.refuse_attribute(
                "netmask",
                format!("'{mask}' is no mask of the address; use 'prefix'"),
            );
            return None;
        }
        let ones = ones.and_then(|ones| u8::try_from(ones).ok());
        if self.prefix.is_some() && ones.is_some() && self.prefix != ones {
            reader.refuse_attribute("prefix", "is not the length of 'netmask'; remove one of both");
        }
        let prefix = self.prefix.or(ones).unwrap_or_else(|| by_class(address));
        if prefix > most {
            reader.refuse_attribute("prefix", format!("an address has {most} bits; give fewer"));
            return None;
        }
        Some(prefix)
    }
}

/// The classes of RFC 791, section 2.3, which libvirt goes by; of IPv6 it is half the address.
fn by_class(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(_) => 64,
        IpAddr::V4(address) => match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            192..=255 => 24,
        },
    }
}

/// An address and the network around it; displays as `192.168.122.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are the network's.
    pub prefix: u8,
}

impl Subnet {
    /// The network itself: the address with all bits of hosts cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        let prefix = u32::from(self.prefix);
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or_default();
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or_default();
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { address, prefix: self.prefix }
    }

    /// How far a guest's address is from the network's own; none for one that is not a guest's, such as the
    /// network's own, that for all, or one outside.
    #[must_use]
    pub fn offset(&self, guest: Ipv4Addr) -> Option<u32> {
        let IpAddr::V4(network) = self.network().address else { return None };
        let all = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or_default();
        let offset = u32::from(guest).checked_sub(u32::from(network))?;
        (offset > 0 && offset < all).then_some(offset)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
