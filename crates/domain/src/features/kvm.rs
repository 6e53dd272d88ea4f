//! What KVM shows of itself, `<features><kvm>`.

use crate::reader::Reader;
use crate::writer::Writer;

/// Pages that the host notes as written, in rings instead of bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyRing {
    /// Whether rings are used.
    pub state: bool,
    /// How many pages a ring notes, a power of 2 from 1024 to 65536.
    pub size: Option<u32>,
}

/// Features of KVM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kvm {
    /// Whether the guest cannot see that it runs on KVM.
    pub hidden: Option<bool>,
    /// Whether each virtual CPU has a CPU of the host for itself.
    pub hint_dedicated: Option<bool>,
    /// Whether the guest decides when the host waits for its CPUs.
    pub poll_control: Option<bool>,
    /// Whether interrupts between CPUs are paravirtual.
    pub pv_ipi: Option<bool>,
    /// How written pages are noted.
    pub dirty_ring: Option<DirtyRing>,
}

impl Kvm {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let state = |name: &str| reader.child(name).and_then(|child| child.on_off("state"));
        let kvm = Self {
            hidden: state("hidden"),
            hint_dedicated: state("hint-dedicated"),
            poll_control: state("poll-control"),
            pv_ipi: state("pv-ipi"),
            dirty_ring: reader.child("dirty-ring").and_then(|ring| DirtyRing::parse(&ring)),
        };
        for child in reader.unread_children() {
            child.refuse_unsupported(); // A guest must not start without what it was promised.
        }
        Some(kvm)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("kvm").children(|w| {
            for (name, state) in [
                ("hidden", self.hidden),
                ("hint-dedicated", self.hint_dedicated),
                ("poll-control", self.poll_control),
                ("pv-ipi", self.pv_ipi),
            ] {
                w.element(name).on_off("state", state).empty_if_any();
            }
            if let Some(ring) = self.dirty_ring {
                let element = w.element("dirty-ring").on_off("state", Some(ring.state));
                element.optional("size", ring.size).empty();
            }
        });
    }
}

impl DirtyRing {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("state", "on"); // The keyword itself is read last.
        let size: Option<u32> = reader.number("size");
        let state = reader.on_off("state")?;
        let fits = |size: u32| size.is_power_of_two() && (1024..=65_536).contains(&size);
        if state && !size.is_some_and(fits) {
            reader.refuse("attribute 'size' must be a power of 2 from 1024 to 65536");
        }
        Some(Self { state, size })
    }
}
