//! The interrupt controller of ARM, `<gic>`.

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// Which generation of the controller the guest has.
    pub enum GicVersion {
        /// The second, for up to eight CPUs.
        V2 = "2",
        /// The third.
        V3 = "3",
        /// The host's, under KVM.
        Host = "host",
    }
}

/// The interrupt controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gic {
    /// Its generation.
    pub version: Option<GicVersion>,
}

impl Gic {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        Self { version: reader.keyword("version") }
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.element("gic").optional("version", self.version).empty();
    }
}
