//! Enlightenments for Windows guests, `<features><hyperv>`.

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// Which enlightenments the guest sees.
    pub enum HypervMode {
        /// Those that are named.
        Custom = "custom",
        /// All that the host has.
        Passthrough = "passthrough",
    }
}

crate::keywords! {
    /// An enlightenment, see Microsoft's "Hypervisor Top Level Functional Specification".
    pub enum HypervFeature {
        /// Watchdogs are patient.
        Relaxed = "relaxed",
        /// Paravirtual interrupt controller.
        Vapic = "vapic",
        /// Waiting for spinlocks is told to the host.
        Spinlocks = "spinlocks",
        /// The index of a virtual CPU can be read.
        Vpindex = "vpindex",
        /// The time a virtual CPU ran can be read.
        Runtime = "runtime",
        /// Synthetic interrupt controller.
        Synic = "synic",
        /// Synthetic timers.
        Stimer = "stimer",
        /// Reset by register.
        Reset = "reset",
        /// The name of the hypervisor's vendor.
        VendorId = "vendor_id",
        /// Frequencies can be read.
        Frequencies = "frequencies",
        /// Notice of migration.
        Reenlightenment = "reenlightenment",
        /// Flushing other CPUs' TLB.
        Tlbflush = "tlbflush",
        /// Interrupts to many CPUs.
        Ipi = "ipi",
        /// Enlightened VMCS.
        Evmcs = "evmcs",
        /// Interrupt controller by hardware.
        Avic = "avic",
        /// Enlightened bitmap of registers.
        EmsrBitmap = "emsr_bitmap",
        /// Input of calls in XMM registers.
        XmmInput = "xmm_input",
    }
}

/// An enlightenment and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HypervSetting {
    /// Which.
    pub feature: HypervFeature,
    /// Whether it is on.
    pub state: bool,
    /// After how many tries waiting for a spinlock is told.
    pub retries: Option<u32>,
    /// The vendor's name, up to 12 characters.
    pub value: Option<String>,
    /// Whether timers raise interrupts directly, or other guests' TLB can be flushed.
    pub direct: Option<bool>,
    /// Whether ranges of addresses can be flushed.
    pub extended: Option<bool>,
}

/// Hyper-V features shown to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hyperv {
    /// Which enlightenments the guest sees; those that are named, without a mode.
    pub mode: Option<HypervMode>,
    /// The settings, in the order of [`HypervFeature`].
    pub settings: Vec<HypervSetting>,
}

/// Fewest tries that can be told to the guest.
const FEWEST_RETRIES: u32 = 4095;

impl Hyperv {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let features = <HypervFeature as crate::Keyword>::ALL;
        let mut settings = Vec::new();
        for (feature, name) in features {
            let Some(child) = reader.child(name) else { continue };
            settings.extend(HypervSetting::parse(&child, *feature));
        }
        for child in reader.unread_children() {
            child.refuse_unsupported(); // A guest must not start without what it was promised.
        }
        Some(Self { mode: reader.keyword("mode"), settings })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("hyperv")
            .optional("mode", self.mode)
            .children(|w| self.settings.iter().for_each(|setting| setting.write(w)));
    }
}

impl HypervSetting {
    fn parse(reader: &Reader<'_>, feature: HypervFeature) -> Option<Self> {
        let _ = reader.required("state", "on"); // The keyword itself is read last.
        let flag = |name: &str| reader.child(name).and_then(|child| child.on_off("state"));
        let has_direct = matches!(feature, HypervFeature::Stimer | HypervFeature::Tlbflush);
        let retries = (feature == HypervFeature::Spinlocks).then(|| reader.number("retries"));
        let value = (feature == HypervFeature::VendorId).then(|| reader.string("value"));
        let setting = Self {
            feature,
            retries: retries.flatten(),
            value: value.flatten(),
            direct: if has_direct { flag("direct") } else { None },
            extended: if feature == HypervFeature::Tlbflush { flag("extended") } else { None },
            state: reader.on_off("state")?,
        };
        if feature == HypervFeature::Spinlocks && setting.state {
            match setting.retries {
                Some(retries) if retries >= FEWEST_RETRIES => {}
                _ => reader.refuse(format!("attribute 'retries' must be {FEWEST_RETRIES} or more")),
            }
        }
        if feature == HypervFeature::VendorId && setting.state {
            let fits = |value: &String| value.len() <= 12 && !value.contains(',');
            if !setting.value.as_ref().is_some_and(fits) {
                reader.refuse("attribute 'value' must have up to 12 characters and no comma");
            }
        }
        Some(setting)
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element(self.feature.as_str())
            .on_off("state", Some(self.state))
            .optional("retries", self.retries)
            .optional("value", self.value.as_ref())
            .children(|w| {
                w.element("direct").on_off("state", self.direct).empty_if_any();
                w.element("extended").on_off("state", self.extended).empty_if_any();
            });
    }
}
