//! Plans a domain with the facts that libvirt's tests pretend their host to have.
//!
//! The corpus itself is no part of this repository; it is looked for beside it, in `../shared/corpus`.

use domain::{Domain, Fault, Faults};
use qemu::{
    ChardevFacts, Directories, DisplayFacts, HelperFacts, HostFacts, Launch, LaunchPlan, StartMode,
};

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
        let facts = facts(domain.name.as_str());
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
        },
        displays: DisplayFacts {
            spice_password: true,
            render_node: Some("/dev/dri/foo".to_owned()),
            ..DisplayFacts::default()
        },
        chardevs: ChardevFacts { tls: false, certificates: "/etc/pki/libvirt-chardev".to_owned() },
        helpers: HelperFacts {
            swtpm: Some("/dev/test".to_owned()),
            dbus: Some(format!("/var/run/libvirt/qemu/dbus/-1-{short}-dbus.sock")),
            rdp: true,
            gpu: Some("/var/lib/libvirt/qemu".to_owned()),
        },
        ..HostFacts::default()
    }
}

/// Libvirt's tests have one monitor and start paused.
fn launch() -> Launch {
    Launch { start: StartMode::Paused, shim_monitor: false }
}
