//! The head of a domain's document: what must hold before anything else in it is worth reading.
//!
//! The generator reads no more than this at boot, and the shim reads it first, so that both say the same of a
//! document that is no domain, has no name or has a name that cannot be. It reports nothing as ignored: what
//! the rest of the document means is not its business.

use crate::fault::{Fault, Faults};
use crate::names::{DomainName, DomainUuid};
use crate::reader::Keyword;
use crate::tree::Element;

crate::keywords! {
    /// Who runs the guest's instructions, `type` of `<domain>`.
    ///
    /// Libvirt knows more words (`xen`, `lxc`, `hvf` and others); these are the ones that QEMU runs on Linux.
    pub enum DomainType {
        /// The processor itself, through Linux's KVM.
        Kvm = "kvm",
        /// QEMU, in software.
        Qemu = "qemu",
    }
}

/// The head of a document, <https://libvirt.org/formatdomain.html#general-metadata>.
///
/// A part is `None` when the document lacks it or when it is refused; the faults tell which.
///
/// ```
/// use domain::{Faults, Header, tree};
/// let root = tree::parse("<domain type='kvm'><name>web</name></domain>").unwrap();
/// let faults = Faults::new();
/// let header = Header::read(&root, &faults);
/// assert_eq!(header.name.unwrap().as_str(), "web");
/// assert!(faults.into_sorted().is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// `type`.
    pub kind: Option<DomainType>,
    /// `<name>`.
    pub name: Option<DomainName>,
    /// `<uuid>`.
    pub uuid: Option<DomainUuid>,
    /// `<title>`, any text.
    pub title: Option<String>,
}

impl Header {
    /// The head of the document with this root; what is wrong with it goes to `faults`.
    #[must_use]
    pub fn read(root: &Element<'_>, faults: &Faults) -> Self {
        if !Self::is_domain(root) {
            let what = match &root.namespace {
                Some(namespace) => format!(
                    "the root element is in the namespace '{namespace}'; remove the declaration"
                ),
                None => format!("the root element is <{}>; give a <domain>", root.qualified),
            };
            faults.push(Fault::refused(root.position, &format!("/{}", root.qualified), what));
            return Self::default();
        }
        Self {
            kind: kind(root, faults),
            name: name(root, faults),
            uuid: uuid(root, faults),
            title: child(root, "title").map(|title| title.text().into_owned()),
        }
    }

    /// Whether the document is a domain at all.
    pub(crate) fn is_domain(root: &Element<'_>) -> bool {
        root.name == "domain" && root.namespace.is_none()
    }

    /// The fault of a document that is kept under another name than its own.
    ///
    /// A guest is found by its file's name, so a `<name>` that differs would claim another guest's name.
    #[must_use]
    pub fn misfiled(&self, root: &Element<'_>, file: &DomainName) -> Option<Fault> {
        let name = self.name.as_ref().filter(|name| *name != file)?;
        let what = format!(
            "the name is '{name}' but the file is '{file}.xml'; rename the file or change the name"
        );
        Some(Fault::refused(child(root, "name")?.position, "/domain/name", what))
    }
}

fn kind(root: &Element<'_>, faults: &Faults) -> Option<DomainType> {
    let Some(attribute) = root.attributes.iter().find(|attribute| attribute.name == "type") else {
        let what = "attribute 'type' is missing; give one such as type='kvm'";
        faults.push(Fault::refused(root.position, "/domain", what));
        return None;
    };
    let kind = DomainType::from_word(&attribute.value);
    if kind.is_none() {
        let what = format!("attribute 'type': {}", DomainType::expected_one_of(&attribute.value));
        faults.push(Fault::refused(attribute.position, "/domain", what));
    }
    kind
}

fn name(root: &Element<'_>, faults: &Faults) -> Option<DomainName> {
    let Some(element) = child(root, "name") else {
        let what = "<name> is missing; add one such as <name>web</name>";
        faults.push(Fault::refused(root.position, "/domain", what));
        return None;
    };
    DomainName::try_from(element.text().as_ref())
        .map_err(|error| {
            faults.push(Fault::refused(element.position, "/domain/name", error.to_string()));
        })
        .ok()
}

fn uuid(root: &Element<'_>, faults: &Faults) -> Option<DomainUuid> {
    let element = child(root, "uuid")?;
    DomainUuid::try_from(element.text().as_ref())
        .map_err(|error| {
            faults.push(Fault::refused(element.position, "/domain/uuid", error.to_string()));
        })
        .ok()
}

fn child<'e, 'x>(root: &'e Element<'x>, name: &str) -> Option<&'e Element<'x>> {
    root.elements().find(|element| element.name == name && element.namespace.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let root = crate::tree::parse(text).unwrap();
        let faults = Faults::new();
        let header = Header::read(&root, &faults);
        if let Some(fault) = header.misfiled(&root, &DomainName::try_from("web").unwrap()) {
            faults.push(fault);
        }
        faults.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_head_is_read_whole() {
        let text = "<domain type='qemu'><name> web </name><title>The shop</title>\
                    <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid></domain>";
        let header = Header::read(&crate::tree::parse(text).unwrap(), &Faults::new());
        assert_eq!(header.kind, Some(DomainType::Qemu));
        assert_eq!(header.name.unwrap().as_str(), "web");
        assert_eq!(header.uuid.unwrap().to_string(), "c7a5fdbd-edaf-9455-926a-d65c16db1809");
        assert_eq!(header.title.as_deref(), Some("The shop"));
        assert!(messages(text).is_empty());
    }

    #[test]
    fn each_fault_has_its_place() {
        for (text, expected) in [
            ("<network/>", &["1:1: /network: the root element is <network>; give a <domain>"][..]),
            (
                "<q:domain xmlns:q='urn:x'/>",
                &[
                    "1:1: /q:domain: the root element is in the namespace 'urn:x'; remove the declaration",
                ],
            ),
            (
                "<domain/>",
                &[
                    "1:1: /domain: attribute 'type' is missing; give one such as type='kvm'",
                    "1:1: /domain: <name> is missing; add one such as <name>web</name>",
                ],
            ),
            (
                "<domain type='xen'>\n <name>a/b</name>\n <uuid>1</uuid></domain>",
                &[
                    "1:9: /domain: attribute 'type': 'xen' is not known; use one of kvm, qemu",
                    "2:2: /domain/name: the name contains '/'; use letters, digits, '-', '_', '.' or spaces",
                    "3:2: /domain/uuid: \"1\" is not a UUID; give 32 hexadecimal digits such as 'c7a5fdbd-edaf-9455-926a-d65c16db1809'",
                ],
            ),
            (
                "<domain type='kvm'><name>db</name></domain>",
                &[
                    "1:20: /domain/name: the name is 'db' but the file is 'web.xml'; rename the file or change the name",
                ],
            ),
        ] {
            assert_eq!(messages(text), expected, "{text}");
        }
    }
}
