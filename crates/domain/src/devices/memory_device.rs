//! Memory that can be plugged, `<memory>` below `<devices>`.

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::memory_backing::MemoryAccess;
use crate::memory_size::MemorySize;
use crate::names::DomainUuid;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// A kind of memory.
    pub enum MemoryModel {
        /// A module of ordinary memory.
        Dimm = "dimm",
        /// A module that keeps its content in a file.
        Nvdimm = "nvdimm",
        /// A device of virtio that keeps its content in a file.
        VirtioPmem = "virtio-pmem",
        /// A device of virtio whose size changes while the guest runs.
        VirtioMem = "virtio-mem",
        /// Protected memory of Intel SGX.
        SgxEpc = "sgx-epc",
    }
}

/// What the memory is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDeviceSource {
    /// The size of its pages.
    pub page_size: Option<MemorySize>,
    /// The host's nodes it lies on.
    pub nodes: Option<CpuSet>,
    /// The file with its content.
    pub path: Option<String>,
    /// To what the mapping of the file is aligned.
    pub align_size: Option<MemorySize>,
    /// Whether the file itself is persistent memory.
    pub pmem: bool,
}

/// What the guest sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDeviceTarget {
    /// How much memory there is at most.
    pub size: MemorySize,
    /// The guest's NUMA node it belongs to.
    pub node: Option<u32>,
    /// The part of the size that holds labels.
    pub label_size: Option<MemorySize>,
    /// Whether the guest cannot write.
    pub readonly: bool,
    /// By which steps the size changes.
    pub block: Option<MemorySize>,
    /// How much the guest is to use at first.
    pub requested: Option<MemorySize>,
    /// Whether the host maps the memory piece by piece.
    pub dynamic_slots: Option<bool>,
    /// The guest's physical address.
    pub base: Option<u64>,
}

/// Memory that can be plugged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryDevice {
    /// Where the element stands.
    pub place: Place,
    /// The kind.
    pub model: MemoryModel,
    /// Whether other processes see the memory.
    pub access: Option<MemoryAccess>,
    /// Whether the content may be thrown away when the guest ends.
    pub discard: Option<bool>,
    /// By what the guest knows the device.
    pub uuid: Option<DomainUuid>,
    /// What it is made of.
    pub source: MemoryDeviceSource,
    /// What the guest sees.
    pub target: MemoryDeviceTarget,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl MemoryDevice {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("model", "dimm"); // The keyword itself is read below.
        let source = reader.child("source");
        let target = reader.child("target");
        if target.is_none() {
            reader.refuse("<target> is missing; add <target><size unit='GiB'>1</size></target>");
        }
        let uuid = reader.child("uuid").and_then(|uuid| uuid.text_value());
        let device = Self {
            place: reader.place(),
            access: reader.keyword("access"),
            discard: reader.yes_no("discard"),
            uuid,
            source: source.map(|r| MemoryDeviceSource::parse(&r)).unwrap_or_default(),
            target: target
                .and_then(|target| MemoryDeviceTarget::parse(&target))
                .unwrap_or_default(),
            info: DeviceInfo::parse(reader),
            model: reader.keyword("model")?,
        };
        device.check(reader);
        Some(device)
    }

    fn check(&self, reader: &Reader<'_>) {
        let nvdimm = self.model == MemoryModel::Nvdimm;
        let pmem = self.model == MemoryModel::VirtioPmem;
        if nvdimm && self.uuid.is_some() {
            reader.refuse("a module of model='nvdimm' has no <uuid> in an x86 guest; remove it");
        }
        if pmem && self.access != Some(MemoryAccess::Shared) {
            reader.refuse("model='virtio-pmem' writes to its file; add access='shared'");
        }
        if pmem && self.target.node.is_some() {
            reader.refuse("model='virtio-pmem' stands on no <node>; remove it");
        }
        let in_file = matches!(self.model, MemoryModel::Nvdimm | MemoryModel::VirtioPmem);
        if in_file && self.source.path.is_none() {
            reader.refuse("<source><path> is missing; name the file that holds the content");
        }
        if !in_file && self.source.path.is_some() {
            reader.refuse("<path> is for nvdimm and virtio-pmem only; remove it");
        }
        if self.model == MemoryModel::VirtioMem {
            self.check_blocks(reader);
        }
        if in_file && self.discard.is_some() {
            reader.refuse_attribute("discard", "memory in a file keeps its content; remove it");
        }
        if self.target.readonly && self.source.pmem {
            reader.refuse("<pmem> needs a file that is written to; remove <readonly>");
        }
        if let Some(label) = self.target.label_size {
            if self.model != MemoryModel::Nvdimm {
                reader.refuse("<label> is for nvdimm only; remove it");
            } else if label.bytes() < 128 << 10 || label >= self.target.size {
                reader.refuse("<label> has at least 128 KiB and less than the whole; change it");
            }
        }
    }

    fn check_blocks(&self, reader: &Reader<'_>) {
        let target = &self.target;
        let (Some(block), Some(requested)) = (target.block, target.requested) else {
            reader.refuse("virtio-mem needs <block> and <requested> in <target>; add them");
            return;
        };
        let block = block.bytes();
        // Less than a transparent huge page of the host could not be given back.
        if !block.is_power_of_two() || block < 2 << 20 {
            reader.refuse("<block> is no power of 2 of 2 MiB and more; give such as 2 MiB");
            return;
        }
        let fits = |size: MemorySize| size.bytes().is_multiple_of(block);
        if requested > target.size || !fits(requested) || !fits(target.size) {
            reader.refuse(
                "<size> and <requested> must be multiples of <block>, and <requested> not \
                           more than <size>; change them",
            );
        }
        if target.base.is_some_and(|base| !base.is_multiple_of(block)) {
            reader.refuse("the address in <target> is no multiple of <block>; change it");
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("memory")
            .attribute("model", self.model)
            .optional("access", self.access)
            .yes_no("discard", self.discard)
            .children(|w| {
                if let Some(uuid) = self.uuid {
                    w.element("uuid").text(uuid);
                }
                w.element("source").children_if_any(|w| self.source.write(w));
                w.element("target")
                    .yes_no("dynamicMemslots", self.target.dynamic_slots)
                    .children(|w| self.target.write(w));
                self.info.write(w);
            });
    }
}

impl MemoryDeviceSource {
    fn parse(reader: &Reader<'_>) -> Self {
        let size = |name: &str| reader.child(name).and_then(|size| MemorySize::parse(&size));
        Self {
            page_size: size("pagesize"),
            nodes: reader.child("nodemask").and_then(|nodes| nodes.text_value()),
            path: reader.child("path").map(|path| path.text().into_owned()),
            align_size: size("alignsize"),
            pmem: reader.child("pmem").is_some(),
        }
    }

    fn write(&self, w: &mut Writer) {
        if let Some(nodes) = &self.nodes {
            w.element("nodemask").text(nodes);
        }
        if let Some(size) = self.page_size {
            size.write("pagesize", w);
        }
        if let Some(path) = &self.path {
            w.element("path").text(path);
        }
        if let Some(size) = self.align_size {
            size.write("alignsize", w);
        }
        if self.pmem {
            w.element("pmem").empty();
        }
    }
}

impl MemoryDeviceTarget {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let size = |name: &str| reader.child(name).and_then(|size| MemorySize::parse(&size));
        if let Some(current) = reader.child("current") {
            let _ = current.raw(); // What the last run had.
        }
        let label = reader.child("label").and_then(|label| label.child("size"));
        let address = reader.child("address");
        let total = size("size");
        if total.is_none() {
            reader.refuse("<size> is missing; add one such as <size unit='GiB'>1</size>");
        }
        Some(Self {
            node: reader.child("node").and_then(|node| node.text_number()),
            label_size: label.and_then(|label| MemorySize::parse(&label)),
            readonly: reader.child("readonly").is_some(),
            block: size("block"),
            requested: size("requested"),
            dynamic_slots: reader.yes_no("dynamicMemslots"),
            base: address.and_then(|address| address.number("base")),
            size: total?,
        })
    }

    fn write(&self, w: &mut Writer) {
        self.size.write("size", w);
        if let Some(node) = self.node {
            w.element("node").text(node);
        }
        if let Some(label) = self.label_size {
            w.element("label").children(|w| label.write("size", w));
        }
        if self.readonly {
            w.element("readonly").empty();
        }
        if let Some(block) = self.block {
            block.write("block", w);
        }
        if let Some(requested) = self.requested {
            requested.write("requested", w);
        }
        w.element("address")
            .optional("base", self.base.map(|base| format!("0x{base:x}")))
            .empty_if_any();
    }
}
