//! How fast nodes reach memory, as ACPI's table HMAT tells it.

use crate::memory_size::MemorySize;
use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

crate::keywords! {
    /// How a cache maps addresses.
    pub enum CacheAssociativity {
        /// Nothing is said.
        None = "none",
        /// Each address has one place.
        Direct = "direct",
        /// An address may stand anywhere.
        Full = "full",
    }
}

crate::keywords! {
    /// When a cache writes to memory.
    pub enum CachePolicy {
        /// Nothing is said.
        None = "none",
        /// When a line is needed for something else.
        Writeback = "writeback",
        /// At once.
        Writethrough = "writethrough",
    }
}

crate::keywords! {
    /// Which accesses a number is about.
    pub enum InterconnectType {
        /// All.
        Access = "access",
        /// Reading.
        Read = "read",
        /// Writing.
        Write = "write",
    }
}

/// A cache beside a node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumaCache {
    /// Its level, 1 to 3.
    pub level: u8,
    /// How it maps addresses.
    pub associativity: CacheAssociativity,
    /// When it writes to memory.
    pub policy: CachePolicy,
    /// How much it holds.
    pub size: MemorySize,
    /// The size of a line.
    pub line: MemorySize,
}

/// What an [`Interconnect`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterconnectKind {
    /// The time of an access in nanoseconds.
    Latency(u64),
    /// What fits through in a second.
    Bandwidth(MemorySize),
}

/// How fast a node's CPUs reach a node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interconnect {
    /// The node of the CPUs.
    pub initiator: u32,
    /// The node of the memory.
    pub target: u32,
    /// The level of the memory's cache that is meant instead of the memory.
    pub cache: Option<u8>,
    /// Which accesses.
    pub access: InterconnectType,
    /// How fast.
    pub kind: InterconnectKind,
}

impl NumaCache {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        for (name, example) in
            [("level", "1"), ("associativity", "direct"), ("policy", "writeback")]
        {
            let _ = reader.required(name, example); // Only its presence; the value is read below.
        }
        let part = |name: &'static str| {
            let part = reader.child(name);
            if part.is_none() {
                reader.refuse(format!("<{name}> is missing; add <{name} value='10' unit='KiB'/>"));
            }
            part.and_then(|part| amount(&part, if name == "line" { "bytes" } else { "KiB" }))
        };
        let (size, line) = (part("size"), part("line"));
        let (associativity, policy) = (reader.keyword("associativity"), reader.keyword("policy"));
        let level = reader.number("level").filter(|level| (1..=3).contains(level));
        if level.is_none() {
            reader.refuse_attribute("level", "a cache has level 1, 2 or 3");
        }
        Some(Self {
            level: level?,
            associativity: associativity?,
            policy: policy?,
            size: size?,
            line: line?,
        })
    }

    pub(super) fn write(self, writer: &mut Writer) {
        writer
            .element("cache")
            .attribute("level", self.level)
            .attribute("associativity", self.associativity)
            .attribute("policy", self.policy)
            .children(|w| {
                let size = w.element("size").attribute("value", self.size.kibibytes());
                size.attribute("unit", "KiB").empty();
                let line = w.element("line").attribute("value", self.line.bytes());
                line.attribute("unit", "B").empty();
            });
    }
}

impl Interconnect {
    pub(super) fn parse_all(reader: &Reader<'_>) -> Vec<Self> {
        let links = reader.unread_children();
        links.iter().filter_map(Self::parse).collect()
    }

    fn parse(reader: &Reader<'_>) -> Option<Self> {
        for name in ["initiator", "target", "type", "value"] {
            let example = if name == "type" { "access" } else { "0" };
            let _ = reader.required(name, example); // Only its presence; the value is read below.
        }
        let kind = match reader.name() {
            "latency" => reader.number("value").map(InterconnectKind::Latency),
            "bandwidth" => amount(reader, "KiB").map(InterconnectKind::Bandwidth),
            _ => {
                reader.ignore("the element is not known here and is ignored; remove it");
                return None;
            }
        };
        let (initiator, target) = (reader.number("initiator"), reader.number("target"));
        let (cache, access) = (reader.number("cache"), reader.keyword("type"));
        let (initiator, target) = (initiator?, target?);
        Some(Self { initiator, target, cache, access: access?, kind: kind? })
    }

    pub(super) fn write(self, writer: &mut Writer) {
        let name = match self.kind {
            InterconnectKind::Latency(_) => "latency",
            InterconnectKind::Bandwidth(_) => "bandwidth",
        };
        let element = writer
            .element(name)
            .attribute("initiator", self.initiator)
            .attribute("target", self.target)
            .optional("cache", self.cache)
            .attribute("type", self.access);
        match self.kind {
            InterconnectKind::Latency(value) => element.attribute("value", value).empty(),
            InterconnectKind::Bandwidth(size) => {
                element.attribute("value", size.kibibytes()).attribute("unit", "KiB").empty();
            }
        }
    }
}

/// An amount in the attributes `value` and `unit`.
fn amount(reader: &Reader<'_>, default_unit: &str) -> Option<MemorySize> {
    let unit = reader.attribute("unit").unwrap_or(default_unit);
    let text = reader.attribute("value")?;
    let size = parse_number(text).and_then(|number| MemorySize::scaled(number, unit).ok());
    if size.is_none() {
        reader.refuse_attribute(
            "value",
            format!("'{text}' {unit} is no amount; give such as 10 KiB"),
        );
    }
    size
}
