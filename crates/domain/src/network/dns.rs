//! What guests of a network are told of DNS, `<domain>` and `<dns>`.
//!
//! There is no DNS server for the guests: they are told the servers that the host asks, or those of `<forwarder>`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::reader::Reader;

/// Longest name, and longest label of one, RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Records of a DNS server.
const NO_RECORDS: &str = "no DNS server has it: guests ask the servers of the host; remove it";

/// What guests are told of DNS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkDns {
    /// Whether they are told servers at all.
    pub enable: Option<bool>,
    /// The servers; none stands for those that the host asks.
    pub servers: Vec<IpAddr>,
}

impl NetworkDns {
    pub(super) fn parse(network: &Reader<'_>) -> Self {
        let Some(reader) = network.child("dns") else { return Self::default() };
        for name in ["host", "txt", "srv"] {
            reader.children(name).iter().for_each(|record| record.ignore(NO_RECORDS));
        }
        if reader.yes_no("forwardPlainNames") == Some(false) {
            let what =
                "attribute 'forwardPlainNames': guests ask the servers themselves; remove it";
            reader.faults().push(reader.place().ignored(what));
        }
        let forwarders = reader.children("forwarder");
        Self {
            enable: reader.yes_no("enable"),
            servers: forwarders.iter().filter_map(server).collect(),
        }
    }
}

fn server(reader: &Reader<'_>) -> Option<IpAddr> {
    for name in ["domain", "port"] {
        if reader.attribute(name).is_some() {
            reader.refuse_attribute(name, "guests ask a server all names, on port 53; remove it");
        }
    }
    let _ = reader.required("addr", "192.0.2.53"); // The address itself is read next.
    reader.value("addr")
}

/// The name of a DNS domain: labels of letters, digits, hyphens and underscores with dots between.
///
/// ```
/// use domain::DnsDomain;
/// assert!("lan.example".parse::<DnsDomain>().is_ok());
/// assert!("a b".parse::<DnsDomain>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsDomain(String);

/// A text is no name of a DNS domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no DNS domain; give one such as lan.example")]
pub struct DnsDomainError(String);

impl DnsDomain {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        if reader.yes_no("localOnly") == Some(true) {
            let what =
                "attribute 'localOnly': guests ask the servers of the host all names; remove it";
            reader.faults().push(reader.place().ignored(what));
        }
        if reader.yes_no("register") == Some(true) {
            let what = "attribute 'register': no DNS server knows the guests; remove it";
            reader.faults().push(reader.place().ignored(what));
        }
        let _ = reader.required("name", "lan.example"); // The name itself is read next.
        reader.value("name")
    }
}

impl FromStr for DnsDomain {
    type Err = DnsDomainError;

    fn from_str(text: &str) -> Result<Self, DnsDomainError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let label = |label: &str| {
            !label.is_empty() && label.len() <= LONGEST_LABEL && label.bytes().all(plain)
        };
        let sound = text.len() <= LONGEST_NAME && text.split('.').all(label);
        if sound { Ok(Self(text.to_owned())) } else { Err(DnsDomainError(text.to_owned())) }
    }
}

impl fmt::Display for DnsDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
