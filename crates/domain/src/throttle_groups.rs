//! Limits that several disks share, `<throttlegroups>`.

use crate::block_limits::BlockLimits;
use crate::reader::Reader;
use crate::writer::Writer;

/// Groups of limits for disks, each with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottleGroups {
    /// The groups.
    pub groups: Vec<BlockLimits>,
}

impl ThrottleGroups {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let mut groups: Vec<BlockLimits> = Vec::new();
        for child in reader.children("throttlegroup") {
            let group = BlockLimits::parse(&child);
            if group.group.is_none() {
                child.refuse("<group_name> is missing; add one such as <group_name>a</group_name>");
            }
            if groups.iter().any(|other| other.group == group.group) {
                child.refuse("another group has this name; give another");
            }
            groups.push(group);
        }
        Some(Self { groups })
    }

    /// Whether there is a group of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.groups.iter().any(|group| group.group.as_deref() == Some(name))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("throttlegroups").children_if_any(|w| {
            self.groups.iter().for_each(|group| group.write("throttlegroup", w));
        });
    }
}
