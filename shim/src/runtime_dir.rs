//! The guest's runtime directory: where its sockets and the links to its consoles are.
//!
//! systemd makes it for a unit (`RuntimeDirectory=`) and removes it; elsewhere the shim does both. A lock in it
//! says that a shim lives there: two guests of one name do not share a directory even where no daemon is.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use domain::UnitInstance;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

/// Where the directories of guests are that systemd made none for. It removes those of units below
/// `glassbox/guest`, also of a unit whose start was refused because a guest of its name runs already.
const SPAWNED: &str = "glassbox/spawned";

/// The directory of one guest, held until it is dropped. Dropping removes what is in it, and the directory
/// too unless systemd made it.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    place: Place,
    lock: Flock<File>,
}

/// Why a guest has no runtime directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeDirError {
    /// Another shim lives in it.
    #[error("the name '{name}' is held by another glassbox-qemu, which has {path} locked", path = .path.display())]
    Held { name: String, path: PathBuf },
    /// It cannot be made.
    #[error("{path}: {source}; the runtime directory must be writable for this account", path = .path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

/// Where a guest's directory is, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    whose: Whose,
}

/// Who a directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The unit's, which systemd makes and removes.
    Unit,
    /// The guest's, at a path that follows from its name.
    Guest,
    /// One run's alone, at a path that nobody can foresee.
    Run,
}

impl Place {
    /// The directory of this guest.
    pub(crate) fn of(instance: &UnitInstance) -> Self {
        match granted("RUNTIME_DIRECTORY") {
            Some(path) => Self { path, whose: Whose::Unit },
            None => {
                Self { path: base().join(SPAWNED).join(instance.directory()), whose: Whose::Guest }
            }
        }
    }

    /// A directory that shares nothing with other guests, of this name or not. `mark` tells it from others.
    pub(crate) fn of_run(mark: &str) -> Self {
        Self { path: private_base().join(format!("glassbox-{mark}")), whose: Whose::Run }
    }
}

/// The first folder that systemd lists in this variable, such as `RUNTIME_DIRECTORY` (systemd.exec(5),
/// `RuntimeDirectory=`); a unit may have several.
pub(crate) fn granted(variable: &str) -> Option<PathBuf> {
    let folders = std::env::var(variable).ok()?;
    folders.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Whether a path leads into a folder that systemd made for the unit's account: whoever broke out of QEMU may have put a
/// link there, which root must not follow.
pub(crate) fn is_units_own(path: &Path) -> bool {
    let folders = ["RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY"];
    let real = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    folders.iter().filter_map(|variable| granted(variable)).any(|own| {
        let within = |real: &PathBuf| fs::canonicalize(&own).is_ok_and(|own| real.starts_with(own));
        path.starts_with(&own) || real.as_ref().is_some_and(within)
    })
}

/// The folder of what lasts until the next boot, or until the user's last logout.
pub(crate) fn base() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(path) if !nix::unistd::geteuid().is_root() => PathBuf::from(path),
        _ => PathBuf::from("/run"),
    }
}

/// Where a directory for one run can be made: the first of the usual places that this account may write to.
/// A container's root may be read-only but for its /tmp.
fn private_base() -> PathBuf {
    let runtime = granted("RUNTIME_DIRECTORY").unwrap_or_else(base);
    let temporary = std::env::temp_dir();
    let writable = |path: &PathBuf| access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    Some(runtime).filter(writable).unwrap_or(temporary)
}

impl RuntimeDir {
    /// Makes the directory and takes hold of it. `name` is the guest's, for messages.
    pub(crate) fn make(place: &Place, name: &UnitInstance) -> Result<Self, RuntimeDirError> {
        let path = place.path.clone();
        let unusable = |source| RuntimeDirError::Unusable { path: path.clone(), source };
        // Only the last one is the guest's alone: its parents are shared by the guests of all accounts.
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(unusable)?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error)
                if error.kind() != io::ErrorKind::AlreadyExists || place.whose == Whose::Run =>
            {
                return Err(unusable(error));
            }
            Ok(()) | Err(_) => {}
        }
        let file = File::create(path.join("lock")).map_err(unusable)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(RuntimeDirError::Held { name: name.as_str().to_owned(), path });
            }
            Err((_, error)) => return Err(unusable(error.into())),
        };
        let directory = Self { place: place.clone(), lock };
        directory.empty().map_err(unusable)?;
        Ok(directory)
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Removes what a shim that was killed has left, the lock apart.
    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            if entry.file_name() == "lock" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl RuntimeDir {
    /// Whether the path still leads to the directory that is held: somebody may have removed it, and another
    /// shim may have made one in its place.
    fn is_here(&self) -> bool {
        let held = self.lock.metadata().map(|file| (file.dev(), file.ino()));
        let found = fs::metadata(self.path().join("lock")).map(|file| (file.dev(), file.ino()));
        matches!((held, found), (Ok(held), Ok(found)) if held == found)
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        let removed = match self.place.whose {
            Whose::Unit => self.empty().and_then(|()| fs::remove_file(self.path().join("lock"))),
            Whose::Guest | Whose::Run => fs::remove_dir_all(self.path()),
        };
        if let Err(error) = removed {
            crate::log::warning(format_args!(
                "{}: {error}; the directory is left behind",
                self.path().display()
            ));
        }
    }
}
