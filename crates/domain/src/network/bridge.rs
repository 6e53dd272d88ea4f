//! The bridge of a network, `<bridge>`.

use std::fmt;
use std::str::FromStr;

use crate::names::NetworkName;
use crate::reader::Reader;

/// Longest name of a network device, `IFNAMSIZ` of linux/if.h without the final NUL.
const LONGEST_NAME: usize = 15;

/// Most seconds that a port may wait, `BR_MAX_FORWARD_DELAY` of the kernel's bridge.
const LONGEST_DELAY: u32 = 30;

/// What names that are made of a network's begin with.
const DERIVED_PREFIX: &str = "virbr-";

crate::keywords! {
    /// Who keeps the bridge's table of addresses.
    enum TableManager {
        /// The kernel learns.
        Kernel = "kernel",
        /// Libvirt writes it.
        Libvirt = "libvirt",
    }
}

/// The bridge of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkBridge {
    /// Its name; none, and libvirt's pattern `virbr%d`, has one that is made of the network's.
    pub name: Option<BridgeName>,
    /// Whether it looks for loops, as it does when nothing is written.
    pub stp: Option<bool>,
    /// Seconds until a new port forwards.
    pub delay: Option<u32>,
}

impl NetworkBridge {
    pub(super) fn parse(network: &Reader<'_>) -> Self {
        let Some(reader) = network.child("bridge") else { return Self::default() };
        let pattern = reader.attribute("name").is_some_and(|name| name.contains("%d"));
        if reader.keyword::<TableManager>("macTableManager") == Some(TableManager::Libvirt) {
            let what = "attribute 'macTableManager': the kernel keeps the table; remove it";
            reader.faults().push(reader.place().ignored(what));
        }
        if reader.attribute("zone").is_some() {
            let what =
                "attribute 'zone': zones of a firewall are not set by glassbox; use firewall-cmd";
            reader.faults().push(reader.place().ignored(what));
        }
        let delay = reader.number("delay");
        if delay.is_some_and(|delay: u32| delay > LONGEST_DELAY) {
            reader.refuse_attribute("delay", "a port waits at most 30 seconds; give fewer");
        }
        let name = if pattern { None } else { reader.value("name") };
        Self { name, stp: reader.on_off("stp"), delay }
    }
}

/// The name of a network device that can be a bridge, in an alphabet without sign for any file or shell: letters,
/// digits, `-`, `_` and `.`.
///
/// ```
/// use domain::BridgeName;
/// assert!("virbr0".parse::<BridgeName>().is_ok());
/// assert!("a/b".parse::<BridgeName>().is_err());
/// assert!("0123456789abcdef".parse::<BridgeName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BridgeName(String);

/// Why a text is no bridge's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BridgeNameError {
    /// It is empty, too long, or has other characters.
    #[error(
        "'{0}' is no name of a bridge; use at most 15 letters, digits, '-', '_' and '.', a letter first"
    )]
    Malformed(String),
    /// It stands for something else.
    #[error("'{0}' stands for no one device; choose another")]
    Reserved(String),
}

impl BridgeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bridge of a network that names none, the same on every start and host: `virbr-` and the network's name
    /// where that fits a device's name, else a hash of it (RFC 9562, section 5.5). Libvirt takes the first free
    /// `virbrN`, which is another one after a reboot.
    #[must_use]
    pub fn derived(network: &NetworkName) -> Self {
        format!("{DERIVED_PREFIX}{network}").parse().unwrap_or_else(|_| {
            let name = network.as_str().as_bytes();
            let [a, b, c, d, ..] = *uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name).as_bytes();
            Self(format!("{DERIVED_PREFIX}{a:02x}{b:02x}{c:02x}{d:02x}"))
        })
    }
}

impl FromStr for BridgeName {
    type Err = BridgeNameError;

    fn from_str(text: &str) -> Result<Self, BridgeNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = text.len() <= LONGEST_NAME && text.bytes().all(plain);
        if !fits || !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(BridgeNameError::Malformed(text.to_owned()));
        }
        // Below /proc/sys/net/ipv4/conf these are all devices and future ones; `lo` is there always.
        if ["all", "default", "lo"].contains(&text) {
            return Err(BridgeNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_fit_and_stay() {
        let derived = |name: &str| BridgeName::derived(&NetworkName::try_from(name).unwrap());
        assert_eq!(derived("default").as_str(), "virbr-default");
        assert_eq!(derived("my lan").as_str().len(), 14);
        assert_ne!(derived("a long network"), derived("a long network 2"));
        assert_eq!(derived("ü"), derived("ü"));
    }

    #[test]
    fn names_of_other_devices_and_signs_are_refused() {
        for name in ["", "br 0", "0br", "-br", "br%d", "br;x", "br\n0", "all", "default", "lo"] {
            assert!(name.parse::<BridgeName>().is_err(), "{name:?}");
        }
    }
}
