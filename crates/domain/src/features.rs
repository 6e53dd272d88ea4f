//! Features of the machine, `<features>`.

use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

mod gic;
mod hyperv;
mod kvm;

pub use gic::{Gic, GicVersion};
pub use hyperv::{Hyperv, HypervFeature, HypervMode, HypervSetting};
pub use kvm::{DirtyRing, Kvm};

crate::keywords! {
    /// Who emulates the interrupt controller.
    pub enum IoApicDriver {
        /// KVM.
        Kvm = "kvm",
        /// QEMU.
        Qemu = "qemu",
    }
}

/// System management mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Smm {
    /// Whether it is on; on when nothing is written.
    pub state: Option<bool>,
    /// How much memory it has for itself beyond 8 MiB.
    pub tseg: Option<MemorySize>,
}

/// The local interrupt controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apic {
    /// Whether the guest may signal ends of interrupts without leaving to the host.
    pub eoi: Option<bool>,
}

/// Features of the machine. A bare feature is present or not; others have a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Whether the element is written at all.
    pub present: bool,
    /// Power management tables.
    pub acpi: bool,
    /// The local interrupt controller.
    pub apic: Option<Apic>,
    /// Physical address extension, always there on today's CPUs.
    pub pae: bool,
    /// Paging by hardware, always there on today's CPUs.
    pub hap: bool,
    /// Hyper-V's interface by Xen, which QEMU has not.
    pub viridian: bool,
    /// A private network, which QEMU's guests have not.
    pub privnet: bool,
    /// Enlightenments for Windows.
    pub hyperv: Option<Hyperv>,
    /// Features of KVM.
    pub kvm: Option<Kvm>,
    /// Paravirtual spinlocks.
    pub pvspinlock: Option<bool>,
    /// Performance counters.
    pub pmu: Option<bool>,
    /// VMware's I/O port.
    pub vmport: Option<bool>,
    /// System management mode.
    pub smm: Option<Smm>,
    /// The I/O interrupt controller.
    pub ioapic: Option<IoApicDriver>,
    /// The interrupt controller of ARM.
    pub gic: Option<Gic>,
    /// The device by which a guest tells where its crash notes lie.
    pub vmcoreinfo: Option<bool>,
    /// The PS/2 controller.
    pub ps2: Option<bool>,
    /// How much memory QEMU's translator has for translated code.
    pub translation_cache: Option<MemorySize>,
    /// Whether the host takes the guest's memory back after QEMU has ended.
    pub async_teardown: Option<bool>,
}

/// Features that libvirt knows and that are not read yet, or that no supported guest has.
const UNSUPPORTED: [&str; 12] = [
    "capabilities",
    "hpt",
    "htm",
    "nested-hv",
    "msrs",
    "ccf-assist",
    "xen",
    "cfpc",
    "sbbc",
    "ibs",
    "ras",
    "aia",
];

impl Features {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        reader.refuse_children(&UNSUPPORTED);
        let state =
            |name: &str| reader.child(name).map(|feature| feature.on_off("state").unwrap_or(true));
        let cache = reader.child("tcg").and_then(|tcg| tcg.child("tb-cache"));
        Self {
            present: true,
            acpi: reader.child("acpi").is_some(),
            apic: reader.child("apic").map(|apic| Apic { eoi: apic.on_off("eoi") }),
            pae: reader.child("pae").is_some(),
            hap: reader.child("hap").is_some(),
            viridian: reader.child("viridian").is_some(),
            privnet: reader.child("privnet").is_some(),
            hyperv: reader.child("hyperv").and_then(|hyperv| Hyperv::parse(&hyperv)),
            kvm: reader.child("kvm").and_then(|kvm| Kvm::parse(&kvm)),
            pvspinlock: state("pvspinlock"),
            pmu: state("pmu"),
            vmport: state("vmport"),
            smm: reader.child("smm").map(|smm| Smm::parse(&smm)),
            ioapic: reader.child("ioapic").and_then(|ioapic| ioapic.keyword("driver")),
            gic: reader.child("gic").map(|gic| Gic::parse(&gic)),
            vmcoreinfo: state("vmcoreinfo"),
            ps2: state("ps2"),
            translation_cache: cache.and_then(|cache| MemorySize::parse(&cache)),
            async_teardown: reader
                .child("async-teardown")
                .map(|r| r.yes_no("enabled") != Some(false)),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if !self.present {
            return;
        }
        let state = |w: &mut Writer, name, state: Option<bool>| {
            w.element(name).on_off("state", state).empty_if_any();
        };
        writer.element("features").children_if_any(|w| {
            if self.acpi {
                w.element("acpi").empty();
            }
            if let Some(apic) = self.apic {
                w.element("apic").on_off("eoi", apic.eoi).empty();
            }
            if self.pae {
                w.element("pae").empty();
            }
            for (name, present) in
                [("hap", self.hap), ("viridian", self.viridian), ("privnet", self.privnet)]
            {
                if present {
                    w.element(name).empty();
                }
            }
            if let Some(hyperv) = &self.hyperv {
                hyperv.write(w);
            }
            if let Some(kvm) = &self.kvm {
                kvm.write(w);
            }
            state(w, "pvspinlock", self.pvspinlock);
            state(w, "pmu", self.pmu);
            state(w, "vmport", self.vmport);
            if let Some(smm) = self.smm {
                smm.write(w);
            }
            w.element("ioapic").optional("driver", self.ioapic).empty_if_any();
            if let Some(gic) = self.gic {
                gic.write(w);
            }
            state(w, "vmcoreinfo", self.vmcoreinfo);
            if let Some(cache) = self.translation_cache {
                w.element("tcg").children(|w| cache.write("tb-cache", w));
            }
            w.element("async-teardown").yes_no("enabled", self.async_teardown).empty_if_any();
            state(w, "ps2", self.ps2);
        });
    }
}

impl Smm {
    fn parse(reader: &Reader<'_>) -> Self {
        let tseg = reader.child("tseg");
        let tseg = tseg.and_then(|tseg| MemorySize::parse_in(&tseg, "MiB"));
        if tseg.is_some_and(|size| !size.bytes().is_multiple_of(1 << 20)) {
            reader.refuse("<tseg> is no multiple of 1 MiB; change it");
        }
        Self { state: reader.on_off("state"), tseg }
    }

    fn write(self, w: &mut Writer) {
        w.element("smm").on_off("state", self.state).children(|w| {
            if let Some(size) = self.tseg {
                w.element("tseg").attribute("unit", "MiB").text(size.mebibytes());
            }
        });
    }
}
