//! How many virtual CPUs there are and how they are arranged: `-smp`.

use domain::{CpuPlacement, Domain};

use crate::argv::Options;
use crate::command::Command;

/// Fills in who places the virtual CPUs.
pub(crate) fn complete(domain: &mut Domain) {
    domain.vcpus.placement.get_or_insert(CpuPlacement::Static);
    if let Some(topology) = domain.cpu.as_mut().and_then(|cpu| cpu.topology.as_mut()) {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
}

/// Adds `-smp`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let vcpus = &command.domain.vcpus;
    let options =
        Options::new(vcpus.online()).some("maxcpus", vcpus.current.map(|_| vcpus.maximum));
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
