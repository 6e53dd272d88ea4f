//! How much memory the guest has, `<memory>`, `<currentMemory>` and `<maxMemory>`.

use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

/// Up to where memory can be added to the running guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxMemory {
    /// The sum that can be reached.
    pub size: MemorySize,
    /// How many devices can be plugged.
    pub slots: Option<u32>,
}

/// How much memory the guest has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where `<memory>` stands, if it is there.
    pub place: Option<Place>,
    /// What it starts with; none when only the NUMA nodes say it.
    pub size: Option<MemorySize>,
    /// What the balloon leaves it.
    pub current: Option<MemorySize>,
    /// Up to where memory can be added.
    pub maximum: Option<MaxMemory>,
    /// Whether a core dump of QEMU has the guest's memory.
    pub dump_core: Option<bool>,
}

impl Memory {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        Self::parse_with(|name| root.child(name))
    }

    /// Reads the elements that `child` finds below the root by their names.
    pub(crate) fn parse_with<'d>(child: impl Fn(&str) -> Option<Reader<'d>>) -> Self {
        let memory = child("memory");
        let current = child("currentMemory");
        Self {
            place: memory.as_ref().map(Reader::place),
            dump_core: memory.as_ref().and_then(|memory| memory.on_off("dumpCore")),
            size: memory.and_then(|memory| MemorySize::parse(&memory)),
            current: current.and_then(|current| MemorySize::parse(&current)),
            maximum: child("maxMemory").and_then(|maximum| MaxMemory::parse(&maximum)),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if let Some(maximum) = self.maximum {
            writer
                .element("maxMemory")
                .optional("slots", maximum.slots)
                .attribute("unit", "KiB")
                .text(maximum.size.kibibytes());
        }
        if let Some(size) = self.size {
            writer
                .element("memory")
                .on_off("dumpCore", self.dump_core)
                .attribute("unit", "KiB")
                .text(size.kibibytes());
        }
        if let Some(current) = self.current {
            current.write("currentMemory", writer);
        }
    }
}

impl MaxMemory {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let slots = reader.number("slots");
        Some(Self { size: MemorySize::parse(reader)?, slots })
    }
}
