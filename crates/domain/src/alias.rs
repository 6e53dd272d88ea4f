//! Names by which users and QEMU call a device.

use std::fmt;
use std::str::FromStr;

/// What opens an alias that the user chose.
const USER_PREFIX: &str = "ua-";

/// The id of a device, such as `net0`, or one that the user chose, such as `ua-uplink`.
///
/// It is made of letters, digits, `-`, `_` and `.`, which QEMU takes as an id.
///
/// ```
/// use domain::Alias;
/// assert!("ua-uplink".parse::<Alias>().unwrap().is_of_user());
/// assert!(!"net0".parse::<Alias>().unwrap().is_of_user());
/// assert!("a b".parse::<Alias>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias(String);

/// Why a text is no alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no alias; use letters, digits, '-', '_' and '.'")]
pub struct AliasError(String);

impl Alias {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the user chose it; others are assigned when the guest starts.
    #[must_use]
    pub fn is_of_user(&self) -> bool {
        self.0.starts_with(USER_PREFIX)
    }
}

impl FromStr for Alias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, AliasError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(AliasError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
