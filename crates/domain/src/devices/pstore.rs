//! Storage that survives a crash, `<pstore>`.

use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// How the guest sees the storage.
    pub enum PstoreBackend {
        /// ACPI's error record serialization.
        AcpiErst = "acpi-erst",
    }
}

/// Storage that survives a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pstore {
    /// Where the element stands.
    pub place: Place,
    /// How the guest sees it.
    pub backend: PstoreBackend,
    /// The file that has it.
    pub path: Option<String>,
    /// How large it is.
    pub size: MemorySize,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Pstore {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("backend", "acpi-erst"); // The keyword itself is read below.
        let path = reader.child("path").map(|path| path.text().into_owned());
        let Some(size) = reader.child("size") else {
            reader.refuse("<size> is missing; add <size unit='KiB'>64</size>");
            return None;
        };
        let size = MemorySize::parse(&size);
        let info = DeviceInfo::parse(reader);
        let backend = reader.keyword("backend")?;
        Some(Self { place: reader.place(), backend, path, size: size?, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("pstore").attribute("backend", self.backend).children(|w| {
            if let Some(path) = &self.path {
                w.element("path").text(path);
            }
            w.element("size").attribute("unit", "KiB").text(self.size.bytes() >> 10);
            self.info.write(w);
        });
    }
}
