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

/// The directory of one guest, held until it is dropped. Dropping removes what is in it, and the directory
/// too unless systemd made it.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    made_by_systemd: bool,
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

/// Where the directory of this guest is, whether it exists or not.
pub(crate) fn locate(instance: &UnitInstance) -> PathBuf {
    match by_systemd() {
        Some(path) => path,
        None => base().join("glassbox/guest").join(instance.directory()),
    }
}

/// The first folder that systemd lists in this variable, such as `RUNTIME_DIRECTORY` (systemd.exec(5),
/// `RuntimeDirectory=`); a unit may have several.
pub(crate) fn granted(variable: &str) -> Option<PathBuf> {
    let folders = std::env::var(variable).ok()?;
    folders.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

fn by_systemd() -> Option<PathBuf> {
    granted("RUNTIME_DIRECTORY")
}

fn base() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(path) if !nix::unistd::geteuid().is_root() => PathBuf::from(path),
        _ => PathBuf::from("/run"),
    }
}

impl RuntimeDir {
    /// Makes the directory and takes hold of it.
    pub(crate) fn make(instance: &UnitInstance) -> Result<Self, RuntimeDirError> {
        let path = locate(instance);
        let unusable = |source| RuntimeDirError::Unusable { path: path.clone(), source };
        // Only the last one is the guest's alone: its parents are shared by the guests of all accounts.
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(unusable)?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unusable(error));
            }
            Ok(()) | Err(_) => {}
        }
        let file = File::create(path.join("lock")).map_err(unusable)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(RuntimeDirError::Held { name: instance.as_str().to_owned(), path });
            }
            Err((_, error)) => return Err(unusable(error.into())),
        };
        let made_by_systemd = by_systemd().is_some();
        let directory = Self { path, made_by_systemd, lock };
        directory
            .empty()
            .map_err(|source| RuntimeDirError::Unusable { path: directory.path.clone(), source })?;
        Ok(directory)
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what a shim that was killed has left, the lock apart.
    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
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
        let found = fs::metadata(self.path.join("lock")).map(|file| (file.dev(), file.ino()));
        matches!((held, found), (Ok(held), Ok(found)) if held == found)
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        let removed = if self.made_by_systemd {
            self.empty().and_then(|()| fs::remove_file(self.path.join("lock")))
        } else {
            fs::remove_dir_all(&self.path)
        };
        if let Err(error) = removed {
            crate::log::warning(format_args!(
                "{}: {error}; the directory is left behind",
                self.path.display()
            ));
        }
    }
}
