//! What the host is to grant the guest, and QEMU is not told: limits of `<cputune>`, `<memtune>`,
//! `<blkiotune>`, `<perf>`, leases.
//!
//! The host's control groups are told such things by the guest's unit, for which the generator reads them as
//! well. A guest that runs without a unit does without. Which CPUs its threads run on is in `pinning.rs`.

use domain::{CpuPlacement, CpuTuning, Domain, Faults, LabelType, NumaMode, NumaPlacement, Place};

/// The highest weight of a unit, systemd.resource-control(5), `CPUWeight=`.
const HIGHEST_WEIGHT: u64 = 10_000;

/// Checks what is said, and says that it is not carried out.
pub(crate) fn complete(domain: &Domain, faults: &Faults) {
    let memtune = domain.memtune.as_ref();
    if let Some(tuning) = memtune.filter(|tuning| tuning.min_guarantee.is_some()) {
        let what = "QEMU guarantees no memory; remove <min_guarantee>";
        faults.push(tuning.place.refused(what));
    }
    if let Some(tuning) = &domain.cputune {
        check_threads(domain, tuning, faults);
    }
}

/// Says what is not carried out.
pub(crate) fn warn(domain: &Domain, faults: &Faults) {
    let ignored = |place: &Place, what: &str| {
        faults.push(place.ignored(what));
    };
    if let Some(tuning) = &domain.cputune {
        absent_vcpus(domain, tuning, &ignored);
    }
    leave_to_unit(domain, faults);
    placement(domain, &ignored);
    if let Some(failure) = &domain.lifecycle.on_lock_failure {
        let what = "glassbox has no lock manager that could lose a lock, so this never happens; remove it, or take \
                    care of locks yourself";
        ignored(&failure.place, what);
    }
    for place in &domain.lifecycle.renames {
        let what =
            "QEMU's guests keep their names, so that 'rename-restart' is 'restart'; write that";
        ignored(place, what);
    }
    for lease in &domain.devices.leases {
        let what = "glassbox has no lock manager and holds no lease; take care of locks yourself";
        ignored(&lease.place, what);
    }
    if let Some(map) = &domain.id_map {
        ignored(&map.place, "a map of ids is for containers and is ignored; remove it");
    }
    if let Some(perf) = &domain.perf {
        ignored(&perf.place, "glassbox counts no events and ignores this; use perf(1) on the unit");
    }
}

/// What the generator makes settings of the guest's unit of.
fn leave_to_unit(domain: &Domain, faults: &Faults) {
    let leave = |place: &Place, settings: &str| faults.push(place.left_to_unit(settings));
    if let Some(tuning) = &domain.cputune {
        cpu_time(tuning, faults);
    }
    if let Some(tuning) = &domain.memtune {
        leave(&tuning.place, "MemoryMax=, MemoryHigh= and MemorySwapMax=");
    }
    if let Some(tuning) = &domain.blkiotune {
        leave(&tuning.place, "IOWeight= and limits of devices");
    }
    let Some(tuning) = &domain.numatune else { return };
    let memory = tuning.memory.iter().map(|memory| (memory.mode, &memory.place));
    let nodes = tuning.memnodes.iter().map(|node| (node.mode, &node.place));
    for (_, place) in memory.chain(nodes).filter(|(mode, _)| *mode == Some(NumaMode::Restrictive)) {
        leave(place, "AllowedMemoryNodes=");
    }
}

/// The weight of the guest, and its limits.
fn cpu_time(tuning: &CpuTuning, faults: &Faults) {
    if let Some(shares) = tuning.shares {
        let place = tuning.place.child("shares");
        faults.push(if shares <= HIGHEST_WEIGHT {
            place.left_to_unit("CPUWeight=")
        } else {
            place.ignored(format!(
                "systemd's weights end at {HIGHEST_WEIGHT}, so the guest has the usual one; give less"
            ))
        });
    }
    for (name, _) in &tuning.limits {
        faults.push(tuning.place.child(name).left_to_unit("CPUQuota= and CPUQuotaPeriodSec="));
    }
}

/// Pins of virtual CPUs that the guest never has.
fn absent_vcpus(domain: &Domain, tuning: &CpuTuning, ignored: &dyn Fn(&Place, &str)) {
    for pin in &tuning.vcpu_pins {
        if let Some(vcpu) = pin.thread.filter(|vcpu| *vcpu >= domain.vcpus.maximum) {
            let last = domain.vcpus.maximum - 1;
            let what = format!("there is no virtual CPU {vcpu}, only 0 to {last}; remove this");
            ignored(&pin.place, &what);
        }
    }
}

/// Where CPUs and memory are placed on the host, and how the guest's files are labelled.
fn placement(domain: &Domain, ignored: &dyn Fn(&Place, &str)) {
    if domain.vcpus.cpuset.is_some() && domain.vcpus.placement == Some(CpuPlacement::Auto) {
        let what = "attribute 'cpuset' has no effect beside placement='auto'; remove one of both";
        ignored(&domain.vcpus.place, what);
    }
    let memory = domain.numatune.as_ref().and_then(|tuning| tuning.memory.as_ref());
    if let Some(memory) = memory.filter(|memory| memory.placement == Some(NumaPlacement::Auto)) {
        let what = "glassbox asks nobody for the best nodes and ignores placement='auto'; set \
                    AllowedMemoryNodes= in a drop-in of the guest's unit";
        ignored(&memory.place, what);
    }
    if domain.seclabels.iter().any(|label| label.kind != Some(LabelType::None)) {
        let what = "glassbox labels neither QEMU nor its files and ignores this; set SELinuxContext= or \
                    AppArmorProfile= in a drop-in of the guest's unit";
        ignored(&domain.place.child("seclabel"), what);
    }
}

fn check_threads(domain: &Domain, tuning: &CpuTuning, faults: &Faults) {
    let refuse = |what: String| faults.push(tuning.place.refused(what));
    let vcpus = domain.vcpus.maximum;
    let iothreads = domain.iothreads.ids();
    let sets = |all: &[domain::Scheduling]| -> Vec<u32> {
        all.iter().filter_map(|s| s.threads.as_ref()).flat_map(domain::CpuSet::iter).collect()
    };
    if let Some(vcpu) = sets(&tuning.vcpu_scheduling).into_iter().find(|vcpu| *vcpu >= vcpus) {
        refuse(format!("<vcpusched> names virtual CPU {vcpu}; there are 0 to {}", vcpus - 1));
    }
    let pinned = tuning.iothread_pins.iter().filter_map(|pin| pin.thread);
    for (element, threads) in [
        ("iothreadpin", pinned.collect::<Vec<_>>()),
        ("iothreadsched", sets(&tuning.iothread_scheduling)),
    ] {
        if let Some(thread) = threads.into_iter().find(|thread| !iothreads.contains(thread)) {
            refuse(format!("<{element}> names I/O thread {thread}, which is missing; add it"));
        }
    }
}
