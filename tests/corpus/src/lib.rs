//! Plans a domain with the facts that libvirt's tests pretend their host to have.
//!
//! The corpus itself is no part of this repository; it is looked for beside it, in `../shared/corpus`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use domain::devices::{HostdevSource, ScsiSource};
use domain::tree::Element;
use domain::{CpuSet, Domain, Fault, Faults, MemorySize};
use qemu::{
    ChardevFacts, Directories, DisplayFacts, FirmwareDescriptor, HelperFacts, HostClock, HostFacts,
    HostModel, HostModels, HostNuma, HugePageFolder, Launch, LaunchPlan, NetworkFacts, SevFacts,
    SocketPath, StartMode, VirtualNetwork,
};

pub mod acceptance;
pub mod needs;
pub mod stand_in;
mod storage;

/// Longest part of a guest's name in the folders of libvirt's tests, in characters.
const SHORT_NAME: usize = 20;

/// What is read once, since tests translate thousands of domains.
static HOST_MODELS: LazyLock<HostModels> = LazyLock::new(host_models);
static FIRMWARE: LazyLock<Vec<FirmwareDescriptor>> = LazyLock::new(firmware);

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
    match domain::tree::parse(xml) {
        Ok(root) => translate_tree(&root),
        Err(fault) => Outcome { domain: None, plan: None, faults: vec![fault] },
    }
}

/// Reads, completes and plans the domain in a tree.
#[must_use]
pub fn translate_tree(root: &Element<'_>) -> Outcome {
    translate_for(root, &launch(), |_| {})
}

/// Reads, completes and plans the domain in a tree for a host that `change` makes of the pretended one.
#[must_use]
pub fn translate_for(
    root: &Element<'_>,
    launch: &Launch,
    change: impl FnOnce(&mut HostFacts),
) -> Outcome {
    let faults = Faults::new();
    let mut domain = Domain::from_tree(root, &faults);
    let mut plan = None;
    if let Some(domain) = &mut domain {
        let mut facts = facts(domain.name.as_str());
        facts.scsi_generics = scsi_generics(domain);
        facts.storage = storage::facts(domain);
        change(&mut facts);
        qemu::complete(domain, &facts, &faults);
        plan = qemu::plan(domain, &facts, launch, &faults);
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
            swtpm: "/var/lib/libvirt/swtpm".to_owned(),
        },
        network: network(),
        displays: DisplayFacts {
            spice_password: true,
            render_node: Some("/dev/dri/foo".to_owned()),
            ..DisplayFacts::default()
        },
        chardevs: ChardevFacts { tls: false, certificates: "/etc/pki/libvirt-chardev".to_owned() },
        helpers: HelperFacts {
            swtpm: "/dev/test".to_owned(),
            virtiofsd: SocketPath::new(
                format!("/var/lib/libvirt/qemu/domain--1-{short}/"),
                "-fs.sock",
            ),
            passt: SocketPath::new(format!("/var/run/libvirt/qemu/passt/-1-{short}-"), ".socket"),
            nbdkit: None,
            reservations: format!("/var/lib/libvirt/qemu/domain--1-{short}/pr-helper0.sock"),
            dbus: Some(format!("/var/run/libvirt/qemu/dbus/-1-{short}-dbus.sock")),
            rdp: true,
            gpu: Some("/var/lib/libvirt/qemu".to_owned()),
            ..HostFacts::default().helpers
        },
        host_models: HOST_MODELS.clone(),
        numa: numa(),
        hugepages: [(2, "2M"), (1024, "1G")]
            .map(|(mebibytes, name)| HugePageFolder {
                page: MemorySize::from_bytes(mebibytes << 20),
                path: format!("/dev/hugepages{name}/libvirt/qemu/-1-{short}"),
            })
            .to_vec(),
        clock: Some(HostClock { now: 1_234_567_890, local_offset: -1800 }),
        firmware: FIRMWARE.clone(),
        sev: Some(SevFacts { cbitpos: 47, reduced_phys_bits: 1 }),
        ..HostFacts::default()
    }
}

/// The networks that the pretended host has.
fn network() -> NetworkFacts {
    let names = ["nat-network;plug-network-basic", "vepa-net;plug-bridge-basic"];
    let bridge = || Ok(VirtualNetwork { bridge: "virbr0".to_owned(), mtu: None });
    NetworkFacts {
        networks: names.map(|name| (name.to_owned(), bridge())).into(),
        vhost_net: true,
        vhost_vsock: true,
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

/// Four nodes of four CPUs.
fn numa() -> HostNuma {
    let nodes: Option<CpuSet> = CpuSet::from_numbers(0..4);
    let cpus =
        (0..4).filter_map(|node| Some((node, CpuSet::from_numbers(node * 4..node * 4 + 4)?)));
    HostNuma { automatic: nodes.clone(), nodes, cpus: cpus.collect() }
}

/// The corpus: `../shared/corpus` beside the repository, or where `GLASSBOX_CORPUS` says.
#[must_use]
pub fn corpus() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("GLASSBOX_CORPUS").map_or(beside, PathBuf::from).join("libvirt-11.3")
}

/// The firmware that libvirt's tests find: files of `/etc` mask those of the same name, empty ones nothing else.
fn firmware() -> Vec<FirmwareDescriptor> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in ["usr/share/qemu/firmware", "etc/qemu/firmware"] {
        let Ok(entries) = std::fs::read_dir(corpus().join("firmware").join(folder)) else {
            continue;
        };
        files.extend(entries.flatten().map(|entry| (entry.file_name(), entry.path())));
    }
    let texts = files.values().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter_map(|text| FirmwareDescriptor::parse(&text).ok()).collect()
}

fn host_models() -> HostModels {
    let model = |name: &str| host_model(&corpus().join("domcaps").join(name));
    HostModels { kvm: model("qemu_10.0.0.x86_64.xml"), tcg: model("qemu_10.0.0-tcg.x86_64.xml") }
}

/// The host-model of libvirt's domain capabilities, without what forbids migration.
fn host_model(path: &Path) -> Option<HostModel> {
    let text = std::fs::read_to_string(path).ok()?;
    let root = domain::tree::parse(&text).ok()?;
    let cpu = root.elements().find(|element| element.name == "cpu")?;
    let attribute = |element: &Element<'_>, name: &str| -> Option<String> {
        let mut attributes = element.attributes.iter();
        Some(attributes.find(|attribute| attribute.name == name)?.value.to_string())
    };
    let is_host = |mode: &&Element<'_>| attribute(mode, "name").as_deref() == Some("host-model");
    let mode = cpu.elements().find(is_host)?;
    let model = mode.elements().find(|element| element.name == "model")?.text().into_owned();
    let features = mode.elements().filter(|element| element.name == "feature");
    let mut features: Vec<(String, bool)> = features
        .filter_map(|feature| {
            let on = attribute(feature, "policy")? == "require";
            Some((attribute(feature, "name")?.replace('_', "-"), on))
        })
        .filter(|(name, _)| name != "invtsc")
        .collect();
    features.sort_by_key(|(_, on)| !on);
    Some(HostModel { model, features })
}

/// Libvirt's tests have one monitor and start paused.
fn launch() -> Launch {
    Launch { start: StartMode::Paused, ..Launch::default() }
}
