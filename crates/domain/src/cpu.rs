//! The CPU that the guest sees, `<cpu>`.

use std::collections::BTreeSet;

use crate::fault::Place;
use crate::numa::Numa;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// Where the CPU's description comes from.
    pub enum CpuMode {
        /// The named model.
        Custom = "custom",
        /// A model near the host's.
        HostModel = "host-model",
        /// The host's CPU itself.
        HostPassthrough = "host-passthrough",
        /// The best that the accelerator has.
        Maximum = "maximum",
    }
}

crate::keywords! {
    /// How strictly the guest's CPU is that of the description.
    pub enum CpuMatch {
        /// At least that.
        Minimum = "minimum",
        /// That, nothing more.
        Exact = "exact",
        /// That, and the host has nothing more.
        Strict = "strict",
    }
}

crate::keywords! {
    /// When the CPU is compared with what QEMU offers.
    pub enum CpuCheck {
        /// Never.
        None = "none",
        /// Before the start.
        Partial = "partial",
        /// After the start.
        Full = "full",
    }
}

crate::keywords! {
    /// What happens when the model is unknown.
    pub enum CpuFallback {
        /// A near one is taken.
        Allow = "allow",
        /// The guest is not started.
        Forbid = "forbid",
    }
}

crate::keywords! {
    /// What becomes of one feature of the CPU.
    pub enum FeaturePolicy {
        /// It is shown even if the host lacks it.
        Force = "force",
        /// It is shown, and the host must have it.
        Require = "require",
        /// It is shown if the host has it.
        Optional = "optional",
        /// It is not shown.
        Disable = "disable",
        /// It is not shown, and the host must not have it.
        Forbid = "forbid",
    }
}

crate::keywords! {
    /// Which cache the guest sees.
    pub enum CacheMode {
        /// One that QEMU makes up.
        Emulate = "emulate",
        /// The host's.
        Passthrough = "passthrough",
        /// None.
        Disable = "disable",
    }
}

crate::keywords! {
    /// Where the number of physical address bits comes from.
    pub enum PhysicalAddressMode {
        /// The host.
        Passthrough = "passthrough",
        /// The domain.
        Emulate = "emulate",
    }
}

crate::attributes! {
    /// How the virtual CPUs are arranged.
    pub struct Topology {
        /// Sockets.
        pub sockets: u32 = number "sockets",
        /// Dies of a socket.
        pub dies: u32 = number "dies",
        /// Clusters of a die.
        pub clusters: u32 = number "clusters",
        /// Cores of a cluster.
        pub cores: u32 = number "cores",
        /// Threads of a core.
        pub threads: u32 = number "threads",
    }
}

crate::attributes! {
    /// The cache that the guest sees.
    pub struct CpuCache {
        /// Its level, 1 to 3; without one, all levels.
        pub level: u8 = number "level",
        /// Where it comes from.
        pub mode: CacheMode = keyword "mode",
    }
}

crate::attributes! {
    /// How many bits a physical address has.
    pub struct PhysicalAddress {
        /// Where the number comes from.
        pub mode: PhysicalAddressMode = keyword "mode",
        /// The number.
        pub bits: u8 = number "bits",
        /// The most that is taken from the host.
        pub limit: u8 = number "limit",
    }
}

/// A feature and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuFeature {
    /// The name in libvirt's spelling, such as `lahf_lm`.
    pub name: String,
    /// What becomes of it; required without a policy.
    pub policy: Option<FeaturePolicy>,
}

/// The named model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuModel {
    /// The name, such as `Haswell`; may be empty for host-model.
    pub name: Option<String>,
    /// What happens when it is unknown.
    pub fallback: Option<CpuFallback>,
    /// The twelve characters of the vendor that the guest sees.
    pub vendor_id: Option<String>,
}

/// The CPU that the guest sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Where the element stands.
    pub place: Place,
    /// Where the description comes from.
    pub mode: Option<CpuMode>,
    /// How strictly it is kept.
    pub matching: Option<CpuMatch>,
    /// When it is compared.
    pub check: Option<CpuCheck>,
    /// Whether features that forbid migration are hidden.
    pub migratable: Option<bool>,
    /// The model.
    pub model: Option<CpuModel>,
    /// The vendor that the host must be of.
    pub vendor: Option<String>,
    /// The arrangement of the virtual CPUs.
    pub topology: Option<Topology>,
    /// The cache.
    pub cache: Option<CpuCache>,
    /// The bits of physical addresses.
    pub physical_address: Option<PhysicalAddress>,
    /// The features.
    pub features: Vec<CpuFeature>,
    /// The NUMA nodes.
    pub numa: Option<Numa>,
}

impl Cpu {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        reader.refuse_attributes(&["deprecated_features"]);
        let cpu = Self {
            place: reader.place(),
            mode: reader.keyword("mode"),
            matching: reader.keyword("match"),
            check: reader.keyword("check"),
            migratable: reader.on_off("migratable"),
            model: reader.child("model").map(|model| CpuModel::parse(&model)),
            vendor: reader.child("vendor").map(|vendor| vendor.text().into_owned()),
            topology: reader.child("topology").map(|topology| Topology::parse(&topology)),
            cache: reader.child("cache").map(|cache| CpuCache::parse(&cache)),
            physical_address: reader.child("maxphysaddr").map(|r| PhysicalAddress::parse(&r)),
            features: reader.children("feature").iter().filter_map(CpuFeature::parse).collect(),
            numa: reader.child("numa").and_then(|numa| Numa::parse(&numa)),
        };
        cpu.check(reader);
        cpu
    }

    fn check(&self, reader: &Reader<'_>) {
        if let Some(topology) = &self.topology {
            let counts = [topology.sockets, topology.cores, topology.threads];
            let optional = [topology.dies, topology.clusters];
            if counts.contains(&None) || counts.iter().chain(&optional).any(|it| *it == Some(0)) {
                reader.refuse(
                    "<topology> lacks a number above 0; give sockets='1' cores='2' threads='1'",
                );
            }
        }
        let names: BTreeSet<&str> = self.features.iter().map(|it| it.name.as_str()).collect();
        if names.len() != self.features.len() {
            reader.refuse("a <feature> stands here twice; remove one");
        }
        let custom = self.mode.is_none_or(|mode| mode == CpuMode::Custom);
        let model = self.model.as_ref();
        if custom && !self.features.is_empty() && model.is_none_or(|it| it.name.is_none()) {
            reader.refuse("a <feature> is added to a <model>; name one");
        }
        let fits = |id: &String| id.len() == 12 && !id.contains(',');
        if model.and_then(|model| model.vendor_id.as_ref()).is_some_and(|id| !fits(id)) {
            reader.refuse("'vendor_id' is 12 characters without a comma; correct it");
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("cpu")
            .optional("mode", self.mode)
            .optional("match", self.matching)
            .optional("check", self.check)
            .on_off("migratable", self.migratable)
            .children_if_any(|w| {
                if let Some(model) = &self.model {
                    model.write(w);
                }
                if let Some(vendor) = &self.vendor {
                    w.element("vendor").text(vendor);
                }
                if let Some(topology) = &self.topology {
                    topology.write("topology", w);
                }
                if let Some(cache) = &self.cache {
                    cache.write("cache", w);
                }
                if let Some(address) = &self.physical_address {
                    address.write("maxphysaddr", w);
                }
                for feature in &self.features {
                    feature.write(w);
                }
                if let Some(numa) = &self.numa {
                    numa.write(w);
                }
            });
    }
}

impl CpuModel {
    fn parse(reader: &Reader<'_>) -> Self {
        let name = reader.text();
        Self {
            name: (!name.is_empty()).then(|| name.into_owned()),
            fallback: reader.keyword("fallback"),
            vendor_id: reader.string("vendor_id"),
        }
    }

    fn write(&self, writer: &mut Writer) {
        let element = writer
            .element("model")
            .optional("fallback", self.fallback)
            .optional("vendor_id", self.vendor_id.as_ref());
        match &self.name {
            Some(name) => element.text(name),
            None => element.empty_if_any(),
        }
    }
}

impl CpuFeature {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let policy = reader.keyword("policy");
        Some(Self { name: reader.required("name", "vmx")?.to_owned(), policy })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element("feature")
            .optional("policy", self.policy)
            .attribute("name", &self.name)
            .empty();
    }
}
