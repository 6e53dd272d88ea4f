//! Names of disks inside the guest.

use std::fmt;
use std::str::FromStr;

/// Longest run of letters that is taken: `zzzzz` stands for disk 12 million.
const MOST_LETTERS: usize = 5;

/// Prefixes that the format knows, longest first, so that `xvda` is not read as something else.
const PREFIXES: [&str; 6] = ["xvd", "ubd", "fd", "hd", "sd", "vd"];

/// The `dev` of a disk's `<target>`, such as `vda` or `hdc`: a prefix and letters. QEMU shows whole
/// disks, so there are no names of partitions.
///
/// Its letters are a number: `a` is 0, `z` 25, `aa` 26.
///
/// ```
/// use domain::DiskTarget;
/// let target: DiskTarget = "sdaa".parse().unwrap();
/// assert_eq!((target.prefix(), target.index()), ("sd", 26));
/// assert!("vda1".parse::<DiskTarget>().is_err());
/// assert!("disk1".parse::<DiskTarget>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskTarget {
    name: String,
    prefix: &'static str,
    index: u32,
}

/// Why a text is no disk target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no name of a disk; use one such as vda, sda, hda or fda")]
pub struct DiskTargetError(String);

impl DiskTarget {
    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name up to its letters, such as `vd`.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The number that the letters stand for.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl FromStr for DiskTarget {
    type Err = DiskTargetError;

    fn from_str(text: &str) -> Result<Self, DiskTargetError> {
        let wrong = || DiskTargetError(text.to_owned());
        let prefix =
            PREFIXES.into_iter().find(|prefix| text.starts_with(prefix)).ok_or_else(wrong)?;
        let rest = &text[prefix.len()..];
        let fits = !rest.is_empty() && rest.len() <= MOST_LETTERS;
        if !fits || !rest.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(wrong());
        }
        let count = rest.bytes().fold(0, |index, letter| index * 26 + u32::from(letter - b'a') + 1);
        Ok(Self { name: text.to_owned(), prefix, index: count - 1 })
    }
}

impl fmt::Display for DiskTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
