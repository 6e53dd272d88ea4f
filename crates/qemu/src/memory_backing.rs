//! Pages of the guest's memory.

use domain::{Domain, Faults, MemoryAccess, MemoryAllocation, MemorySize, MemorySource};

use crate::facts::HostFacts;
use crate::rules::refuse_broken;

/// The size of ordinary pages on x86.
const PAGE: MemorySize = MemorySize::from_bytes(4096);

/// Checks the sets of nodes, and forgets those of a guest that has only one node.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    let backing = &domain.memory_backing;
    if let Some(pages) = &backing.hugepages {
        let rules = [
            (
                backing.allocation.mode == Some(MemoryAllocation::OnDemand),
                "huge pages are allocated at once; remove <allocation mode='ondemand'/>",
            ),
            (
                backing.source == Some(MemorySource::Anonymous),
                "anonymous memory has no huge pages; remove <source type='anonymous'/>",
            ),
        ];
        refuse_broken(faults, &pages.place, rules);
    }
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |n| n.cells.len());
    let Some(hugepages) = &mut domain.memory_backing.hugepages else { return };
    let highest = u32::try_from(cells.max(1) - 1).unwrap_or(u32::MAX);
    if hugepages.pages.is_empty() && facts.hugepages.is_empty() {
        let what =
            "no large pages of this host are known to glassbox; remove this for ordinary ones";
        faults.push(hugepages.place.refused(what));
    }
    let mut general = None;
    let mut taken: Vec<u32> = Vec::new();
    for page in &mut hugepages.pages {
        if let Some(nodes) = &page.nodeset {
            if nodes.highest() > highest {
                let what = format!("the guest has no node {}; change nodeset", nodes.highest());
                faults.push(page.place.refused(what));
            }
            if nodes.iter().any(|node| taken.contains(&node)) {
                let what = "a node of nodeset has pages of another size; name each node once";
                faults.push(page.place.refused(what));
            }
            taken.extend(nodes.iter());
        }
        if cells == 0 {
            page.nodeset = None;
        }
        if page.nodeset.is_none() && general.replace(page.size).is_some() {
            let what = "two sizes of pages are for all memory; keep one <page> without nodeset";
            faults.push(page.place.refused(what));
        }
    }
}

/// The size of pages for a node of the guest, or for all its memory: none is ordinary pages.
pub(crate) fn page_size(
    domain: &Domain,
    facts: &HostFacts,
    node: Option<u32>,
) -> Option<MemorySize> {
    let hugepages = domain.memory_backing.hugepages.as_ref()?;
    if hugepages.pages.is_empty() {
        return facts.hugepages.first().map(|folder| folder.page);
    }
    let mut pages = hugepages.pages.iter();
    let of_node = node.and_then(|node| {
        let has = |set: &domain::CpuSet| set.contains(node);
        hugepages.pages.iter().find(|page| page.nodeset.as_ref().is_some_and(has))
    });
    let page = of_node.or_else(|| pages.find(|page| page.nodeset.is_none()))?;
    large(page.size)
}

/// The size, unless it is that of ordinary pages.
pub(crate) fn large(size: MemorySize) -> Option<MemorySize> {
    (size != PAGE).then_some(size)
}

/// Lets other programs see the guest's memory where the definition leaves that open; the result is whether they see all
/// of it.
pub(crate) fn share(domain: &mut Domain) -> bool {
    let backing = &mut domain.memory_backing;
    if *backing.access.get_or_insert(MemoryAccess::Shared) == MemoryAccess::Shared {
        // Large pages are files of their own file system.
        if backing.hugepages.is_none() {
            backing.source.get_or_insert(MemorySource::Memfd);
        }
    }
    is_shared(domain)
}

/// Whether other programs see all of the guest's memory; cells of NUMA may say so one by one.
pub(crate) fn is_shared(domain: &Domain) -> bool {
    let shared = |access: Option<MemoryAccess>| access == Some(MemoryAccess::Shared);
    let whole = domain.memory_backing.access;
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    match numa.filter(|numa| !numa.cells.is_empty()) {
        Some(numa) => numa.cells.iter().all(|cell| shared(cell.access.or(whole))),
        None => shared(whole),
    }
}
