//! What the command line gives instead of the definition's own.

use domain::tree::Element;
use domain::{DomainName, DomainUuid};

/// Each counts instead of the element of that name, which may be missing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) name: Option<DomainName>,
    pub(crate) uuid: Option<DomainUuid>,
}

impl Overrides {
    /// Changes the document before it is read, so that all that follows from a name or UUID follows from these.
    pub(crate) fn apply(&self, root: &mut Element<'_>) {
        if let Some(name) = &self.name {
            root.set_text("name", name.to_string());
        }
        if let Some(uuid) = &self.uuid {
            root.set_text("uuid", uuid.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Faults, Header, tree};

    #[test]
    fn they_count_whether_the_document_has_them_or_not() {
        let uuid: DomainUuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap();
        let overrides =
            Overrides { name: Some(DomainName::try_from("new").unwrap()), uuid: Some(uuid) };
        for text in [
            "<domain type='qemu'/>",
            "<domain type='qemu'><uuid>none</uuid><name>old<!-- one --></name></domain>",
        ] {
            let mut root = tree::parse(text).unwrap();
            overrides.apply(&mut root);
            let faults = Faults::new();
            let header = Header::read(&root, &faults);
            assert_eq!((header.name.unwrap().as_str(), header.uuid), ("new", Some(uuid)));
            assert!(faults.into_sorted().is_empty(), "{text}");
        }
    }
}
