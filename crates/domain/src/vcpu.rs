//! How many virtual CPUs the guest has, `<vcpu>`.

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

crate::keywords! {
    /// Who chooses the host CPUs.
    pub enum CpuPlacement {
        /// The domain.
        Static = "static",
        /// The host.
        Auto = "auto",
    }
}

/// How many virtual CPUs the guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vcpus {
    /// Where the element stands.
    pub place: Place,
    /// The most it can have.
    pub maximum: u32,
    /// How many it starts with, when not all.
    pub current: Option<u32>,
    /// Who chooses the host CPUs.
    pub placement: Option<CpuPlacement>,
    /// The host CPUs that the virtual ones run on.
    pub cpuset: Option<CpuSet>,
}

impl Default for Vcpus {
    fn default() -> Self {
        let place = Place::default();
        Self { place, maximum: 1, current: None, placement: None, cpuset: None }
    }
}

impl Vcpus {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let text = reader.text();
        let maximum = parse_number(&text).and_then(|count| u32::try_from(count).ok());
        if maximum.is_none_or(|count| count == 0) {
            reader.refuse(format!("'{text}' is no number of virtual CPUs; give 1 or more"));
        }
        let current = reader.number("current");
        if let (Some(current), Some(maximum)) = (current, maximum)
            && (current == 0 || current > maximum)
        {
            let what = format!("{current} is not between 1 and the {maximum} of the element");
            reader.refuse_attribute("current", what);
        }
        Self {
            place: reader.place(),
            maximum: maximum.unwrap_or(1),
            current: current.filter(|current| Some(*current) != maximum),
            placement: reader.keyword("placement"),
            cpuset: reader.value("cpuset"),
        }
    }

    /// How many the guest starts with.
    #[must_use]
    pub fn online(&self) -> u32 {
        self.current.unwrap_or(self.maximum)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("vcpu")
            .optional("placement", self.placement)
            .optional("cpuset", self.cpuset.as_ref())
            .optional("current", self.current)
            .text(self.maximum);
    }
}
