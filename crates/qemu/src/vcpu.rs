//! How many virtual CPUs there are and how they are arranged: `-smp`.

use domain::{CpuPlacement, Domain, Faults, Vcpu, Vcpus};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;

/// Fills in who places the virtual CPUs.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    check(domain, faults);
    domain.vcpus.placement.get_or_insert(CpuPlacement::Static);
    if let Some(topology) = domain.cpu.as_mut().and_then(|cpu| cpu.topology.as_mut()) {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
}

/// The most virtual CPUs that the newest machine of a board has (`query-machines`, `cpu-max`, in QEMU 10.0).
fn most(board: Board) -> u32 {
    match board {
        Board::Q35 => 4096,
        Board::I440fx => 255,
        Board::Microvm => 288,
        // The newest interrupt controller of both counts so many.
        Board::ArmVirt | Board::RiscvVirt => 512,
        Board::Isa => 1,
    }
}

fn check(domain: &Domain, faults: &Faults) {
    let place = &domain.vcpus.place;
    let place = if place.path.is_empty() { &domain.place } else { place };
    let topology = domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let arranged = topology.map(|it| {
        let parts = [it.sockets, it.dies, it.clusters, it.cores, it.threads];
        parts.into_iter().fold(1, |all: u32, part| all.saturating_mul(part.unwrap_or(1)))
    });
    if let Some(arranged) = arranged.filter(|arranged| *arranged != domain.vcpus.maximum) {
        let what = format!("<topology> arranges {arranged} virtual CPUs; give as many here");
        faults.push(place.refused(what));
    }
    let (count, most) = (domain.vcpus.maximum, most(Board::of_domain(domain)));
    if count > most {
        let what = format!("the machine has at most {most} virtual CPUs; give fewer than {count}");
        faults.push(place.refused(what));
    }
}

/// How many virtual CPUs are there from the start and stay. Those that can be removed are plugged later.
pub(crate) fn fixed(vcpus: &Vcpus) -> u32 {
    let plugged = vcpus.each.iter().filter(|vcpu| is_plugged(vcpu)).count();
    vcpus.online().saturating_sub(u32::try_from(plugged).unwrap_or(u32::MAX))
}

fn is_plugged(vcpu: &Vcpu) -> bool {
    vcpu.enabled == Some(true) && vcpu.hotpluggable == Some(true)
}

/// Says which virtual CPUs the guest starts without.
pub(crate) fn warn(domain: &Domain, faults: &Faults) {
    if domain.vcpus.each.iter().any(is_plugged) {
        let place = domain.place.child("vcpus");
        let what =
            "glassbox starts the guest without CPUs that are hotpluggable='yes'; plug them later";
        faults.push(place.ignored(what));
    }
}

/// Adds `-smp`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let vcpus = &command.domain.vcpus;
    let online = fixed(vcpus);
    let more = (online != vcpus.maximum).then_some(vcpus.maximum);
    let options = Options::new(online).some("maxcpus", more);
    let topology = command.domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let options = match topology {
        Some(topology) => options
            .set("sockets", topology.sockets.unwrap_or(1))
            .set("dies", topology.dies.unwrap_or(1))
            .set("clusters", topology.clusters.unwrap_or(1))
            .set("cores", topology.cores.unwrap_or(1))
            .set("threads", topology.threads.unwrap_or(1)),
        None => options.set("sockets", vcpus.maximum).set("cores", 1).set("threads", 1),
    };
    command.argv.options("-smp", options);
}
