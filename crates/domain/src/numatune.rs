//! On which nodes of the host the guest's memory lies, `<numatune>`.

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// How strictly memory keeps to its nodes.
    pub enum NumaMode {
        /// It lies nowhere else.
        Strict = "strict",
        /// It lies elsewhere when they are full.
        Preferred = "preferred",
        /// It is spread over them.
        Interleave = "interleave",
        /// The host keeps it there by control groups, QEMU is not told.
        Restrictive = "restrictive",
    }
}

crate::keywords! {
    /// Who chooses the nodes.
    pub enum NumaPlacement {
        /// The domain.
        Static = "static",
        /// The host.
        Auto = "auto",
    }
}

/// Where all memory lies, unless a node says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaMemory {
    /// Where the element stands.
    pub place: Place,
    /// How strictly.
    pub mode: Option<NumaMode>,
    /// Who chooses.
    pub placement: Option<NumaPlacement>,
    /// The host's nodes.
    pub nodeset: Option<CpuSet>,
}

/// Where the memory of one guest node lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaMemnode {
    /// Where the element stands.
    pub place: Place,
    /// The guest's node.
    pub cell: u32,
    /// How strictly.
    pub mode: Option<NumaMode>,
    /// The host's nodes.
    pub nodeset: CpuSet,
}

/// On which nodes of the host the guest's memory lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaTuning {
    /// All memory.
    pub memory: Option<NumaMemory>,
    /// Nodes of the guest, ascending.
    pub memnodes: Vec<NumaMemnode>,
}

impl NumaTuning {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let nodes = reader.children("memnode");
        let mut memnodes: Vec<_> = nodes.iter().filter_map(NumaMemnode::parse).collect();
        memnodes.sort_by_key(|node| node.cell);
        for pair in memnodes.windows(2) {
            if pair[0].cell == pair[1].cell {
                let what =
                    format!("a <memnode> for cell {} stands above; remove one", pair[1].cell);
                reader.faults().push(pair[1].place.refused(what));
            }
        }
        let memory = reader.child("memory").map(|memory| NumaMemory::parse(&memory));
        if memory.is_none() && memnodes.is_empty() {
            return None;
        }
        Some(Self { memory, memnodes })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("numatune").children_if_any(|w| {
            if let Some(memory) = &self.memory {
                w.element("memory")
                    .optional("mode", memory.mode)
                    .optional("nodeset", memory.nodeset.as_ref())
                    .optional("placement", memory.placement.filter(|_| memory.nodeset.is_none()))
                    .empty();
            }
            for node in &self.memnodes {
                w.element("memnode")
                    .attribute("cellid", node.cell)
                    .optional("mode", node.mode)
                    .attribute("nodeset", &node.nodeset)
                    .empty();
            }
        });
    }
}

impl NumaMemory {
    fn parse(reader: &Reader<'_>) -> Self {
        Self {
            place: reader.place(),
            mode: reader.keyword("mode"),
            placement: reader.keyword("placement"),
            nodeset: reader.value("nodeset"),
        }
    }
}

impl NumaMemnode {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = (reader.required("cellid", "0"), reader.required("nodeset", "0-1")); // Read next.
        let (cell, nodeset) = (reader.number("cellid"), reader.value("nodeset"));
        let mode = reader.keyword("mode");
        Some(Self { place: reader.place(), cell: cell?, mode, nodeset: nodeset? })
    }
}
