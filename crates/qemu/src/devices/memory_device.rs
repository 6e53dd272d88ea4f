//! Memory that can be plugged, `<memory>` below `<devices>`.

use std::collections::BTreeSet;

use domain::devices::{Address, DimmAddress, MemoryDevice, MemoryModel};
use domain::{Domain, Faults, MemorySize};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;
use crate::memory::backend::{Region, Role, backend};

/// Modules of a PC have whole multiples of this.
const GRANULE: MemorySize = MemorySize::from_bytes(2 << 20);

/// Gives modules without a slot the lowest one that is free, and checks the devices against the machine.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let slots = domain.memory.maximum.and_then(|maximum| maximum.slots).unwrap_or_default();
    for device in domain.devices.memories.iter().filter(|device| is_module(device)) {
        let elsewhere = |address: &Address| !matches!(address, Address::Dimm(_));
        if device.info.address.as_ref().is_some_and(elsewhere) {
            let what = "a module has an address of type 'dimm'; correct <address> or remove it";
            faults.push(device.place.refused(what));
        }
    }
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    for device in &domain.devices.memories {
        let Some(slot) = slot(device) else { continue };
        if !taken.insert(slot) {
            let what = format!("slot {slot} has a module already; choose another");
            faults.push(device.place.refused(what));
        }
    }
    let has_maximum = domain.memory.maximum.is_some();
    for device in domain.devices.memories.iter_mut().filter(|device| is_module(device)) {
        let slot = slot(device).or_else(|| (0..slots).find(|slot| !taken.contains(slot)));
        let Some(slot) = slot.filter(|slot| *slot < slots) else {
            let what = "no slot is free for the module; set <maxMemory slots='16'> or more";
            faults.push(device.place.refused(what));
            continue;
        };
        taken.insert(slot);
        let base = match &device.info.address {
            Some(Address::Dimm(dimm)) => dimm.base,
            Some(_) | None => None,
        };
        device.info.address = Some(Address::Dimm(DimmAddress { slot: Some(slot), base }));
    }
    for device in &domain.devices.memories {
        if !has_maximum && device.model != MemoryModel::SgxEpc {
            let what = "<maxMemory> is missing; say up to where memory can be added";
            faults.push(device.place.refused(what));
        }
        check_node(domain, device, faults);
    }
    check_overlaps(domain, faults);
}

fn is_module(device: &MemoryDevice) -> bool {
    matches!(device.model, MemoryModel::Dimm | MemoryModel::Nvdimm)
}

/// The slot of a module.
pub(crate) fn slot(device: &MemoryDevice) -> Option<u32> {
    match &device.info.address {
        Some(Address::Dimm(dimm)) => dimm.slot,
        Some(_) | None => None,
    }
}

fn check_node(domain: &Domain, device: &MemoryDevice, faults: &Faults) {
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    let refuse = |what: String| faults.push(device.place.refused(what));
    match (device.target.node, numa) {
        (Some(node), Some(numa)) if numa.cell(node).is_none() => {
            refuse(format!("the guest has no NUMA node {node}; change <node>"));
        }
        (Some(node), None) if node > 0 => {
            refuse(format!("the guest has no NUMA node {node}; change <node>"));
        }
        (None, Some(_))
            if !matches!(device.model, MemoryModel::VirtioPmem | MemoryModel::SgxEpc) =>
        {
            refuse(
                "<node> is missing; name the guest's NUMA node, such as <node>0</node>".to_owned(),
            );
        }
        (Some(_) | None, _) => {}
    }
}

/// The guest's physical addresses that a device asks for.
fn range(device: &MemoryDevice) -> Option<(u64, u64)> {
    let base = match &device.info.address {
        Some(Address::Dimm(dimm)) => dimm.base,
        Some(_) | None => device.target.base,
    };
    let base = base.filter(|base| *base > 0)?;
    Some((base, base.saturating_add(mapped(device))))
}

/// How much of a device the guest's physical memory shows: labels stand behind it, and what remains is cut down
/// to whole pages of the mapping.
fn mapped(device: &MemoryDevice) -> u64 {
    let size = device.target.size.bytes();
    let Some(label) = device.target.label_size else { return size };
    let align = device.source.align_size.map_or(4096, MemorySize::bytes).max(1);
    size.saturating_sub(label.bytes()) / align * align
}

fn check_overlaps(domain: &Domain, faults: &Faults) {
    let devices = &domain.devices.memories;
    for (position, device) in devices.iter().enumerate() {
        let Some((first, end)) = range(device) else { continue };
        let mut others = devices[..position].iter().filter_map(range);
        if others.any(|(other, other_end)| first < other_end && other < end) {
            let what = format!("address 0x{first:x} lies in another memory device; choose another");
            faults.push(device.place.refused(what));
        }
    }
}

/// Adds the backend and the device.
pub(crate) fn arguments(command: &mut Command<'_>, device: &MemoryDevice) {
    let alias = device.info.alias();
    let id = format!("mem{alias}");
    let role = match device.model {
        MemoryModel::Dimm => Role::Part,
        MemoryModel::Nvdimm => Role::Persistent,
        MemoryModel::VirtioPmem => Role::Part,
        MemoryModel::VirtioMem => Role::Variable,
        MemoryModel::SgxEpc => Role::Enclave,
    };
    let source = &device.source;
    let region = Region {
        place: device.place.clone(),
        id: id.clone(),
        alias: alias.to_owned(),
        size: size(device),
        node: device.target.node,
        page_size: source.page_size,
        nodes: source.nodes.clone(),
        path: source.path.clone(),
        align: source.align_size,
        pmem: source.pmem,
        readonly: device.target.readonly,
        access: device.access,
        discard: device.discard,
        role,
    };
    let backend = backend(command, &region);
    backend.add(command);
    let target = &device.target;
    let driver = match device.model {
        MemoryModel::Dimm => "pc-dimm",
        MemoryModel::Nvdimm => "nvdimm",
        MemoryModel::VirtioPmem => "virtio-pmem-pci",
        MemoryModel::VirtioMem => "virtio-mem-pci",
        MemoryModel::SgxEpc => return, // `-machine` has it.
    };
    let variable = device.model == MemoryModel::VirtioMem;
    let object = Object::new("driver", driver)
        .some("node", target.node)
        .some("label-size", target.label_size.map(MemorySize::bytes))
        .some("block-size", target.block.map(MemorySize::bytes))
        .some("requested-size", target.requested.map(MemorySize::bytes))
        .some("uuid", device.uuid.map(|uuid| uuid.to_string()))
        .some("unarmed", target.readonly.then_some(true))
        .set("memdev", id)
        .some("prealloc", (variable && backend.prealloc).then_some(true))
        .some("memaddr", target.base)
        .some("dynamic-memslots", target.dynamic_slots);
    command.device(&placed(command, &device.info, object));
}

fn size(device: &MemoryDevice) -> MemorySize {
    device.target.size.round_up_to(device.target.block.unwrap_or(GRANULE))
}

/// Adds protected memory of Intel SGX to `-machine`.
pub(crate) fn enclaves(domain: &Domain, mut options: Options) -> Options {
    let devices = domain.devices.memories.iter();
    let enclaves = devices.filter(|device| device.model == MemoryModel::SgxEpc);
    for (index, device) in enclaves.enumerate() {
        let id = format!("mem{}", device.info.alias());
        options = options.set(&format!("sgx-epc.{index}.memdev"), id);
        if let Some(node) = device.target.node {
            options = options.set(&format!("sgx-epc.{index}.node"), node);
        }
    }
    options
}
