//! Who a guest is: what stands before all that says how it is built.

use crate::names::{DomainName, DomainUuid};
use crate::reader::Reader;

crate::keywords! {
    /// The hypervisor of a domain.
    pub enum DomainType {
        /// QEMU with emulated CPUs.
        Qemu = "qemu",
        /// QEMU with KVM.
        Kvm = "kvm",
        /// QEMU with the framework of macOS.
        Hvf = "hvf",
        /// Containers.
        Lxc = "lxc",
    }
}

/// Who a guest is. Reading it costs a fraction of reading the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The hypervisor.
    pub kind: DomainType,
    /// The name.
    pub name: DomainName,
    /// The UUID.
    pub uuid: Option<DomainUuid>,
    /// A short description.
    pub title: Option<String>,
    /// A long description.
    pub description: Option<String>,
}

impl Header {
    /// Reads the header from a reader of the root. A caller that reads nothing else calls [`Reader::raw`]
    /// afterwards, so that the rest is not reported as unknown.
    #[must_use]
    pub fn parse(root: &Reader<'_>) -> Option<Self> {
        if !Self::is_domain(root) {
            let _ = root.raw(); // One message is enough for a document of another kind.
            root.refuse(format!(
                "the root element is <{}>; a guest's definition starts with <domain type='kvm'>",
                root.name()
            ));
            return None;
        }
        let _ = root.required("type", "kvm"); // The keyword itself is read below.
        let uuid = root.child("uuid").and_then(|uuid| uuid.text_value());
        let text = |name: &str| root.child(name).map(|child| child.text().into_owned());
        let (title, description) = (text("title"), text("description"));
        let kind = root.keyword("type");
        let Some(name) = root.child("name") else {
            root.refuse("<name> is missing; add one such as <name>web</name>");
            return None;
        };
        Some(Self { name: name.text_value()?, kind: kind?, uuid, title, description })
    }

    /// Whether the document is a domain at all.
    pub(crate) fn is_domain(root: &Reader<'_>) -> bool {
        root.name() == "domain"
    }
}
