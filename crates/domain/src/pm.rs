//! Which sleep states firmware offers, `<pm>`.

use crate::reader::Reader;
use crate::writer::Writer;

/// Which sleep states firmware offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PowerManagement {
    /// Suspend to memory, S3.
    pub suspend_to_mem: Option<bool>,
    /// Suspend to disk, S4.
    pub suspend_to_disk: Option<bool>,
}

impl PowerManagement {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let enabled = |name: &str| reader.child(name).and_then(|r| r.yes_no("enabled"));
        Self {
            suspend_to_mem: enabled("suspend-to-mem"),
            suspend_to_disk: enabled("suspend-to-disk"),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("pm").children_if_any(|w| {
            w.element("suspend-to-mem").yes_no("enabled", self.suspend_to_mem).empty_if_any();
            w.element("suspend-to-disk").yes_no("enabled", self.suspend_to_disk).empty_if_any();
        });
    }
}
