//! Sources of randomness, `<rng>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo, VirtioModel, VirtioOptions};

crate::keywords! {
    /// Where randomness comes from.
    pub enum RngBackend {
        /// A file of the host.
        Random = "random",
        /// An entropy-gathering daemon.
        Egd = "egd",
        /// QEMU itself.
        Builtin = "builtin",
    }
}

crate::attributes! {
    /// How much the guest can take.
    pub struct RngRate {
        /// Bytes of a period.
        pub bytes: u64 = number "bytes",
        /// Milliseconds of a period.
        pub period: u64 = number "period",
    }
}

/// A source of randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    /// Where the element stands.
    pub place: Place,
    /// The virtio interface.
    pub model: VirtioModel,
    /// How much the guest can take.
    pub rate: RngRate,
    /// Where randomness comes from.
    pub backend: RngBackend,
    /// The file of a `random` backend.
    pub file: Option<String>,
    /// The way to the daemon of an `egd` backend.
    pub chardev: Option<Chardev>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Rng {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("model", "virtio"); // The keyword itself is read below.
        let driver = reader.child("driver");
        let rate = reader.child("rate");
        let info = DeviceInfo::parse(reader);
        let model = reader.keyword("model");
        let Some(source) = reader.child("backend") else {
            reader
                .refuse("<backend> is missing; add <backend model='random'>/dev/urandom</backend>");
            return None;
        };
        let _ = source.required("model", "random"); // The keyword itself is read next.
        let backend = source.keyword("model")?;
        let (file, chardev) = match backend {
            RngBackend::Random => (source.text().into_owned(), None),
            RngBackend::Egd => (String::new(), Some(Chardev::parse(&source)?)),
            RngBackend::Builtin => (String::new(), None),
        };
        Some(Self {
            place: reader.place(),
            rate: rate.map(|rate| RngRate::parse(&rate)).unwrap_or_default(),
            backend,
            file: (!file.is_empty()).then_some(file),
            chardev,
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info,
            model: model?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("rng").attribute("model", self.model).children(|w| {
            self.rate.write("rate", w);
            let backend = w.element("backend").attribute("model", self.backend);
            match (&self.file, &self.chardev) {
                (Some(file), _) => backend.text(file),
                (None, Some(chardev)) => {
                    chardev.write_type(backend).children(|w| chardev.write(w));
                }
                (None, None) => backend.empty(),
            }
            self.virtio.write("driver", w);
            self.info.write(w);
        });
    }
}
