//! Plans a domain with the facts that libvirt's tests pretend their host to have.
//!
//! The corpus itself is no part of this repository; it is looked for beside it, in `../shared/corpus`.

use std::collections::BTreeMap;

use domain::devices::{HostdevSource, ScsiSource};
use domain::{Domain, Fault, Faults};
use qemu::{Directories, HostFacts, Launch, LaunchPlan, NetworkFacts, StartMode, VirtualNetwork};

/// Longest part of a guest's name in the folders of libvirt's tests, in characters.
const SHORT_NAME: usize = 20;

/// A case after completion: the domain, the plan and what was said about them.
#[derive(Debug)]
pub struct Outcome {
    /// The domain after completion, if it is one.
    pub domain: Option<Domain>,
    /// The plan, if the domain was not refused.
    pub plan: Option<LaunchPlan>,
    /// What was said, in the order of the document.
    pub faults: Vec<Fault>,
}

/// Reads, completes and plans the domain in `xml`.
#[must_use]
pub fn translate(xml: &str) -> Outcome {
    let faults = Faults::new();
    let mut domain = Domain::parse(xml, &faults);
    let mut plan = None;
    if let Some(domain) = &mut domain {
        let mut facts = facts(domain.name.as_str());
        facts.scsi_generics = scsi_generics(domain);
        qemu::complete(domain, &facts, &faults);
        plan = qemu::plan(domain, &facts, &launch(), &faults);
    }
    Outcome { domain, plan, faults: faults.into_sorted() }
}

/// The facts of the pretended host for a guest of this name.
#[must_use]
pub fn facts(name: &str) -> HostFacts {
    let short: String = name.chars().take(SHORT_NAME).collect();
    HostFacts {
        directories: Directories {
            guest: format!("/var/lib/libvirt/qemu/domain--1-{short}"),
            channel: format!("/var/run/libvirt/qemu/channel/-1-{short}"),
            nvram: "/var/lib/libvirt/qemu/nvram".to_owned(),
            memory: format!("/var/lib/libvirt/qemu/ram/-1-{short}"),
            log: "/var/log/libvirt/qemu".to_owned(),
            passt: format!("/var/run/libvirt/qemu/passt/-1-{short}-"),
        },
        network: network(),
        ..HostFacts::default()
    }
}

/// The networks that the pretended host has.
fn network() -> NetworkFacts {
    let names = ["nat-network;plug-network-basic", "vepa-net;plug-bridge-basic"];
    let bridge = || VirtualNetwork { bridge: "virbr0".to_owned() };
    NetworkFacts {
        networks: names.map(|name| (name.to_owned(), bridge())).into(),
        vhost_net: true,
        vsock_cid: Some(42),
    }
}

/// The pretended host has one generic device for all SCSI devices.
fn scsi_generics(domain: &Domain) -> BTreeMap<String, String> {
    let hostdevs = domain.devices.hostdevs.iter();
    let hosts = hostdevs.filter_map(|hostdev| match &hostdev.source {
        HostdevSource::Scsi(ScsiSource::Host(host)) => Some(host),
        HostdevSource::Scsi(ScsiSource::Iscsi(_))
        | HostdevSource::Pci(_)
        | HostdevSource::Usb(_)
        | HostdevSource::ScsiHost(_)
        | HostdevSource::Mdev(_) => None,
    });
    hosts.map(|host| (host.to_string(), "/dev/sg0".to_owned())).collect()
}

/// Libvirt's tests have one monitor and start paused.
fn launch() -> Launch {
    Launch { start: StartMode::Paused, shim_monitor: false }
}
