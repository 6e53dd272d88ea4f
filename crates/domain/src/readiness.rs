//! `<glassbox:ready>` in `<metadata>`: the guest itself says when it is ready.
//!
//! Libvirt has no element for it, and keeps what stands in `<metadata>` for those who wrote it.

use crate::fault::Place;
use crate::reader::Reader;

/// The namespace of Glassbox's own elements in `<metadata>`.
pub const GLASSBOX_NAMESPACE: &str = "https://glassbox.org/xmlns/domain/1";

/// How long a guest may take where nobody said, in seconds: systemd's own default for a service.
const DEFAULT_TIMEOUT: u32 = 90;

crate::keywords! {
    /// Over what a guest says that it is ready.
    pub enum ReadinessChannel {
        /// A port of a virtio serial controller.
        VirtioSerial = "virtio-serial",
        /// A socket between guest and host.
        Vsock = "vsock",
    }
}

/// A guest that counts as started when it said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Where the element stands.
    pub place: Place,
    /// Over what it says so.
    pub channel: ReadinessChannel,
    /// How long it may take after its CPUs run, in seconds.
    pub timeout: u32,
}

impl Readiness {
    /// Reads what is Glassbox's in `<metadata>`.
    pub(crate) fn parse(metadata: &Reader<'_>) -> Option<Self> {
        let elements = metadata.raw().elements();
        let ours =
            elements.filter(|element| element.namespace.as_deref() == Some(GLASSBOX_NAMESPACE));
        for name in ours.map(|element| element.name).filter(|name| *name != "ready") {
            for unknown in metadata.children_in(GLASSBOX_NAMESPACE, name) {
                unknown.ignore("it is not known; only <ready> is");
            }
        }
        let mut found = metadata.children_in(GLASSBOX_NAMESPACE, "ready").into_iter();
        let ready = found.next()?;
        for other in found {
            other.ignore("it stands here once too often; the first counts, remove this one");
        }
        let _ = ready.required("channel", "virtio-serial"); // The keyword itself is read next.
        let channel = ready.keyword("channel");
        let timeout = ready.number("timeout").unwrap_or(DEFAULT_TIMEOUT);
        if timeout == 0 {
            ready
                .refuse_attribute("timeout", "no guest is ready at once; give a number of seconds");
        }
        Some(Self { place: ready.place(), channel: channel?, timeout })
    }
}
