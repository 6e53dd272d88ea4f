//! On which nodes of the host the guest's memory lies.

use domain::{
    CpuPlacement, CpuSet, Domain, Faults, NumaMemory, NumaMode, NumaPlacement, NumaTuning, Place,
};

use crate::facts::HostFacts;

/// Fills in modes and who chooses, and checks that guest and host have the nodes.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    placement(domain, faults);
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |n| n.cells.len());
    let Some(tuning) = &mut domain.numatune else { return };
    let automatic =
        tuning.memory.as_ref().is_some_and(|memory| memory.placement == Some(NumaPlacement::Auto));
    if let Some(memory) = &tuning.memory
        && let Some(nodes) = &memory.nodeset
    {
        check_host(nodes, &memory.place, facts, faults);
    }
    for node in &mut tuning.memnodes {
        node.mode.get_or_insert(NumaMode::Strict);
        check_host(&node.nodeset, &node.place, facts, faults);
        if usize::try_from(node.cell).is_ok_and(|cell| cell >= cells) {
            let what = format!("the guest has no NUMA cell {}; add it or remove this", node.cell);
            faults.push(node.place.refused(what));
        }
        if automatic {
            let what = "the host chooses the nodes of all memory; remove placement='auto' or this";
            faults.push(node.place.refused(what));
        }
        let restrictive = |mode: Option<NumaMode>| mode == Some(NumaMode::Restrictive);
        let general = tuning.memory.as_ref().map(|memory| memory.mode);
        if general.is_some_and(|general| restrictive(general) != restrictive(node.mode)) {
            let what = "mode 'restrictive' is for all nodes or none; change one of the modes";
            faults.push(node.place.refused(what));
        }
    }
}

fn placement(domain: &mut Domain, faults: &Faults) {
    let vcpus_are_static = domain.vcpus.placement != Some(CpuPlacement::Auto);
    let has_memory = domain.numatune.as_ref().is_some_and(|tuning| tuning.memory.is_some());
    if !vcpus_are_static && !has_memory {
        let tuning = domain.numatune.get_or_insert_with(NumaTuning::default);
        tuning.memory = Some(NumaMemory::default());
    }
    let Some(memory) = domain.numatune.as_mut().and_then(|tuning| tuning.memory.as_mut()) else {
        return;
    };
    memory.mode.get_or_insert(NumaMode::Strict);
    let chosen = *memory.placement.get_or_insert(if memory.nodeset.is_some() || vcpus_are_static {
        NumaPlacement::Static
    } else {
        NumaPlacement::Auto
    });
    match chosen {
        NumaPlacement::Static if memory.nodeset.is_none() => {
            let what = "attribute 'nodeset' is missing; give such as nodeset='0-1'";
            faults.push(memory.place.refused(what));
        }
        // The nodes say so by themselves, and the format leaves the word out beside them.
        NumaPlacement::Static => memory.placement = None,
        NumaPlacement::Auto => {
            memory.nodeset = None; // The host chooses, whatever was chosen before.
            let pinned = domain.cputune.as_ref().is_some_and(|tuning| {
                !tuning.vcpu_pins.is_empty()
                    || tuning.emulator_pin.is_some()
                    || !tuning.iothread_pins.is_empty()
            });
            if domain.vcpus.cpuset.is_none() && !pinned {
                domain.vcpus.placement = Some(CpuPlacement::Auto);
            }
        }
    }
}

fn check_host(nodes: &CpuSet, place: &Place, facts: &HostFacts, faults: &Faults) {
    let Some(host) = &facts.numa.nodes else { return };
    if let Some(missing) = nodes.iter().find(|node| !host.contains(*node)) {
        faults.push(place.refused(format!("the host has no NUMA node {missing}; it has {host}")));
    }
}

/// The host's nodes for a node of the guest, or for all its memory, and how strictly it keeps to them.
pub(crate) fn host_nodes(
    domain: &Domain,
    facts: &HostFacts,
    node: Option<u32>,
) -> (Option<CpuSet>, NumaMode) {
    let Some(tuning) = &domain.numatune else { return (None, NumaMode::Strict) };
    let own = tuning.memnodes.iter().find(|memnode| Some(memnode.cell) == node);
    let general = tuning.memory.as_ref();
    let mode = own.map(|own| own.mode).or_else(|| general.map(|general| general.mode)).flatten();
    let nodes = own.map(|own| own.nodeset.clone()).or_else(|| match general?.placement {
        Some(NumaPlacement::Auto) => facts.numa.automatic.clone(),
        Some(NumaPlacement::Static) | None => general?.nodeset.clone(),
    });
    (nodes, mode.unwrap_or(NumaMode::Strict))
}

/// Whether the domain says where the memory of this node of the guest lies.
pub(crate) fn names_node(domain: &Domain, node: Option<u32>) -> bool {
    let memnodes = domain.numatune.as_ref().map(|tuning| tuning.memnodes.as_slice());
    memnodes.unwrap_or_default().iter().any(|memnode| Some(memnode.cell) == node)
}
