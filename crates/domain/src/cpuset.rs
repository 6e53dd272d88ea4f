//! Sets of CPUs and of NUMA nodes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Highest number that a set may name; the largest kernels count fewer CPUs (`CONFIG_NR_CPUS` is at most 8192).
const HIGHEST: u32 = 16_383;

/// A set of numbers of host CPUs, virtual CPUs or NUMA nodes, as in `cpuset='0-3,^2,8'`.
///
/// Parts are numbers, ranges and exclusions `^N` of what stands before them. An empty set is no value.
///
/// ```
/// use domain::CpuSet;
/// let set: CpuSet = "0-3,^2,8".parse().unwrap();
/// assert_eq!(set.to_string(), "0-1,3,8");
/// assert!("3-1".parse::<CpuSet>().is_err());
/// assert!("".parse::<CpuSet>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<u32>);

/// Why a text is no set of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no list of numbers up to {HIGHEST}; write one such as 0-3,^2,8")]
pub struct CpuSetError(String);

impl CpuSet {
    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// The set of these numbers, none when there is no number.
    #[must_use]
    pub fn from_numbers(numbers: impl IntoIterator<Item = u32>) -> Option<Self> {
        let numbers: BTreeSet<u32> = numbers.into_iter().filter(|n| *n <= HIGHEST).collect();
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the set has the number.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }

    /// The highest number.
    #[must_use]
    pub fn highest(&self) -> u32 {
        self.0.last().copied().unwrap_or_default()
    }

    /// The numbers as ranges `(first, last)`, ascending.
    #[must_use]
    pub fn ranges(&self) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        ranges
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let wrong = || CpuSetError(text.to_owned());
        let number = |text: &str| {
            text.trim().parse::<u32>().ok().filter(|number| *number <= HIGHEST).ok_or_else(wrong)
        };
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let part = part.trim();
            if let Some(excluded) = part.strip_prefix('^') {
                set.remove(&number(excluded)?);
            } else if let Some((first, last)) = part.split_once('-') {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(wrong());
                }
                set.extend(first..=last);
            } else {
                set.insert(number(part)?);
            }
        }
        if set.is_empty() { Err(wrong()) } else { Ok(Self(set)) }
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}
