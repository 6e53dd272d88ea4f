//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

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
