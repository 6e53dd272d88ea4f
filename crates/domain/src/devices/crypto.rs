//! Cryptographic accelerators, `<crypto>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// Models of accelerators.
    pub(crate) enum CryptoModel {
        /// virtio.
        Virtio = "virtio",
    }
}

crate::keywords! {
    /// Who plays accelerators.
    pub(crate) enum CryptoType {
        /// QEMU.
        Qemu = "qemu",
    }
}

crate::keywords! {
    /// What computes.
    pub enum CryptoBackend {
        /// QEMU itself.
        Builtin = "builtin",
        /// Linux.
        Lkcf = "lkcf",
    }
}

/// A cryptographic accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Where the element stands.
    pub place: Place,
    /// What computes.
    pub backend: CryptoBackend,
    /// How many queues there are.
    pub queues: Option<u32>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Crypto {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = (reader.required("model", "virtio"), reader.required("type", "qemu")); // Read next.
        let words: (Option<CryptoModel>, Option<CryptoType>) =
            (reader.keyword("model"), reader.keyword("type"));
        let driver = reader.child("driver");
        let info = DeviceInfo::parse(reader);
        let Some(backend) = reader.child("backend") else {
            reader.refuse("<backend> is missing; add <backend model='builtin'/>");
            return None;
        };
        let _ = backend.required("model", "builtin"); // The keyword itself is read below.
        let queues: Option<u32> = backend.number("queues");
        if queues == Some(0) {
            backend.refuse_attribute("queues", "0 is too few; give a number from 1");
        }
        let backend = backend.keyword("model")?;
        if words.0.is_none() || words.1.is_none() {
            return None;
        }
        Some(Self {
            place: reader.place(),
            backend,
            queues,
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("crypto")
            .attribute("model", CryptoModel::Virtio)
            .attribute("type", CryptoType::Qemu)
            .children(|w| {
                w.element("backend")
                    .attribute("model", self.backend)
                    .optional("queues", self.queues)
                    .empty();
                self.virtio.write("driver", w);
                self.info.write(w);
            });
    }
}
