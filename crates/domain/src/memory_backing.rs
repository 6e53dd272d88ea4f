//! What the guest's memory is made of, `<memoryBacking>`.

use crate::reader::Reader;
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

/// What the guest's memory is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryBacking {
    /// Whether equal pages may be merged by the host.
    pub no_share_pages: bool,
    /// Whether the memory never leaves RAM.
    pub locked: bool,
    /// What it is made of.
    pub source: Option<MemorySource>,
    /// Whether other processes see it.
    pub access: Option<MemoryAccess>,
}

impl MemoryBacking {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        reader.refuse_children(&["hugepages", "allocation", "discard"]);
        Self {
            no_share_pages: reader.child("nosharepages").is_some(),
            locked: reader.child("locked").is_some(),
            source: reader.child("source").and_then(|source| source.keyword("type")),
            access: reader.child("access").and_then(|access| access.keyword("mode")),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("memoryBacking").children_if_any(|w| {
            if self.no_share_pages {
                w.element("nosharepages").empty();
            }
            if self.locked {
                w.element("locked").empty();
            }
            w.element("source").optional("type", self.source).empty_if_any();
            w.element("access").optional("mode", self.access).empty_if_any();
        });
    }
}
