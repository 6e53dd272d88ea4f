//! Trusted platform modules, `<tpm>`.

use crate::fault::Place;
use crate::names::DomainUuid;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

mod backend;

pub use backend::{
    PcrBank, TpmBackend, TpmEmulator, TpmProfile, TpmRemoveDisabled, TpmStorage, TpmStorageType,
    TpmVersion,
};

crate::keywords! {
    /// How the guest sees the module.
    pub enum TpmModel {
        /// The interface of TPM 1.2, and of 2.0 too.
        Tis = "tpm-tis",
        /// The interface of TPM 2.0.
        Crb = "tpm-crb",
        /// POWER's.
        Spapr = "tpm-spapr",
        /// A proxy of POWER's.
        SpaprProxy = "spapr-tpm-proxy",
    }
}

/// A trusted platform module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// Where the element stands.
    pub place: Place,
    /// How the guest sees it.
    pub model: Option<TpmModel>,
    /// Where the module is.
    pub backend: TpmBackend,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Tpm {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let info = DeviceInfo::parse(reader);
        let model = reader.keyword("model");
        let Some(backend) = reader.child("backend") else {
            reader.refuse("<backend> is missing; add <backend type='emulator' version='2.0'/>");
            return None;
        };
        if matches!(model, Some(TpmModel::Spapr | TpmModel::SpaprProxy)) {
            reader.refuse_attribute("model", "no supported guest has it; use tpm-crb");
        }
        Some(Self { place: reader.place(), model, backend: TpmBackend::parse(&backend)?, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("tpm").optional("model", self.model).children(|w| {
            self.backend.write(w);
            self.info.write(w);
        });
    }
}

/// The UUID of the secret that an element names.
fn secret(reader: &Reader<'_>) -> Option<DomainUuid> {
    let text = reader.required("secret", "32ee7e76-2178-47a1-ab7b-269e6e348015")?;
    match DomainUuid::try_from(text) {
        Ok(uuid) => Some(uuid),
        Err(error) => {
            reader.refuse_attribute("secret", error);
            None
        }
    }
}
