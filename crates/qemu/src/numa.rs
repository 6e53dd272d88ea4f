//! The guest's NUMA nodes: `-numa`.

use domain::{
    CacheAssociativity, CachePolicy, CpuSet, Domain, Faults, Interconnect, InterconnectKind,
    InterconnectType, LOCAL_DISTANCE, MemorySize, Numa, NumaCell, REMOTE_DISTANCE,
};

use crate::argv::Options;
use crate::command::Command;
use crate::memory::backend::{Region, backend};
use crate::{machine, memory};

/// The nodes of a domain.
fn numa(domain: &Domain) -> Option<&Numa> {
    domain.cpu.as_ref()?.numa.as_ref()
}

/// Puts virtual CPUs that no node names into node 0, as QEMU would, and completes distances.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let count = domain.vcpus.maximum;
    let Some(numa) = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()) else { return };
    let named: Vec<u32> =
        numa.cells.iter().filter_map(|c| c.cpus.as_ref()).flat_map(CpuSet::iter).collect();
    if let Some(cpu) = named.iter().find(|cpu| **cpu >= count) {
        let what = format!("the guest has no virtual CPU {cpu}; it has 0 to {}", count - 1);
        faults.push(numa.place.refused(what));
    }
    let missing: Vec<u32> = (0..count).filter(|cpu| !named.contains(cpu)).collect();
    if !missing.is_empty()
        && let Some(first) = numa.cells.first_mut()
    {
        let own = first.cpus.iter().flat_map(CpuSet::iter);
        first.cpus = CpuSet::from_numbers(own.chain(missing));
    }
    complete_distances(numa);
}

/// A distance that is said in one direction counts in both.
fn complete_distances(numa: &mut Numa) {
    let ids: Vec<u32> = numa.cells.iter().map(|cell| cell.id).collect();
    let complete: Vec<Vec<domain::NumaDistance>> = ids
        .iter()
        .map(|from| {
            let said = ids.iter().filter_map(|to| Some((*to, numa.distance(*from, *to)?)));
            said.map(|(id, value)| domain::NumaDistance { id, value }).collect()
        })
        .collect();
    for (cell, mut distances) in numa.cells.iter_mut().zip(complete) {
        if !distances.is_empty() && !distances.iter().any(|distance| distance.id == cell.id) {
            distances.push(domain::NumaDistance { id: cell.id, value: LOCAL_DISTANCE });
            distances.sort_by_key(|distance| distance.id);
        }
        cell.distances = distances;
    }
}

/// Whether the guest is told how fast nodes reach memory.
pub(crate) fn has_hmat(domain: &Domain) -> bool {
    numa(domain).is_some_and(|numa| {
        !numa.interconnects.is_empty() || numa.cells.iter().any(|cell| !cell.caches.is_empty())
    })
}

/// Adds `-numa` for nodes, distances, speeds and caches.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let Some(numa) = numa(command.domain) else { return };
    let hmat = has_hmat(command.domain);
    let mut backends = Vec::new();
    for cell in &numa.cells {
        let name = format!("ram-node{}", cell.id);
        let region = Region {
            place: cell.place.clone(),
            id: name.clone(),
            alias: name,
            size: cell.memory.round_up_to(MemorySize::from_bytes(1 << 20)),
            node: Some(cell.id),
            ..Region::default()
        };
        backends.push(backend(command, &region));
    }
    let asked = backends.iter().any(|backend| backend.asked);
    let objects = asked || hmat || !machine::nodes_have_sizes(command.domain);
    if !objects {
        memory::general_arguments(command);
    }
    for (cell, backend) in numa.cells.iter().zip(backends) {
        if objects {
            backend.add(command);
        }
        node(command, numa, cell, objects, hmat);
    }
    distances(command, numa);
    if hmat {
        numa.interconnects.iter().for_each(|link| speed(command, link));
        numa.cells.iter().for_each(|cell| caches(command, cell));
    }
}

fn node(command: &mut Command<'_>, numa: &Numa, cell: &NumaCell, objects: bool, hmat: bool) {
    let mut options = Options::new("node").set("nodeid", cell.id);
    for (first, last) in cell.cpus.iter().flat_map(CpuSet::ranges) {
        options = match first == last {
            true => options.set("cpus", first),
            false => options.set("cpus", format!("{first}-{last}")),
        };
    }
    let options = options.some("initiator", initiator(numa, cell).filter(|_| hmat));
    let options = match objects {
        true => options.set("memdev", format!("ram-node{}", cell.id)),
        false => options.set("mem", cell.memory.mebibytes()),
    };
    command.argv.options("-numa", options);
}

/// The node whose CPUs reach this one's memory fastest: itself, if it has CPUs.
fn initiator(numa: &Numa, cell: &NumaCell) -> Option<u32> {
    if cell.cpus.is_some() {
        return Some(cell.id);
    }
    let links = || numa.interconnects.iter().filter(|link| link.target == cell.id);
    let latency = |link: &Interconnect| match link.kind {
        InterconnectKind::Latency(value) => Some((value, link.initiator)),
        InterconnectKind::Bandwidth(_) => None,
    };
    let bandwidth = |link: &Interconnect| match link.kind {
        InterconnectKind::Bandwidth(size) => Some((std::cmp::Reverse(size), link.initiator)),
        InterconnectKind::Latency(_) => None,
    };
    let quickest = links().filter_map(latency).min_by_key(|(value, _)| *value);
    let widest = links().filter_map(bandwidth).min_by_key(|(size, _)| *size);
    let first = || numa.cells.iter().find(|cell| cell.cpus.is_some()).map(|cell| cell.id);
    quickest.map(|(_, id)| id).or(widest.map(|(_, id)| id)).or_else(first)
}

/// Adds all distances when one is not what QEMU assumes.
fn distances(command: &mut Command<'_>, numa: &Numa) {
    let usual = |value: u32| value == LOCAL_DISTANCE || value == REMOTE_DISTANCE;
    let all = || numa.cells.iter().flat_map(|cell| &cell.distances);
    if all().all(|distance| usual(distance.value)) {
        return;
    }
    for from in &numa.cells {
        for to in &numa.cells {
            let usual = if from.id == to.id { LOCAL_DISTANCE } else { REMOTE_DISTANCE };
            let value = numa.distance(from.id, to.id).unwrap_or(usual);
            let options = Options::new("dist").set("src", from.id).set("dst", to.id);
            command.argv.options("-numa", options.set("val", value));
        }
    }
}

fn speed(command: &mut Command<'_>, link: &Interconnect) {
    let hierarchy = match link.cache {
        None | Some(0) => "memory",
        Some(1) => "first-level",
        Some(2) => "second-level",
        Some(_) => "third-level",
    };
    let access = match link.access {
        InterconnectType::Access => "access",
        InterconnectType::Read => "read",
        InterconnectType::Write => "write",
    };
    let options = Options::new("hmat-lb")
        .set("initiator", link.initiator)
        .set("target", link.target)
        .set("hierarchy", hierarchy);
    let options = match link.kind {
        InterconnectKind::Latency(value) => {
            options.set("data-type", format!("{access}-latency")).set("latency", value)
        }
        InterconnectKind::Bandwidth(size) => options
            .set("data-type", format!("{access}-bandwidth"))
            .set("bandwidth", format!("{}K", size.kibibytes())),
    };
    command.argv.options("-numa", options);
}

fn caches(command: &mut Command<'_>, cell: &NumaCell) {
    for cache in &cell.caches {
        let associativity = match cache.associativity {
            CacheAssociativity::None => "none",
            CacheAssociativity::Direct => "direct",
            CacheAssociativity::Full => "complex",
        };
        let policy = match cache.policy {
            CachePolicy::None => "none",
            CachePolicy::Writeback => "write-back",
            CachePolicy::Writethrough => "write-through",
        };
        let options = Options::new("hmat-cache")
            .set("node-id", cell.id)
            .set("size", format!("{}K", cache.size.kibibytes()))
            .set("level", cache.level)
            .set("associativity", associativity)
            .set("policy", policy)
            .set("line", cache.line.bytes());
        command.argv.options("-numa", options);
    }
}
