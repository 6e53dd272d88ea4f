//! Where a trusted platform module is, `<backend>`.

use crate::names::DomainUuid;
use crate::reader::{Keyword, Reader};
use crate::writer::Writer;

use super::super::{SocketMode, UnixSocket};

crate::keywords! {
    /// Kinds of modules.
    pub(crate) enum TpmBackendType {
        /// The host's.
        Passthrough = "passthrough",
        /// A program of the guest's own, swtpm.
        Emulator = "emulator",
        /// A program that somebody else starts.
        External = "external",
    }
}

crate::keywords! {
    /// Versions of the standard.
    pub enum TpmVersion {
        /// 1.2.
        V1_2 = "1.2",
        /// 2.0.
        V2_0 = "2.0",
    }
}

crate::keywords! {
    /// Banks of a module's registers.
    pub enum PcrBank {
        /// SHA-1.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-384.
        Sha384 = "sha384",
        /// SHA-512.
        Sha512 = "sha512",
    }
}

crate::keywords! {
    /// What a module's state is kept in.
    pub enum TpmStorageType {
        /// A file.
        File = "file",
        /// A folder.
        Dir = "dir",
    }
}

crate::attributes! {
    /// Where an emulator's state is kept.
    pub struct TpmStorage {
        /// What it is.
        pub kind: TpmStorageType = keyword "type",
        /// Its path.
        pub path: String = string "path",
    }
}

crate::keywords! {
    /// What becomes of algorithms of a profile that the host forbids.
    pub enum TpmRemoveDisabled {
        /// They are tried and removed.
        Check = "check",
        /// Those that FIPS forbids are removed.
        FipsHost = "fips-host",
    }
}

crate::attributes! {
    /// The algorithms that a new module has.
    pub struct TpmProfile {
        /// The profile that it is made of.
        pub source: String = string "source",
        /// What becomes of algorithms that the host forbids.
        pub remove_disabled: TpmRemoveDisabled = keyword "removeDisabled",
        /// The profile's name.
        pub name: String = string "name",
    }
}

/// A program of the guest's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TpmEmulator {
    /// The version of the standard.
    pub version: Option<TpmVersion>,
    /// Whether state outlives a guest that is defined no longer.
    pub persistent_state: Option<bool>,
    /// How much the emulator logs.
    pub debug: Option<u32>,
    /// The secret with which the state is encrypted.
    pub secret: Option<DomainUuid>,
    /// Banks that are in use.
    pub banks: Option<Vec<PcrBank>>,
    /// Where the state is kept.
    pub storage: Option<TpmStorage>,
    /// The algorithms of a new module.
    pub profile: Option<TpmProfile>,
}

/// Where a module is, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmBackend {
    /// The host's module with this device; none is `/dev/tpm0`.
    Passthrough(Option<String>),
    /// A program of the guest's own.
    Emulator(TpmEmulator),
    /// A program that listens on this socket.
    External(UnixSocket),
}

impl TpmBackend {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "emulator"); // The keyword itself is read next.
        match reader.keyword("type")? {
            TpmBackendType::Passthrough => {
                let device = reader.child("device");
                Some(Self::Passthrough(device.and_then(|device| device.string("path"))))
            }
            TpmBackendType::Emulator => Some(Self::Emulator(TpmEmulator::parse(reader))),
            TpmBackendType::External => external(reader),
        }
    }

    fn kind(&self) -> TpmBackendType {
        match self {
            Self::Passthrough(_) => TpmBackendType::Passthrough,
            Self::Emulator(_) => TpmBackendType::Emulator,
            Self::External(_) => TpmBackendType::External,
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let element = writer.element("backend").attribute("type", self.kind());
        match self {
            Self::Passthrough(device) => element
                .children(|w| w.element("device").optional("path", device.as_ref()).empty_if_any()),
            Self::Emulator(emulator) => element
                .optional("version", emulator.version)
                .yes_no("persistent_state", emulator.persistent_state.filter(|yes| *yes))
                .optional("debug", emulator.debug)
                .children(|w| emulator.write(w)),
            Self::External(socket) => element.children(|w| {
                w.element("source")
                    .attribute("type", "unix")
                    .optional("mode", socket.mode)
                    .optional("path", socket.path.as_ref())
                    .empty();
            }),
        }
    }
}

fn external(reader: &Reader<'_>) -> Option<TpmBackend> {
    let Some(source) = reader.child("source") else {
        reader.refuse("<source> is missing; add <source type='unix' mode='connect' path='...'/>");
        return None;
    };
    if source.attribute("type").is_some_and(|kind| kind != "unix") {
        source.refuse_attribute("type", "an external module is behind a socket; use 'unix'");
    }
    let mode: Option<SocketMode> = source.keyword("mode");
    if mode == Some(SocketMode::Bind) {
        source.refuse_attribute("mode", "the module listens and QEMU connects; use 'connect'");
    }
    let path = source.required("path", "/run/swtpm.sock")?.to_owned();
    let mode = Some(mode.unwrap_or(SocketMode::Connect));
    Some(TpmBackend::External(UnixSocket { mode, path: Some(path), reconnect: None }))
}

impl TpmEmulator {
    fn parse(reader: &Reader<'_>) -> Self {
        let child = |name: &str| reader.child(name);
        let version = reader.attribute("version").filter(|version| *version != "default");
        let emulator = Self {
            version: version.and_then(|_| reader.keyword("version")),
            persistent_state: reader.yes_no("persistent_state"),
            debug: reader.number("debug"),
            secret: child("encryption").and_then(|encryption| super::secret(&encryption)),
            banks: child("active_pcr_banks").map(|banks| banks_of(&banks)),
            storage: child("source").map(|source| TpmStorage::parse(&source)),
            profile: child("profile").map(|profile| TpmProfile::parse(&profile)),
        };
        let old = emulator.version == Some(TpmVersion::V1_2);
        if old && (emulator.banks.is_some() || emulator.profile.is_some()) {
            let what = "TPM 1.2 has neither banks nor profiles; use version='2.0' or remove them";
            reader.refuse(what);
        }
        emulator
    }

    fn write(&self, w: &mut Writer) {
        w.element("encryption").optional("secret", self.secret).empty_if_any();
        if let Some(banks) = &self.banks {
            w.element("active_pcr_banks")
                .children(|w| banks.iter().for_each(|bank| w.element(bank.as_str()).empty()));
        }
        if let Some(storage) = &self.storage {
            storage.write("source", w);
        }
        if let Some(profile) = &self.profile {
            profile.write("profile", w);
        }
    }
}

fn banks_of(reader: &Reader<'_>) -> Vec<PcrBank> {
    let present = |name: &str| reader.child(name).is_some();
    PcrBank::ALL.iter().filter(|(_, word)| present(word)).map(|(bank, _)| *bank).collect()
}
