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

crate::attributes! {
    /// One virtual CPU, `<vcpus><vcpu>`.
    pub struct Vcpu {
        /// Its number.
        pub id: u32 = number "id",
        /// Whether the guest starts with it.
        pub enabled: bool = yes_no "enabled",
        /// Whether it can be removed and added while the guest runs.
        pub hotpluggable: bool = yes_no "hotpluggable",
        /// Its place among those that are added, from 1.
        pub order: u32 = number "order",
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
    /// The virtual CPUs one by one, ascending, when the domain names them.
    pub each: Vec<Vcpu>,
}

/// More CPUs than any machine of QEMU has; what lists them all stays small.
const MOST: u32 = 16_384;

impl Default for Vcpus {
    fn default() -> Self {
        let place = Place::default();
        Self { place, maximum: 1, current: None, placement: None, cpuset: None, each: Vec::new() }
    }
}

impl Vcpus {
    pub(crate) fn parse(reader: &Reader<'_>, each: Option<&Reader<'_>>) -> Self {
        let text = reader.text();
        let maximum = parse_number(&text).and_then(|count| u32::try_from(count).ok());
        let maximum = maximum.filter(|count| (1..=MOST).contains(count));
        if maximum.is_none() {
            reader.refuse(format!("'{text}' is no number of virtual CPUs; give 1 to {MOST}"));
        }
        let current = reader.number("current");
        if let (Some(current), Some(maximum)) = (current, maximum)
            && (current == 0 || current > maximum)
        {
            let what = format!("{current} is not between 1 and the {maximum} of the element");
            reader.refuse_attribute("current", what);
        }
        let each = each.map(|each| Vcpu::parse_all(each, maximum.unwrap_or(1)));
        let each = each.unwrap_or_default();
        let online = each.iter().filter(|vcpu| vcpu.enabled == Some(true)).count();
        let online = u32::try_from(online).ok().filter(|_| !each.is_empty());
        if let (Some(current), Some(online)) = (current, online)
            && current != online
        {
            let what = format!("{current} is not the number of enabled <vcpu>, {online}");
            reader.refuse_attribute("current", what);
        }
        Self {
            each,
            place: reader.place(),
            maximum: maximum.unwrap_or(1),
            current: online.or(current).filter(|current| Some(*current) != maximum),
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
        writer
            .element("vcpus")
            .children_if_any(|w| self.each.iter().for_each(|vcpu| vcpu.write("vcpu", w)));
    }
}

impl Vcpu {
    /// Reads `<vcpus>` of a guest with `maximum` virtual CPUs, each of which must be named.
    fn parse_all(reader: &Reader<'_>, maximum: u32) -> Vec<Self> {
        let mut all = Vec::new();
        for child in reader.children("vcpu") {
            let _ = (child.required("id", "0"), child.required("enabled", "yes")); // Read next.
            let vcpu = Self::parse(&child);
            if vcpu.id == Some(0) && vcpu.enabled == Some(false) {
                child.refuse("a guest starts with virtual CPU 0; enable it");
            }
            if vcpu.enabled == Some(false) && vcpu.hotpluggable == Some(false) {
                child.refuse("a virtual CPU that is off must be hotpluggable; change one of both");
            }
            all.push(vcpu);
        }
        all.sort_by_key(|vcpu: &Self| vcpu.id);
        let ids = all.iter().map(|vcpu| vcpu.id);
        if !ids.eq((0..maximum).map(Some)) {
            reader.refuse(format!(
                "<vcpus> must have one <vcpu> for each id from 0 to {}",
                maximum - 1
            ));
        }
        all
    }
}
