//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use crate::names::DomainUuid;

/// The address of a network interface, six bytes, no multicast address.
///
/// ```
/// use domain::MacAddress;
/// let mac: MacAddress = "52:54:00:AB:cd:1".parse().unwrap();
/// assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
/// assert!("53:54:00:00:00:01".parse::<MacAddress>().is_err());
/// assert!("52:54".parse::<MacAddress>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

/// Why a text is no address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacAddressError {
    /// The text is not six hexadecimal bytes with colons.
    #[error("'{0}' is no MAC address; write one such as 52:54:00:12:34:56")]
    Malformed(String),
    /// The address is one of a group (the lowest bit of the first byte is set).
    #[error("'{0}' is a multicast address; make the first byte even")]
    Multicast(String),
}

impl MacAddress {
    /// The bytes in the order in which they are written.
    #[must_use]
    pub fn bytes(&self) -> [u8; 6] {
        self.0
    }
}

impl MacAddress {
    /// The address of the interface at this place, counted from 0, of a guest whose document gives none: the
    /// same at every start. It has QEMU's and KVM's prefix 52:54:00, as libvirt's random ones have; the rest is
    /// a hash of the guest's UUID and the place (RFC 9562, section 5.5).
    #[must_use]
    pub fn derived(guest: &DomainUuid, place: usize) -> Self {
        let namespace = uuid::Uuid::from_bytes(*guest.as_bytes());
        let hash = uuid::Uuid::new_v5(&namespace, format!("interface {place}").as_bytes());
        let [a, b, c, ..] = *hash.as_bytes();
        Self([0x52, 0x54, 0x00, a, b, c])
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let malformed = || MacAddressError::Malformed(text.to_owned());
        let bytes: Vec<u8> = text
            .split(':')
            .map(|part| match part.len() {
                1 | 2 if !part.starts_with('+') => u8::from_str_radix(part, 16).ok(),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(malformed)?;
        let bytes: [u8; 6] = bytes.try_into().map_err(|_| malformed())?;
        if bytes[0] & 1 == 1 {
            return Err(MacAddressError::Multicast(text.to_owned()));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_addresses_stay_and_differ() {
        let guest: DomainUuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap();
        let other: DomainUuid = "c7a5fdbd-edaf-9455-926a-d65c16db1810".parse().unwrap();
        let derived = MacAddress::derived(&guest, 0);
        assert!(derived.to_string().starts_with("52:54:00:"));
        assert_eq!(derived, MacAddress::derived(&guest, 0));
        assert_ne!(derived, MacAddress::derived(&guest, 1));
        assert_ne!(derived, MacAddress::derived(&other, 0));
    }
}
