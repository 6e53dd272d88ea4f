//! The guest's NUMA nodes, `<cpu><numa>`.

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::memory_backing::MemoryAccess;
use crate::memory_size::MemorySize;
use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

mod interconnects;

pub use interconnects::{
    CacheAssociativity, CachePolicy, Interconnect, InterconnectKind, InterconnectType, NumaCache,
};

/// The distance of a node to itself, by ACPI's table SLIT.
pub const LOCAL_DISTANCE: u32 = 10;

/// The distance of two nodes of which nothing is said.
pub const REMOTE_DISTANCE: u32 = 20;

/// How far another node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumaDistance {
    /// The other node.
    pub id: u32,
    /// The distance, [`LOCAL_DISTANCE`] to 255.
    pub value: u32,
}

/// A node: CPUs and the memory near them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaCell {
    /// Where the element stands.
    pub place: Place,
    /// The number of the node.
    pub id: u32,
    /// The virtual CPUs; none for memory alone.
    pub cpus: Option<CpuSet>,
    /// How much memory there is.
    pub memory: MemorySize,
    /// Whether other processes see the memory.
    pub access: Option<MemoryAccess>,
    /// Whether the memory's content may be thrown away when the guest ends.
    pub discard: Option<bool>,
    /// How far other nodes are.
    pub distances: Vec<NumaDistance>,
    /// Caches beside the memory.
    pub caches: Vec<NumaCache>,
}

/// The guest's NUMA nodes, numbered from 0 without gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numa {
    /// Where the element stands.
    pub place: Place,
    /// The nodes, ascending.
    pub cells: Vec<NumaCell>,
    /// How fast nodes reach each other's memory.
    pub interconnects: Vec<Interconnect>,
}

impl Numa {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let mut cells: Vec<NumaCell> = Vec::new();
        for (position, cell) in (0..).zip(reader.children("cell")) {
            cells.extend(NumaCell::parse(&cell, position));
        }
        let interconnects = reader.child("interconnects");
        cells.sort_by_key(|cell| cell.id);
        let numa = Self {
            place: reader.place(),
            cells,
            interconnects: interconnects.map(|r| Interconnect::parse_all(&r)).unwrap_or_default(),
        };
        if numa.cells.is_empty() {
            return None;
        }
        numa.check(reader);
        Some(numa)
    }

    fn check(&self, reader: &Reader<'_>) {
        let refuse = |cell: &NumaCell, what: String| reader.faults().push(cell.place.refused(what));
        for (expected, cell) in (0..).zip(&self.cells) {
            if cell.id != expected {
                let what = format!("no <cell> has id {expected}; number them from 0 without gap");
                refuse(cell, what);
                return;
            }
        }
        for (position, cell) in self.cells.iter().enumerate() {
            let mut before = self.cells[..position].iter();
            let cpus = |cell: &NumaCell| cell.cpus.clone();
            let Some(own) = cpus(cell) else { continue };
            let shared = |other: &&NumaCell| {
                cpus(other).is_some_and(|other| other.iter().any(|cpu| own.contains(cpu)))
            };
            if let Some(other) = before.find(shared) {
                let what =
                    format!("virtual CPUs of cell {} stand here, too; remove them", other.id);
                refuse(cell, what);
            }
            let unknown = |id: u32| self.cell(id).is_none();
            if let Some(far) = cell.distances.iter().find(|distance| unknown(distance.id)) {
                refuse(
                    cell,
                    format!("<sibling> names cell {}, which is missing; remove it", far.id),
                );
            }
        }
        for link in &self.interconnects {
            if self.cell(link.initiator).is_none() || self.cell(link.target).is_none() {
                let what = "<interconnects> names a cell that is missing; remove the line";
                reader.refuse(what);
            }
        }
    }

    /// The node with this number.
    #[must_use]
    pub fn cell(&self, id: u32) -> Option<&NumaCell> {
        self.cells.iter().find(|cell| cell.id == id)
    }

    /// The memory of all nodes.
    #[must_use]
    pub fn memory(&self) -> MemorySize {
        let bytes = self.cells.iter().fold(0_u64, |sum, c| sum.saturating_add(c.memory.bytes()));
        MemorySize::from_bytes(bytes)
    }

    /// How far `to` is from `from`, if one of both says it.
    #[must_use]
    pub fn distance(&self, from: u32, to: u32) -> Option<u32> {
        let said = |from: u32, to: u32| {
            let distances = &self.cell(from)?.distances;
            distances.iter().find(|distance| distance.id == to).map(|distance| distance.value)
        };
        said(from, to).or_else(|| said(to, from))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("numa").children(|w| {
            self.cells.iter().for_each(|cell| cell.write(w));
            w.element("interconnects")
                .children_if_any(|w| self.interconnects.iter().for_each(|link| link.write(w)));
        });
    }
}

impl NumaCell {
    fn parse(reader: &Reader<'_>, position: u32) -> Option<Self> {
        let distances = reader.child("distances");
        let siblings = distances.map(|distances| distances.children("sibling")).unwrap_or_default();
        let caches = reader.children("cache");
        let _ = reader.required("memory", "1048576"); // The amount itself is read last.
        Some(Self {
            place: reader.place(),
            id: reader.number("id").unwrap_or(position),
            cpus: reader.value("cpus"),
            access: reader.keyword("memAccess"),
            discard: reader.yes_no("discard"),
            distances: siblings.iter().filter_map(NumaDistance::parse).collect(),
            caches: caches.iter().filter_map(NumaCache::parse).collect(),
            memory: memory(reader)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element("cell")
            .attribute("id", self.id)
            .optional("cpus", self.cpus.as_ref())
            .attribute("memory", self.memory.kibibytes())
            .attribute("unit", "KiB")
            .optional("memAccess", self.access)
            .yes_no("discard", self.discard)
            .children(|w| {
                w.element("distances").children_if_any(|w| {
                    for distance in &self.distances {
                        w.element("sibling")
                            .attribute("id", distance.id)
                            .attribute("value", distance.value)
                            .empty();
                    }
                });
                self.caches.iter().for_each(|cache| cache.write(w));
            });
    }
}

/// The attributes `memory` and `unit` of a node.
fn memory(reader: &Reader<'_>) -> Option<MemorySize> {
    let unit = reader.attribute("unit").unwrap_or("KiB");
    let text = reader.attribute("memory")?;
    let Some(number) = parse_number(text) else {
        reader
            .refuse_attribute("memory", format!("'{text}' is no number; give one such as 1048576"));
        return None;
    };
    match MemorySize::scaled(number, unit) {
        Ok(size) => Some(size),
        Err(error) => {
            reader.refuse_attribute("memory", error);
            None
        }
    }
}

impl NumaDistance {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = (reader.required("id", "1"), reader.required("value", "20")); // Read next.
        let (id, value) = (reader.number("id"), reader.number("value"));
        let distance = Self { id: id?, value: value? };
        if !(LOCAL_DISTANCE..=255).contains(&distance.value) {
            reader.refuse_attribute("value", "a distance is a number of 10 to 255");
        }
        Some(distance)
    }
}
