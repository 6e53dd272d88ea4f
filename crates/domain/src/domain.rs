//! A whole domain, `<domain>`.

use std::collections::BTreeSet;

use crate::blkiotune::BlockIoTuning;
use crate::clock::Clock;
use crate::cpu::Cpu;
use crate::cputune::CpuTuning;
use crate::devices::Devices;
use crate::fault::{Faults, Place};
use crate::features::Features;
use crate::header::{DomainType, Header};
use crate::id_map::IdMap;
use crate::iothreads::IoThreads;
use crate::launch_security::LaunchSecurity;
use crate::lifecycle::Lifecycle;
use crate::memory::Memory;
use crate::memory_backing::MemoryBacking;
use crate::memtune::MemoryTuning;
use crate::names::{DomainName, DomainUuid};
use crate::numatune::NumaTuning;
use crate::os::Os;
use crate::perf::Perf;
use crate::pm::PowerManagement;
use crate::qemu_namespace::{QEMU_NAMESPACE, QemuNamespace};
use crate::reader::Reader;
use crate::readiness::Readiness;
use crate::resource::Resource;
use crate::seclabel::SecurityLabel;
use crate::sysinfo::Sysinfo;
use crate::throttle_groups::ThrottleGroups;
use crate::tree;
use crate::vcpu::Vcpus;
use crate::writer::Writer;

/// A domain as its user wrote it; `None` and empty lists are what the user left out.
///
/// The order of the fields is the one in which the format writes the elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Where the element stands.
    pub place: Place,
    /// The hypervisor.
    pub kind: DomainType,
    /// The name.
    pub name: DomainName,
    /// The UUID; without one it is made of the name's place on the host.
    pub uuid: Option<DomainUuid>,
    /// The number by which a guest knows that it is no longer the one it was: a copy, or one set back.
    pub genid: Option<DomainUuid>,
    /// A short description.
    pub title: Option<String>,
    /// A long description.
    pub description: Option<String>,
    /// The element `<metadata>` as it was written, kept for the programs that wrote it.
    pub metadata: Option<String>,
    /// What `<metadata>` says of how the guest tells that it is ready.
    pub readiness: Option<Readiness>,
    /// How much memory there is.
    pub memory: Memory,
    /// Weights of block I/O.
    pub blkiotune: Option<BlockIoTuning>,
    /// Limits of memory.
    pub memtune: Option<MemoryTuning>,
    /// What memory is made of.
    pub memory_backing: MemoryBacking,
    /// How many virtual CPUs there are.
    pub vcpus: Vcpus,
    /// Threads that serve devices.
    pub iothreads: IoThreads,
    /// Limits that disks share.
    pub throttle_groups: Option<ThrottleGroups>,
    /// Pinning and shares of CPU time.
    pub cputune: Option<CpuTuning>,
    /// Placement of memory.
    pub numatune: Option<NumaTuning>,
    /// The resource partition.
    pub resource: Option<Resource>,
    /// What firmware tells of the machine.
    pub sysinfo: Vec<Sysinfo>,
    /// What is booted.
    pub os: Os,
    /// Maps of ids.
    pub id_map: Option<IdMap>,
    /// Features of the machine.
    pub features: Features,
    /// The CPU.
    pub cpu: Option<Cpu>,
    /// The clock.
    pub clock: Clock,
    /// What happens when the guest ends.
    pub lifecycle: Lifecycle,
    /// Sleep states.
    pub pm: PowerManagement,
    /// Performance events.
    pub perf: Option<Perf>,
    /// The devices.
    pub devices: Devices,
    /// Security labels.
    pub seclabels: Vec<SecurityLabel>,
    /// Protection from the host.
    pub launch_security: Option<LaunchSecurity>,
    /// Words for QEMU.
    pub qemu: QemuNamespace,
}

/// Elements of other hypervisors, or that are not read yet.
const UNSUPPORTED: [&str; 4] = ["bootloader", "bootloader_args", "keywrap", "hwuuid"];

impl Domain {
    /// Reads a whole document. All that is wrong with it is put into `faults`; there is a domain when what it
    /// cannot be without could be read, and it may be started only if no fault is a refusal.
    #[must_use]
    pub fn parse(text: &str, faults: &Faults) -> Option<Self> {
        match tree::parse(text) {
            Ok(root) => Self::from_tree(&root, faults),
            Err(fault) => {
                faults.push(fault);
                None
            }
        }
    }

    /// As [`Self::parse`], of a running guest's document: the aliases and numbers that its start assigned count.
    #[must_use]
    pub fn parse_running(text: &str, faults: &Faults) -> Option<Self> {
        let root = tree::parse(text).map_err(|fault| faults.push(fault)).ok()?;
        Self::from_reader(&Reader::root_of_running(&root, faults), &root, faults)
    }

    /// Reads the tree of a document; see [`Self::parse`].
    #[must_use]
    pub fn from_tree(root: &tree::Element<'_>, faults: &Faults) -> Option<Self> {
        Self::from_reader(&Reader::root(root, faults), root, faults)
    }

    fn from_reader(reader: &Reader<'_>, root: &tree::Element<'_>, faults: &Faults) -> Option<Self> {
        let header = Header::read(root, faults);
        if !Header::is_domain(root) {
            let _ = reader.raw(); // One message is enough for a document of another kind.
            return None;
        }
        for name in ["name", "uuid", "title"] {
            let _ = reader.child(name).map(|child| child.raw()); // The header's.
        }
        let _ = reader.attribute("type"); // The header's.
        let _ = reader.attribute("id"); // The number of the last run.
        reader.refuse_children(&UNSUPPORTED);
        Self::read(reader, header)
    }

    fn read(reader: &Reader<'_>, header: Header) -> Option<Self> {
        let child = |name: &str| reader.child(name);
        let memory = Memory::parse(reader);
        let metadata = child("metadata");
        let lists = (reader.children("sysinfo"), reader.children("seclabel"));
        Some(Self {
            place: reader.place(),
            kind: header.kind?,
            name: header.name?,
            uuid: header.uuid,
            genid: child("genid").and_then(|r| generation(&r)),
            title: header.title,
            description: child("description").map(|r| r.text().into_owned()),
            metadata: metadata.as_ref().map(|metadata| raw_text(reader, metadata)),
            readiness: metadata.as_ref().and_then(Readiness::parse),
            memory,
            blkiotune: child("blkiotune").and_then(|r| BlockIoTuning::parse(&r)),
            memtune: child("memtune").and_then(|r| MemoryTuning::parse(&r)),
            memory_backing: child("memoryBacking")
                .map(|r| MemoryBacking::parse(&r))
                .unwrap_or_default(),
            vcpus: child("vcpu")
                .map(|r| Vcpus::parse(&r, child("vcpus").as_ref()))
                .unwrap_or_default(),
            iothreads: IoThreads::parse(reader),
            throttle_groups: child("throttlegroups").and_then(|r| ThrottleGroups::parse(&r)),
            cputune: child("cputune").and_then(|r| CpuTuning::parse(&r)),
            numatune: child("numatune").and_then(|r| NumaTuning::parse(&r)),
            resource: child("resource").and_then(|r| Resource::parse(&r)),
            sysinfo: lists.0.iter().filter_map(Sysinfo::parse).collect(),
            os: child("os").map(|r| Os::parse(&r)).unwrap_or_default(),
            id_map: child("idmap").and_then(|r| IdMap::parse(&r)),
            features: child("features").map(|r| Features::parse(&r)).unwrap_or_default(),
            cpu: child("cpu").map(|r| Cpu::parse(&r)),
            clock: child("clock").map(|r| Clock::parse(&r)).unwrap_or_default(),
            lifecycle: Lifecycle::parse(reader),
            pm: child("pm").map(|r| PowerManagement::parse(&r)).unwrap_or_default(),
            perf: child("perf").and_then(|r| Perf::parse(&r)),
            devices: child("devices").map(|r| Devices::parse(&r)).unwrap_or_default(),
            seclabels: lists.1.iter().filter_map(SecurityLabel::parse).collect(),
            launch_security: child("launchSecurity").and_then(|r| LaunchSecurity::parse(&r)),
            qemu: QemuNamespace::parse(reader),
        })
    }

    /// The domain as text, in libvirt's format and order.
    #[must_use]
    pub fn write(&self) -> String {
        let mut writer = Writer::new();
        let root = writer.element("domain").attribute("type", self.kind);
        let namespace = (!self.qemu.is_empty()).then_some(QEMU_NAMESPACE);
        root.optional("xmlns:qemu", namespace).children(|w| {
            self.write_identity(w);
            self.write_resources(w);
            self.write_machine(w);
            self.devices.write(w);
            self.seclabels.iter().for_each(|label| label.write(w));
            write_some(w, self.launch_security.as_ref(), LaunchSecurity::write);
            self.qemu.write(w);
        });
        writer.finish()
    }

    fn write_identity(&self, w: &mut Writer) {
        w.element("name").text(&self.name);
        for (name, text) in [
            ("uuid", self.uuid.map(|uuid| uuid.to_string())),
            ("genid", self.genid.map(|genid| genid.to_string())),
            ("title", self.title.clone()),
            ("description", self.description.clone()),
        ] {
            if let Some(text) = text {
                w.element(name).text(text);
            }
        }
        if let Some(metadata) = &self.metadata {
            w.lines(metadata);
        }
    }

    fn write_resources(&self, w: &mut Writer) {
        self.memory.write(w);
        write_some(w, self.blkiotune.as_ref(), BlockIoTuning::write);
        write_some(w, self.memtune.as_ref(), MemoryTuning::write);
        self.memory_backing.write(w);
        self.vcpus.write(w);
        self.iothreads.write(w);
        write_some(w, self.throttle_groups.as_ref(), ThrottleGroups::write);
        write_some(w, self.cputune.as_ref(), CpuTuning::write);
        write_some(w, self.numatune.as_ref(), NumaTuning::write);
        write_some(w, self.resource.as_ref(), Resource::write);
    }

    fn write_machine(&self, w: &mut Writer) {
        self.sysinfo.iter().for_each(|sysinfo| sysinfo.write(w));
        self.os.write(w);
        write_some(w, self.id_map.as_ref(), IdMap::write);
        self.features.write(w);
        write_some(w, self.cpu.as_ref(), Cpu::write);
        self.clock.write(w);
        self.lifecycle.write(w);
        self.pm.write(w);
        write_some(w, self.perf.as_ref(), Perf::write);
    }
}

fn write_some<T>(w: &mut Writer, element: Option<&T>, write: impl Fn(&T, &mut Writer)) {
    if let Some(element) = element {
        write(element, w);
    }
}

/// The text of `<genid>`; libvirt makes one up for an empty element, and nobody would keep it here.
fn generation(reader: &Reader<'_>) -> Option<DomainUuid> {
    if reader.text().trim().is_empty() {
        reader.refuse("<genid> is empty; give a UUID, of uuidgen for example");
        return None;
    }
    reader.text_value()
}

/// An element as it stands, for what belongs to other programs, with the namespaces that the root declares for
/// it.
fn raw_text(root: &Reader<'_>, reader: &Reader<'_>) -> String {
    let mut element = reader.raw().clone();
    let mut prefixes = BTreeSet::new();
    undeclared_prefixes(&element, &prefixes.clone(), &mut prefixes);
    let declarations = root.declarations().filter(|declaration| {
        declaration.name.strip_prefix("xmlns:").is_some_and(|prefix| prefixes.contains(prefix))
    });
    element.attributes.extend(declarations.cloned());
    let mut writer = Writer::new();
    writer.raw(&element);
    writer.finish()
}

/// Adds the prefixes of elements below `element` that nothing between declares.
fn undeclared_prefixes<'x>(
    element: &tree::Element<'x>,
    declared: &BTreeSet<&'x str>,
    found: &mut BTreeSet<&'x str>,
) {
    let mut declared = declared.clone();
    declared.extend(element.attributes.iter().filter_map(|a| a.name.strip_prefix("xmlns:")));
    let prefix = element.qualified.split_once(':').map(|(prefix, _)| prefix);
    found.extend(prefix.filter(|prefix| !declared.contains(prefix)));
    for child in element.elements() {
        undeclared_prefixes(child, &declared, found);
    }
}
