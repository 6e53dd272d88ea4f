//! How much memory the guest has and what it is made of: `-m` and its backend.

use domain::devices::MemoryModel;
use domain::{Domain, Faults, MemoryAllocation, MemorySize, MemorySource};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::memory_backing;

pub(crate) mod backend;

use backend::{Region, Role};

/// QEMU's memory is counted in MiB, so a remainder is rounded up when the guest starts.
const GRANULE: MemorySize = MemorySize::from_bytes(1 << 20);

/// The largest amount that can still be rounded up, and that QEMU takes: 2^63 bytes.
const LARGEST: u64 = (1 << 63) - (1 << 21);

/// Fills in what the balloon leaves the guest, and checks the sizes.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let devices = plugged(domain);
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map(domain::Numa::memory);
    let memory = &mut domain.memory;
    let said_nothing = memory.place.is_none() && memory.size.is_none();
    if said_nothing || memory.size.is_some_and(|size| size.bytes() == 0) {
        let sum = |cells: MemorySize| cells.bytes().saturating_add(devices.bytes());
        memory.size = cells.map(sum).map(MemorySize::from_bytes).or(memory.size);
    }
    let place = memory.place.clone().unwrap_or_else(|| domain.place.clone());
    let Some(size) = memory.size else {
        if memory.place.is_none() {
            let what = "<memory> is missing; add one such as <memory unit='GiB'>2</memory>";
            faults.push(place.refused(what));
        }
        return; // What is wrong with it was said when it was read.
    };
    if size.bytes() == 0 {
        faults.push(place.refused("the guest has no memory; give at least 1 MiB"));
    }
    if size.bytes() > LARGEST || cells.is_some_and(|cells| cells.bytes() > LARGEST) {
        faults.push(place.refused("this is more memory than 63 bits count; give less"));
    }
    if cells.is_none() && size <= devices && devices.bytes() > 0 {
        let what = "the memory devices have more than <memory>, which counts them; give more";
        faults.push(place.refused(what));
    }
    if memory.maximum.is_some() && cells.is_none() {
        let what = "memory is added to a NUMA node; add <numa> with a <cell> to <cpu>";
        faults.push(place.refused(what));
    }
    if memory.maximum.is_some_and(|maximum| maximum.size < size) {
        faults.push(place.refused("<memory> is more than <maxMemory>; give that more"));
    }
    let current = memory.current.filter(|current| current.bytes() > 0).unwrap_or(size);
    memory.current = Some(current.min(size));
}

/// The memory of all devices.
fn plugged(domain: &Domain) -> MemorySize {
    let sizes = domain.devices.memories.iter().map(|device| device.target.size.bytes());
    MemorySize::from_bytes(sizes.fold(0, u64::saturating_add))
}

/// All memory that a running guest may have, with its devices, whether `<memory>` counts them or not.
pub(crate) fn whole(domain: &Domain) -> MemorySize {
    let sum = initial(domain).bytes().saturating_add(plugged(domain).bytes());
    MemorySize::from_bytes(sum).max(domain.memory.size.unwrap_or_default())
}

/// What the guest starts with beside its devices of memory.
fn initial(domain: &Domain) -> MemorySize {
    if let Some(numa) = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()) {
        let cells = numa.cells.iter().map(|cell| cell.memory.round_up_to(GRANULE).bytes());
        return MemorySize::from_bytes(cells.fold(0, u64::saturating_add));
    }
    let size = domain.memory.size.unwrap_or_default();
    MemorySize::from_bytes(size.bytes().saturating_sub(plugged(domain).bytes()))
        .round_up_to(GRANULE)
}

/// The backend that `-machine` names, if the memory is one piece.
pub(crate) fn main_backend(domain: &Domain) -> Option<&'static str> {
    let has_numa = domain.cpu.as_ref().is_some_and(|cpu| cpu.numa.is_some());
    (!has_numa).then(|| Board::of_domain(domain).memory())
}

/// Whether `-machine` must make room for modules that keep their content.
pub(crate) fn has_nvdimm(domain: &Domain) -> bool {
    domain.devices.memories.iter().any(|device| device.model == MemoryModel::Nvdimm)
}

/// Adds `-m`, the backend and `-overcommit`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let memory = &domain.memory;
    let size = initial(domain);
    let maximum = memory.maximum;
    let slots = maximum.and_then(|maximum| maximum.slots).filter(|slots| *slots > 0);
    let kib = |size: MemorySize| format!("{}k", size.kibibytes());
    let options = Options::pair("size", kib(size))
        .some("slots", slots)
        .some("maxmem", maximum.map(|maximum| kib(maximum.size.round_up_to(GRANULE))));
    command.argv.options("-m", options);
    if let Some(id) = main_backend(domain) {
        let region = Region {
            place: memory.place.clone().unwrap_or_default(),
            id: id.to_owned(),
            alias: id.to_owned(),
            size,
            role: Role::Whole,
            ..Region::default()
        };
        backend::backend(command, &region).add(command);
    }
    let locked = domain.memory_backing.locked;
    let options = Options::pair("mem-lock", if locked { "on" } else { "off" });
    command.argv.options("-overcommit", options);
}

/// Adds what all memory is made of, for machines whose NUMA nodes need no objects.
pub(crate) fn general_arguments(command: &mut Command<'_>) {
    let (domain, facts) = (command.domain, command.facts);
    let page = memory_backing::page_size(domain, facts, None);
    let immediate = domain.memory_backing.allocation.mode == Some(MemoryAllocation::Immediate);
    if immediate || page.is_some() {
        command.argv.flag("-mem-prealloc");
    }
    let in_file = domain.memory_backing.source == Some(MemorySource::File);
    let path = match page {
        Some(page) => facts.hugepages.iter().find(|f| f.page == page).map(|f| f.path.clone()),
        None => in_file.then(|| facts.directories.memory.clone()),
    };
    if let Some(path) = path {
        command.argv.plain("-mem-path", path);
    }
}
