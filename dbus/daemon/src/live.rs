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
use std::path::{Path, PathBuf};

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

    /// Removes what a daemon that died wanted guests to be, before this one wants something: it would count, and not
    /// the definitions, with each reload of their units.
    pub(crate) fn want_nothing(&self) -> io::Result<()> {
        let paths: Vec<PathBuf> = match self {
            Self::System => entries(Path::new("/run/glassbox/wanted"))?,
            Self::User(None) => Vec::new(),
            Self::User(Some(runtime)) => {
                let folders = entries(&runtime.join("guest"))?;
                folders.into_iter().map(|folder| folder.join("wanted.xml")).collect()
            }
        };
        paths.iter().try_for_each(|path| removed(path))
    }

    /// Says what a guest is to be. It is removed when the result is dropped.
    pub(crate) fn want(&self, name: &DomainName, xml: &str) -> io::Result<Wanted> {
        let path = self.paths(name)?.wanted;
        removed(&path)?;
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

/// What is in a folder; nothing when there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
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
        // The balloon counts modules of memory, too, which <memory> may leave out.
        let current = domain::MemorySize::from_bytes(face.memory);
        live.memory.current = Some(live.memory.size.map_or(current, |size| current.min(size)));
    }
    if !with_passwords {
        live.devices.graphics.iter_mut().for_each(domain::devices::Graphics::forget_password);
    }
    Some(live.write())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wanted_after_a_daemon_that_died() {
        let folder = tempfile::tempdir().unwrap();
        let files = LiveFiles::User(Some(folder.path().to_owned()));
        files.want_nothing().unwrap();
        let name: DomainName = "web".parse().unwrap();
        let guest = folder.path().join("guest").join("web");
        fs::create_dir_all(&guest).unwrap();
        fs::write(guest.join("live.xml"), "<a/>").unwrap();
        std::mem::forget(files.want(&name, "<b/>").unwrap());
        files.want_nothing().unwrap();
        let left: Vec<_> = entries(&guest).unwrap();
        assert_eq!(left, [guest.join("live.xml")]);
    }
}
