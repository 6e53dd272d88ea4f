//! On which CPUs of the host QEMU's threads run, and by which policy: `<vcpu cpuset>`, `<cputune>`.
//!
//! QEMU has no arguments for that. The plan lists the threads, and the shim sees to them when QEMU has told
//! which they are.

use domain::{CpuPlacement, CpuSet, CpuTuning, Domain, Pin, Place, QuotaOf, Scheduling};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::plan::{QemuThread, ThreadCpus, ThreadPolicy, ThreadQuotas, TunedThread};
use crate::vcpu;

/// Notes the threads of which something is said: QEMU's own, then virtual CPUs, then I/O threads.
pub(crate) fn threads(command: &mut Command<'_>) {
    let domain = command.domain;
    let default = default_cpus(domain, command.facts);
    let nothing = CpuTuning::default();
    let tuning = domain.cputune.as_ref().unwrap_or(&nothing);
    let emulator = tuning.emulator_pin.as_ref();
    let mut note = |thread, pin: Option<&Pin>, scheduling: Option<&Scheduling>| {
        let cpus = pin.map(pinned).or_else(|| default.clone());
        let policy = scheduling.map(policy);
        if cpus.is_some() || policy.is_some() {
            command.tunes_thread(TunedThread { thread, cpus, policy });
        }
    };
    note(QemuThread::Emulator, emulator, tuning.emulator_scheduling.as_ref());
    // Virtual CPUs that are plugged later have no thread yet.
    for vcpu in 0..vcpu::fixed(&domain.vcpus) {
        let pin = pin_of(&tuning.vcpu_pins, vcpu);
        note(QemuThread::Vcpu(vcpu), pin, scheduling_of(&tuning.vcpu_scheduling, vcpu));
    }
    for id in domain.iothreads.ids() {
        let pin = pin_of(&tuning.iothread_pins, id);
        note(QemuThread::IoThread(id), pin, scheduling_of(&tuning.iothread_scheduling, id));
    }
}

/// The limits that libvirt gives single threads. A unit's own limit is for all of them, see the generator.
pub(crate) fn quotas(domain: &Domain) -> ThreadQuotas {
    let quota = |of| domain.cputune.as_ref().and_then(|tuning| tuning.quota(of));
    ThreadQuotas { vcpu: quota(QuotaOf::Vcpu), iothread: quota(QuotaOf::IoThread) }
}

/// The CPUs of all threads that are not pinned by themselves, as libvirt has it: those of `<vcpu cpuset>`, or
/// those of the nodes that suit the guest best when the host is to choose.
fn default_cpus(domain: &Domain, facts: &HostFacts) -> Option<ThreadCpus> {
    let place: &Place = &domain.vcpus.place;
    let cpus = if domain.vcpus.placement == Some(CpuPlacement::Auto) {
        let nodes = facts.numa.automatic.as_ref()?;
        let of_nodes = nodes.iter().filter_map(|node| facts.numa.cpus.get(&node));
        CpuSet::from_numbers(of_nodes.flat_map(CpuSet::iter))?
    } else {
        domain.vcpus.cpuset.clone()?
    };
    Some(ThreadCpus { cpus, place: place.clone() })
}

fn pinned(pin: &Pin) -> ThreadCpus {
    ThreadCpus { cpus: pin.cpus.clone(), place: pin.place.clone() }
}

fn policy(scheduling: &Scheduling) -> ThreadPolicy {
    ThreadPolicy {
        policy: scheduling.policy,
        priority: scheduling.priority.unwrap_or_default(),
        place: scheduling.place.clone(),
    }
}

fn pin_of(pins: &[Pin], thread: u32) -> Option<&Pin> {
    pins.iter().find(|pin| pin.thread == Some(thread))
}

fn scheduling_of(all: &[Scheduling], thread: u32) -> Option<&Scheduling> {
    all.iter().find(|one| one.threads.as_ref().is_some_and(|threads| threads.contains(thread)))
}
