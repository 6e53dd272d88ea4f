//! The live definitions of guests, as glassbox-qemu keeps them, and what a guest is to be instead.
//!
//! ```text
//!   live/NAME.xml     --read, edited--> wanted/NAME.xml --ReloadUnit--> glassbox-qemu --reload
//!   live/NAME.outcome <--------------------------------------------------/
//! ```
//!
//! Only the guest's unit changes a running guest: it opens what QEMU has no right to, and this daemon has no right to
//! either.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use domain::{Domain, DomainName, Faults, LARGEST_DEFINITION, UnitInstance};
use serde::Deserialize;

use crate::monitor::Face;

/// Where the live definitions are.
#[derive(Debug, Clone)]
pub(crate) enum LiveFiles {
    /// Those of the system's units, below `/run/glassbox`.
    System,
    /// Those of a user's units, in the guests' own folders below this one; none without a runtime directory.
    User(Option<PathBuf>),
}

/// What became of a reload; glassbox-qemu writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ReloadOutcome {
    /// What failed.
    pub(crate) failed: Vec<String>,
    /// What needs a restart of the guest.
    pub(crate) restart: Vec<String>,
}

/// Files of one guest.
#[derive(Debug)]
struct Paths {
    live: PathBuf,
    wanted: PathBuf,
    outcome: PathBuf,
}

impl LiveFiles {
    fn paths(&self, name: &DomainName) -> io::Result<Paths> {
        let directory = UnitInstance::from(name).directory();
        let (live, wanted) = match self {
            Self::System => {
                let path =
                    |folder| PathBuf::from(format!("/run/glassbox/{folder}/{directory}.xml"));
                (path("live"), path("wanted"))
            }
            Self::User(runtime) => {
                let missing = || io::Error::other("XDG_RUNTIME_DIR is not set");
                let folder = runtime.as_ref().ok_or_else(missing)?.join("guest").join(directory);
                (folder.join("live.xml"), folder.join("wanted.xml"))
            }
        };
        Ok(Paths { outcome: live.with_extension("outcome"), live, wanted })
    }

    /// The live definition of a guest, as glassbox-qemu goes by it.
    pub(crate) fn read(&self, name: &DomainName) -> io::Result<String> {
        bounded(self.paths(name)?.live)
    }

    /// Says what a guest is to be. It is removed when the result is dropped.
    pub(crate) fn want(&self, name: &DomainName, xml: &str) -> io::Result<Wanted> {
        let path = self.paths(name)?.wanted;
        // One that a daemon that died has left.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        let wanted = Wanted(path);
        file.write_all(xml.as_bytes())?;
        Ok(wanted)
    }

    /// What became of the last reload of a guest; nothing when it did not come to an end.
    pub(crate) fn outcome(&self, name: &DomainName) -> Option<ReloadOutcome> {
        let text = bounded(self.paths(name).ok()?.outcome).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// What a guest is to be, until this is dropped.
#[derive(Debug)]
pub(crate) struct Wanted(PathBuf);

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(
                "{}: {error}; the next reload of its guest goes by it",
                self.0.display()
            );
        }
    }
}

fn bounded(path: PathBuf) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(2 * LARGEST_DEFINITION as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// A live definition as it is shown: with the CPUs and the memory that the guest has now, and with passwords for who may
/// manage only. Nothing when it cannot be read.
pub(crate) fn shown(text: &str, face: Face, with_passwords: bool) -> Option<String> {
    let mut live = Domain::parse_running(text, &Faults::new())?;
    if face.vcpus > 0 {
        let count = face.vcpus;
        live.vcpus.current = (count < live.vcpus.maximum).then_some(count);
    }
    if face.memory > 0 {
        live.memory.current = Some(domain::MemorySize::from_bytes(face.memory));
    }
    if !with_passwords {
        live.devices.graphics.iter_mut().for_each(domain::devices::Graphics::forget_password);
    }
    Some(live.write())
}
