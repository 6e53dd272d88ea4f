//! Locks of a lock manager, `<lease>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::attributes! {
    /// Where a lock lies.
    pub struct LeaseTarget {
        /// The file.
        pub path: String = string "path",
        /// The place in the file, in bytes.
        pub offset: u64 = number "offset",
    }
}

/// A lock that the guest holds while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Where the element stands.
    pub place: Place,
    /// The names among which the key is one.
    pub lockspace: Option<String>,
    /// The lock's name.
    pub key: String,
    /// Where it lies.
    pub target: LeaseTarget,
}

impl Lease {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let text = |name: &str| reader.child(name).map(|child| child.text().into_owned());
        let (lockspace, key) = (text("lockspace"), text("key"));
        let target = reader.child("target").map(|target| LeaseTarget::parse(&target));
        if key.is_none() {
            reader.refuse("<key> is missing; add one such as <key>web</key>");
        }
        if target.as_ref().is_none_or(|target| target.path.is_none()) {
            reader.refuse("<target> has no path; add one such as <target path='/srv/leases'/>");
        }
        Some(Self { place: reader.place(), lockspace, key: key?, target: target? })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("lease").children(|w| {
            if let Some(lockspace) = &self.lockspace {
                w.element("lockspace").text(lockspace);
            }
            w.element("key").text(&self.key);
            self.target.write("target", w);
        });
    }
}
