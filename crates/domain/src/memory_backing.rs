//! What the guest's memory is made of, `<memoryBacking>`.

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

crate::keywords! {
    /// What the memory is made of.
    pub enum MemorySource {
        /// Anonymous memory.
        Anonymous = "anonymous",
        /// A file of the host.
        File = "file",
        /// A sealed file without a name.
        Memfd = "memfd",
    }
}

crate::keywords! {
    /// Whether other processes see the memory.
    pub enum MemoryAccess {
        /// They do.
        Shared = "shared",
        /// They do not.
        Private = "private",
    }
}

crate::keywords! {
    /// When the memory is allocated.
    pub enum MemoryAllocation {
        /// Before the guest starts.
        Immediate = "immediate",
        /// When the guest touches it.
        OnDemand = "ondemand",
    }
}

/// A size of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePage {
    /// Where the element stands.
    pub place: Place,
    /// The size.
    pub size: MemorySize,
    /// The guest's NUMA nodes whose memory has these pages; without one, all others.
    pub nodeset: Option<CpuSet>,
}

/// Memory in larger pages than usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Where the element stands.
    pub place: Place,
    /// The sizes; without one, the host's default for all memory.
    pub pages: Vec<HugePage>,
}

/// When the memory is allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocation {
    /// When.
    pub mode: Option<MemoryAllocation>,
    /// By how many threads.
    pub threads: Option<u32>,
}

/// What the guest's memory is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryBacking {
    /// Large pages.
    pub hugepages: Option<HugePages>,
    /// Whether equal pages may be merged by the host.
    pub no_share_pages: bool,
    /// Whether the memory never leaves RAM.
    pub locked: bool,
    /// What it is made of.
    pub source: Option<MemorySource>,
    /// Whether other processes see it.
    pub access: Option<MemoryAccess>,
    /// When it is allocated.
    pub allocation: Allocation,
    /// Whether its content may be thrown away when the guest ends.
    pub discard: bool,
}

impl MemoryBacking {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let allocation = reader.child("allocation");
        Self {
            hugepages: reader.child("hugepages").map(|pages| HugePages::parse(&pages)),
            no_share_pages: reader.child("nosharepages").is_some(),
            locked: reader.child("locked").is_some(),
            source: reader.child("source").and_then(|source| source.keyword("type")),
            access: reader.child("access").and_then(|access| access.keyword("mode")),
            allocation: allocation.map(|r| Allocation::parse(&r)).unwrap_or_default(),
            discard: reader.child("discard").is_some(),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("memoryBacking").children_if_any(|w| {
            if let Some(pages) = &self.hugepages {
                pages.write(w);
            }
            if self.no_share_pages {
                w.element("nosharepages").empty();
            }
            if self.locked {
                w.element("locked").empty();
            }
            w.element("source").optional("type", self.source).empty_if_any();
            w.element("access").optional("mode", self.access).empty_if_any();
            w.element("allocation")
                .optional("mode", self.allocation.mode)
                .optional("threads", self.allocation.threads)
                .empty_if_any();
            if self.discard {
                w.element("discard").empty();
            }
        });
    }
}

impl Allocation {
    fn parse(reader: &Reader<'_>) -> Self {
        Self { mode: reader.keyword("mode"), threads: reader.number("threads") }
    }
}

impl HugePages {
    fn parse(reader: &Reader<'_>) -> Self {
        let pages = reader.children("page");
        Self { place: reader.place(), pages: pages.iter().filter_map(HugePage::parse).collect() }
    }

    fn write(&self, writer: &mut Writer) {
        writer.element("hugepages").children(|w| {
            for page in &self.pages {
                w.element("page")
                    .attribute("size", page.size.kibibytes())
                    .attribute("unit", "KiB")
                    .optional("nodeset", page.nodeset.as_ref())
                    .empty();
            }
        });
    }
}

impl HugePage {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let unit = reader.attribute("unit").unwrap_or("KiB");
        let nodeset = reader.value("nodeset");
        let text = reader.required("size", "2048")?;
        let size = parse_number(text).and_then(|number| MemorySize::scaled(number, unit).ok());
        if size.is_none_or(|size| size.bytes() == 0) {
            let what = format!("'{text}' {unit} is no size of pages; give such as 2048 KiB");
            reader.refuse_attribute("size", what);
        }
        Some(Self { place: reader.place(), size: size?, nodeset })
    }
}
