//! Maps of the guest's users and groups to the host's, `<idmap>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::attributes! {
    /// A range of ids.
    pub struct IdRange {
        /// The first id in the guest.
        pub start: u32 = number "start",
        /// The first id on the host.
        pub target: u32 = number "target",
        /// How many there are.
        pub count: u32 = number "count",
    }
}

/// Maps of ids. They are for containers; a virtual machine's users are none of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Where the element stands.
    pub place: Place,
    /// Users.
    pub users: Vec<IdRange>,
    /// Groups.
    pub groups: Vec<IdRange>,
}

impl IdMap {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let ranges = |name: &str| {
            let mut ranges: Vec<IdRange> =
                reader.children(name).iter().map(IdRange::parse).collect();
            ranges.sort_by_key(|range| range.start);
            ranges
        };
        let map = Self { place: reader.place(), users: ranges("uid"), groups: ranges("gid") };
        for ranges in [&map.users, &map.groups] {
            let complete = ranges.iter().all(|range| {
                range.start.is_some() && range.target.is_some() && range.count.is_some()
            });
            if !complete || ranges.first().is_some_and(|range| range.start != Some(0)) {
                reader.refuse(
                    "each range has 'start', 'target' and 'count', and the first starts at 0",
                );
            }
        }
        let empty = map.users.is_empty() && map.groups.is_empty();
        (!empty).then_some(map)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("idmap").children_if_any(|w| {
            self.users.iter().for_each(|range| range.write("uid", w));
            self.groups.iter().for_each(|range| range.write("gid", w));
        });
    }
}
