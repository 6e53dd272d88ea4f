//! How much memory the guest has and what it is made of: `-m` and its backend.

use domain::{Domain, Faults, MemoryAccess, MemorySize, MemorySource};

use crate::argv::Options;
use crate::command::Command;
use crate::json::Object;

/// The id of the backend of a PC's memory.
const MAIN_BACKEND: &str = "pc.ram";

/// QEMU's memory is counted in MiB, so a remainder is rounded up when the guest starts.
const GRANULE: MemorySize = MemorySize::from_bytes(1 << 20);

/// Fills in what the balloon leaves the guest, and checks the sizes.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let memory = &mut domain.memory;
    let Some(size) = memory.size else {
        if memory.place.is_some() {
            return; // What is wrong with it was said when it was read.
        }
        let what = "<memory> is missing; add one such as <memory unit='GiB'>2</memory>";
        faults.push(domain.place.refused(what));
        return;
    };
    if size.bytes() == 0 {
        let place = memory.place.as_ref().unwrap_or(&domain.place);
        faults.push(place.refused("the guest has no memory; give at least 1 MiB"));
    }
    let current = memory.current.filter(|current| current.bytes() > 0).unwrap_or(size);
    memory.current = Some(current.min(size));
}

/// The backend that `-machine` names, if the memory is one piece.
pub(crate) fn main_backend(domain: &Domain) -> Option<&'static str> {
    let has_numa = domain.cpu.as_ref().is_some_and(|cpu| cpu.numa.is_some());
    (!has_numa).then_some(MAIN_BACKEND)
}

/// Adds `-m`, the backend and `-overcommit`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let memory = &command.domain.memory;
    let size = memory.size.unwrap_or_default().round_up_to(GRANULE);
    let maximum = memory.maximum;
    let slots = maximum.and_then(|maximum| maximum.slots).filter(|slots| *slots > 0);
    let kib = |size: MemorySize| format!("{}k", size.kibibytes());
    let options = Options::pair("size", kib(size))
        .some("slots", slots)
        .some("maxmem", maximum.map(|maximum| kib(maximum.size.round_up_to(GRANULE))));
    command.argv.options("-m", options);
    if let Some(id) = main_backend(command.domain) {
        backend(command, id, size);
    }
    let locked = command.domain.memory_backing.locked;
    let options = Options::pair("mem-lock", if locked { "on" } else { "off" });
    command.argv.options("-overcommit", options);
}

fn backend(command: &mut Command<'_>, id: &str, size: MemorySize) {
    let backing = &command.domain.memory_backing;
    let source = backing.source.unwrap_or(MemorySource::Anonymous);
    if source != MemorySource::Anonymous || backing.access == Some(MemoryAccess::Shared) {
        let place = command.domain.place.child("memoryBacking");
        command
            .refuse(&place, "shared memory is not supported yet by glassbox; remove the element");
        return;
    }
    let object = Object::new("qom-type", "memory-backend-ram").set("id", id);
    command.object(&object.set("size", size.bytes()));
}
