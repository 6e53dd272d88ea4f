//! The DHCP server of a network, `<dhcp>`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::mac_address::MacAddress;
use crate::reader::Reader;

use super::ip::Subnet;

/// Longest name of a boot file, the field `file` of RFC 2131, section 2, without its final NUL.
const LONGEST_FILE: usize = 127;

crate::keywords! {
    /// What a time is counted in.
    enum LeaseUnit {
        /// Seconds.
        Seconds = "seconds",
        /// Minutes, as when nothing is written.
        Minutes = "minutes",
        /// Hours.
        Hours = "hours",
    }
}

/// How long a guest has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseTime {
    /// So many seconds, at least one.
    Seconds(u32),
    /// For ever.
    Infinite,
}

/// Addresses that guests get, counted from the network's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhcpPool {
    /// The first one.
    pub offset: u32,
    /// How many there are.
    pub size: u32,
}

/// A guest that has one address always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhcpHost {
    /// The guest's interface.
    pub mac: MacAddress,
    /// The address.
    pub ip: Ipv4Addr,
}

/// What guests get by DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// The addresses. Where only guests of the list have one, it is the first of those, which no other guest gets.
    pub pool: DhcpPool,
    /// How long they are kept.
    pub lease: Option<LeaseTime>,
    /// Guests with addresses of their own.
    pub hosts: Vec<DhcpHost>,
    /// What guests boot that boot from the network.
    pub boot: Option<(BootFile, Option<Ipv4Addr>)>,
}

impl Dhcp {
    /// The server of this network; none when nobody would get an address.
    pub(super) fn parse(reader: &Reader<'_>, subnet: &Subnet) -> Option<Self> {
        if subnet.address.is_ipv6() {
            let _ = reader.raw(); // It is refused whole.
            reader.refuse("there is no DHCP server for IPv6: guests make their addresses of the network's; remove it");
            return None;
        }
        let mut ranges = reader.children("range");
        for more in ranges.drain(ranges.len().min(1)..) {
            let _ = more.raw(); // It is refused whole.
            more.refuse("a DHCP server has one range; remove it, or make the first one longer");
        }
        let hosts: Vec<_> = reader
            .children("host")
            .iter()
            .filter_map(|host| DhcpHost::parse(host, subnet))
            .collect();
        let boot = reader.child("bootp").and_then(|boot| boot_file(&boot));
        let range = ranges.first().map(|range| (pool(range, subnet), lease_time(range)));
        let (pool, lease) = match range {
            Some((pool, lease)) => (pool?, lease),
            None => (DhcpPool { offset: subnet.offset(hosts.first()?.ip)?, size: 1 }, None),
        };
        Some(Self { pool, lease, hosts, boot })
    }
}

fn pool(reader: &Reader<'_>, subnet: &Subnet) -> Option<DhcpPool> {
    let _ = (reader.required("start", "192.168.122.2"), reader.required("end", "192.168.122.254"));
    let address = |name: &str| {
        let address = reader.value::<Ipv4Addr>(name)?;
        let offset = subnet.offset(address);
        if offset.is_none() {
            let what =
                format!("{address} is no address of a guest in {}; give one", subnet.network());
            reader.refuse_attribute(name, what);
        }
        offset
    };
    let (start, end) = (address("start"), address("end"));
    let (start, end) = (start?, end?);
    if start > end {
        reader.refuse_attribute("end", "is before 'start'; change one of both");
        return None;
    }
    Some(DhcpPool { offset: start, size: end - start + 1 })
}

fn lease_time(range: &Reader<'_>) -> Option<LeaseTime> {
    let reader = range.child("lease")?;
    let unit = reader.keyword("unit").unwrap_or(LeaseUnit::Minutes);
    let _ = reader.required("expiry", "60"); // The number itself is read next.
    let number: u32 = reader.number("expiry")?;
    let seconds = match unit {
        LeaseUnit::Seconds => Some(number),
        LeaseUnit::Minutes => number.checked_mul(60),
        LeaseUnit::Hours => number.checked_mul(3600),
    };
    // The protocol has 32 bits for it, and all ones is for ever (RFC 2131, section 3.3).
    match seconds {
        Some(0) => Some(LeaseTime::Infinite),
        Some(seconds) if seconds < u32::MAX => Some(LeaseTime::Seconds(seconds)),
        Some(_) | None => {
            reader.refuse_attribute("expiry", "is more than 136 years; give 0 for ever");
            None
        }
    }
}

impl DhcpHost {
    fn parse(reader: &Reader<'_>, subnet: &Subnet) -> Option<Self> {
        if reader.attribute("name").is_some() {
            let what = "attribute 'name': guests are not told their names; set it in the guest";
            reader.faults().push(reader.place().ignored(what));
        }
        if let Some(lease) = reader.child("lease") {
            lease.ignore("all addresses are kept for the time of <range>; remove it");
        }
        if reader.attribute("id").is_some() {
            reader.refuse_attribute("id", "guests are known by 'mac' only; remove it");
        }
        let _ =
            (reader.required("mac", "52:54:00:12:34:56"), reader.required("ip", "192.168.122.10"));
        let (mac, ip) = (reader.value("mac"), reader.value::<Ipv4Addr>("ip"));
        let (mac, ip) = (mac?, ip?);
        if subnet.offset(ip).is_none() || IpAddr::V4(ip) == subnet.address {
            let what = format!("{ip} is no address of a guest in {}; give one", subnet.network());
            reader.refuse_attribute("ip", what);
            return None;
        }
        Some(Self { mac, ip })
    }
}

fn boot_file(reader: &Reader<'_>) -> Option<(BootFile, Option<Ipv4Addr>)> {
    let _ = reader.required("file", "pxelinux.0"); // The name itself is read next.
    let (file, server) = (reader.value("file"), reader.value("server"));
    Some((file?, server))
}

/// The name of a file on a boot server: a path or a URL.
///
/// ```
/// use domain::BootFile;
/// assert!("http://boot/ipxe.efi?a=1".parse::<BootFile>().is_ok());
/// assert!("a b".parse::<BootFile>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile(String);

/// A text is no name of a boot file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name has more than 127 bytes, or none, or others than letters, digits and -_.~/:?&=+,@; change it"
)]
pub struct BootFileError;

impl FromStr for BootFile {
    type Err = BootFileError;

    fn from_str(text: &str) -> Result<Self, BootFileError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:?&=+,@".contains(&byte);
        let sound = !text.is_empty() && text.len() <= LONGEST_FILE && text.bytes().all(plain);
        if sound { Ok(Self(text.to_owned())) } else { Err(BootFileError) }
    }
}

impl fmt::Display for BootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
