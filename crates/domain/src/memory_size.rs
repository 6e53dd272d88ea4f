//! Amounts of memory.

use std::fmt;

use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

/// An amount of memory in bytes.
///
/// The domain format writes it as a number and a `unit`: `b`/`bytes`, `KB` `MB` `GB` `TB` `PB` `EB` (powers of
/// 1000), `k`/`KiB` `M`/`MiB` `G`/`GiB` `T`/`TiB` `P`/`PiB` `E`/`EiB` (powers of 1024), in any case
/// (<https://libvirt.org/formatdomain.html#memory-allocation>).
///
/// ```
/// use domain::MemorySize;
/// assert_eq!(MemorySize::scaled(2, "GiB").unwrap().bytes(), 2 << 30);
/// assert_eq!(MemorySize::scaled(1, "KB").unwrap().kibibytes(), 1);
/// assert!(MemorySize::scaled(1, "stone").is_err());
/// assert!(MemorySize::scaled(u64::MAX, "KiB").is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

/// Why a number and a unit are no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemorySizeError {
    /// The unit is not one of the format's.
    #[error("'{0}' is no unit of memory; use bytes, KiB, MiB, GiB or TiB")]
    Unit(String),
    /// The amount has more bytes than 64 bits count.
    #[error("the amount of memory does not fit in 64 bits; give less")]
    Overflow,
}

impl MemorySize {
    /// That many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `number` of `unit`.
    ///
    /// # Errors
    /// [`MemorySizeError`] for an unknown unit, or an amount of 2^64 bytes and more.
    pub fn scaled(number: u64, unit: &str) -> Result<Self, MemorySizeError> {
        let factor = unit_bytes(unit).ok_or_else(|| MemorySizeError::Unit(unit.to_owned()))?;
        number.checked_mul(factor).map(Self).ok_or(MemorySizeError::Overflow)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The amount in KiB, rounded up.
    #[must_use]
    pub const fn kibibytes(self) -> u64 {
        self.0.div_ceil(1024)
    }

    /// The amount in MiB, rounded up.
    #[must_use]
    pub const fn mebibytes(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }

    /// The amount rounded up to a multiple of `unit`.
    #[must_use]
    pub const fn round_up_to(self, unit: Self) -> Self {
        Self(self.0.div_ceil(unit.0).saturating_mul(unit.0))
    }

    /// Reads an element's text, with the unit of its attribute `unit`, KiB without one.
    #[must_use]
    pub fn parse(reader: &Reader<'_>) -> Option<Self> {
        Self::parse_in(reader, "KiB")
    }

    /// Reads an element's text, with the unit of its attribute `unit`, `default_unit` without one.
    #[must_use]
    pub fn parse_in(reader: &Reader<'_>, default_unit: &str) -> Option<Self> {
        let unit = reader.attribute("unit").unwrap_or(default_unit);
        let text = reader.text();
        let Some(number) = parse_number(&text) else {
            reader
                .refuse(format!("'{text}' is no amount of memory; give a number such as 1048576"));
            return None;
        };
        Self::scaled(number, unit).map_err(|error| reader.refuse(error.to_string())).ok()
    }

    /// Reads the attribute `name`, with the unit of the attribute `unit`.
    #[must_use]
    pub fn parse_attribute(reader: &Reader<'_>, name: &str, default_unit: &str) -> Option<Self> {
        let unit = reader.attribute("unit").unwrap_or(default_unit);
        let number = reader.number(name)?;
        Self::scaled(number, unit).map_err(|error| reader.refuse_attribute(name, error)).ok()
    }

    /// Writes the amount as an element in KiB, as libvirt does.
    pub fn write(self, name: &'static str, writer: &mut Writer) {
        writer.element(name).attribute("unit", "KiB").text(self.kibibytes());
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.kibibytes())
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let power = |letter: &str| "kmgtpe".find(letter).and_then(|at| u32::try_from(at + 1).ok());
    match unit.as_str() {
        "b" | "byte" | "bytes" => return Some(1),
        _ => {}
    }
    let (letter, rest) = unit.split_at_checked(1)?;
    match rest {
        "" | "ib" => Some(1024_u64.pow(power(letter)?)),
        "b" => Some(1000_u64.pow(power(letter)?)),
        _ => None,
    }
}
