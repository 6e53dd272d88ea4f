//! What a piece of the guest's memory is made of: QEMU's objects `memory-backend-*`.

use domain::{CpuSet, MemoryAccess, MemoryAllocation, MemorySize, MemorySource, NumaMode, Place};

use crate::command::Command;
use crate::json::{Json, Object};
use crate::{memory_backing, numatune};

/// A piece of memory, with what its own element says of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Region {
    /// The element's place.
    pub(crate) place: Place,
    /// The id of the object.
    pub(crate) id: String,
    /// The name of its file.
    pub(crate) alias: String,
    /// How much.
    pub(crate) size: MemorySize,
    /// The guest's node it belongs to.
    pub(crate) node: Option<u32>,
    /// The size of pages.
    pub(crate) page_size: Option<MemorySize>,
    /// The host's nodes.
    pub(crate) nodes: Option<CpuSet>,
    /// The file with its content.
    pub(crate) path: Option<String>,
    /// To what the file's mapping is aligned.
    pub(crate) align: Option<MemorySize>,
    /// Whether the file is persistent memory.
    pub(crate) pmem: bool,
    /// Whether the guest cannot write.
    pub(crate) readonly: bool,
    /// Whether other processes see it.
    pub(crate) access: Option<MemoryAccess>,
    /// Whether its content may be thrown away.
    pub(crate) discard: Option<bool>,
    /// What becomes of it.
    pub(crate) role: Role,
}

/// What becomes of a piece of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// All memory of a guest without NUMA nodes.
    Whole,
    /// The memory of a node, or a module.
    #[default]
    Part,
    /// A module that keeps its content.
    Persistent,
    /// A device whose size changes.
    Variable,
    /// Protected memory of Intel SGX.
    Enclave,
}

/// The objects of a piece of memory.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Threads that allocate it on its nodes.
    pub(crate) context: Option<Object>,
    /// The memory.
    pub(crate) object: Object,
    /// Whether the domain asks for something that only an object can have.
    pub(crate) asked: bool,
    /// Whether it is allocated before the guest starts.
    pub(crate) prealloc: bool,
}

impl Backend {
    /// Adds the objects.
    pub(crate) fn add(&self, command: &mut Command<'_>) {
        if let Some(context) = &self.context {
            command.object(context);
        }
        command.object(&self.object);
    }
}

/// What a region's memory is made of, after all elements that speak of it.
struct Plan {
    source: MemorySource,
    page: Option<MemorySize>,
    access: Option<MemoryAccess>,
    discard: Option<bool>,
    prealloc: bool,
    nodes: Option<CpuSet>,
    mode: NumaMode,
}

/// The objects of a piece of memory.
pub(crate) fn backend(command: &mut Command<'_>, region: &Region) -> Backend {
    let plan = plan(command, region);
    let backing = &command.domain.memory_backing;
    let asked = plan.page.is_some()
        || region.nodes.is_some()
        || numatune::names_node(command.domain, region.node)
        || region.path.is_some()
        || plan.access.is_some()
        || matches!(backing.source, Some(MemorySource::File | MemorySource::Memfd));
    let object = made_of(command, region, &plan);
    let whole_in_file = region.role == Role::Whole && plan.source != MemorySource::Anonymous;
    let variable = region.role == Role::Variable;
    // The name of the memory block must stay what it was before QEMU had objects for it.
    let object = object
        .some("x-use-canonical-path-for-ramblock-id", whole_in_file.then_some(false))
        .some("share", plan.access.map(|access| access == MemoryAccess::Shared))
        .some("readonly", region.readonly_object())
        .some("reserve", variable.then_some(false))
        .some("prealloc", (plan.prealloc && !variable).then_some(true));
    let threads = backing.allocation.threads.filter(|_| plan.prealloc && !variable);
    let object = object
        .some("prealloc-threads", threads)
        .set("size", region.size.bytes())
        .some("align", region.align.map(MemorySize::bytes))
        .some("pmem", region.pmem.then_some(true));
    let (object, context) = placed(command, region, &plan, object);
    Backend { context, object, asked, prealloc: plan.prealloc }
}

impl Region {
    /// A file of persistent memory that is only read must be opened so.
    fn readonly_object(&self) -> Option<bool> {
        (self.readonly && self.pmem).then_some(true)
    }
}

fn plan(command: &Command<'_>, region: &Region) -> Plan {
    let (domain, backing) = (command.domain, &command.domain.memory_backing);
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    let cell = region.node.and_then(|node| numa?.cell(node));
    let page = match region.page_size {
        Some(size) => memory_backing::large(size),
        None => memory_backing::page_size(domain, command.facts, region.node),
    };
    let page = page.filter(|_| region.path.is_none() && region.role != Role::Enclave);
    let access = region.access.or(cell.and_then(|cell| cell.access)).or(backing.access);
    let discard = region.discard.or(cell.and_then(|cell| cell.discard));
    let immediate = backing.allocation.mode == Some(MemoryAllocation::Immediate);
    let in_module = region.role == Role::Persistent && region.path.is_some();
    let source = match (backing.source, &region.path) {
        (Some(MemorySource::Memfd), None) => MemorySource::Memfd,
        (_, Some(_)) => MemorySource::File,
        (Some(MemorySource::File), None) => MemorySource::File,
        (Some(MemorySource::Anonymous) | None, None) if page.is_some() || access.is_some() => {
            MemorySource::File
        }
        (Some(MemorySource::Anonymous) | None, None) => MemorySource::Anonymous,
    };
    let (tuned, mode) = numatune::host_nodes(domain, command.facts, region.node);
    Plan {
        source,
        page,
        access,
        discard: discard.or(backing.discard.then_some(true)),
        // Memory that is persistent itself would only wear off.
        prealloc: immediate
            || page.is_some()
            || (in_module && !region.pmem)
            || region.role == Role::Enclave,
        nodes: region.nodes.clone().or(tuned),
        mode,
    }
}

fn made_of(command: &mut Command<'_>, region: &Region, plan: &Plan) -> Object {
    let kind = |kind: &'static str| Object::new("qom-type", kind).set("id", &region.id);
    if region.role == Role::Enclave {
        return kind("memory-backend-epc");
    }
    match plan.source {
        MemorySource::Anonymous => kind("memory-backend-ram"),
        MemorySource::Memfd => kind("memory-backend-memfd")
            .some("hugetlb", plan.page.map(|_| true))
            .some("hugetlbsize", plan.page.map(MemorySize::bytes)),
        MemorySource::File => {
            let path = file(command, region, plan.page);
            kind("memory-backend-file")
                .set("mem-path", path)
                .some("discard-data", plan.discard.filter(|_| region.path.is_none()))
        }
    }
}

fn file(command: &mut Command<'_>, region: &Region, page: Option<MemorySize>) -> String {
    if let Some(path) = &region.path {
        let access = if region.readonly { crate::Access::Read } else { crate::Access::ReadWrite };
        command.needs_file(path, access, &region.place);
        return path.clone();
    }
    let Some(page) = page else {
        return format!("{}/{}", command.facts.directories.memory, region.alias);
    };
    match command.facts.hugepages.iter().find(|folder| folder.page == page) {
        Some(folder) => folder.path.clone(),
        None => {
            let what = format!("no hugetlbfs with pages of {page} is mounted; mount one");
            command.refuse(&region.place, what);
            String::new()
        }
    }
}

fn placed(
    command: &Command<'_>,
    region: &Region,
    plan: &Plan,
    object: Object,
) -> (Object, Option<Object>) {
    let Some(nodes) = &plan.nodes else { return (object, None) };
    let policy = match plan.mode {
        NumaMode::Strict => "bind",
        NumaMode::Preferred => "preferred",
        NumaMode::Interleave => "interleave",
        // Control groups of the host do it, and they may change it later on.
        NumaMode::Restrictive => return (object, None),
    };
    let object = object.set("host-nodes", list(nodes)).set("policy", policy);
    let affinity = affinity(command, nodes);
    let Some(affinity) = affinity.filter(|_| plan.prealloc && region.role != Role::Variable) else {
        return (object, None);
    };
    let id = format!("tc-{}", region.id);
    let object = object.set("prealloc-context", &id);
    let context = Object::new("qom-type", "thread-context").set("id", id);
    (object, Some(context.set("node-affinity", list(&affinity))))
}

/// The nodes on which threads of QEMU may run, of those that the memory lies on.
fn affinity(command: &Command<'_>, nodes: &CpuSet) -> Option<CpuSet> {
    let domain = command.domain;
    let pin = domain.cputune.as_ref().and_then(|tuning| tuning.emulator_pin.as_ref());
    let cpus = pin.map(|pin| &pin.cpus).or(domain.vcpus.cpuset.as_ref());
    let Some(cpus) = cpus else { return Some(nodes.clone()) };
    let topology = &command.facts.numa.cpus;
    let reachable = |node: u32| {
        topology.get(&node).is_some_and(|of_node| of_node.iter().any(|cpu| cpus.contains(cpu)))
    };
    CpuSet::from_numbers(nodes.iter().filter(|node| reachable(*node)))
}

fn list(set: &CpuSet) -> Json {
    Json::List(set.iter().map(Json::from).collect())
}
