//! How much of the host's memory the guest may take, `<memtune>`.

use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

/// From this amount on a limit is none: 2^53 - 1 KiB.
const UNLIMITED: MemorySize = MemorySize::from_bytes(((1 << 53) - 1) << 10);

/// How much of the host's memory the guest may take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTuning {
    /// Where the element stands.
    pub place: Place,
    /// The most.
    pub hard_limit: Option<MemorySize>,
    /// The most when the host has little left.
    pub soft_limit: Option<MemorySize>,
    /// What is promised to the guest.
    pub min_guarantee: Option<MemorySize>,
    /// The most together with swap.
    pub swap_hard_limit: Option<MemorySize>,
}

impl MemoryTuning {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let limit = |name: &str| {
            let size = reader.child(name).and_then(|size| MemorySize::parse(&size));
            size.filter(|size| *size < UNLIMITED)
        };
        let tuning = Self {
            place: reader.place(),
            hard_limit: limit("hard_limit"),
            soft_limit: limit("soft_limit"),
            min_guarantee: limit("min_guarantee"),
            swap_hard_limit: limit("swap_hard_limit"),
        };
        (tuning != Self { place: reader.place(), ..Self::default() }).then_some(tuning)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("memtune").children_if_any(|w| {
            for (name, limit) in [
                ("hard_limit", self.hard_limit),
                ("soft_limit", self.soft_limit),
                ("min_guarantee", self.min_guarantee),
                ("swap_hard_limit", self.swap_hard_limit),
            ] {
                if let Some(limit) = limit {
                    limit.write(name, w);
                }
            }
        });
    }
}
