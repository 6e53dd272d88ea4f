//! Puts files where others read them: definitions, and what belongs to a guest. Whatever fails on the way, and wherever
//! the machine stops, the file is then the old one or the new one, whole; a name without a file may stay without one.
//!
//! ```text
//! Create -> Write -> Permit -> Sync -> Place -> SyncDirectory
//! ```
//!
//! The content is written to a hidden file beside the target, is on the disk before the file gets its name (rename(2),
//! or link(2) where a file that is there must be kept), and the name is on the disk before the caller is told of success.
//! Two writers of one file must not be the same process.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file to be put in place.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Where it goes. The directory must be there.
    pub path: &'a Path,
    /// All that is in it.
    pub content: &'a [u8],
    /// Its permissions, such as 0o640, whatever the umask is.
    pub mode: u32,
    /// What becomes of a file that is there.
    pub existing: Existing,
    /// The name of the hidden file, of a caller that alone writes to this directory, one file at a time: what it left
    /// when it was ended is overwritten by what it writes next. None is a name that no other process has.
    pub hidden: Option<&'a str>,
}

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Kept,
    /// The new one takes its place.
    Replaced,
}

/// A step on the way to a file that is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the hidden file.
    Create,
    /// Writing its content.
    Write,
    /// Giving it its permissions.
    Permit,
    /// Having its content on the disk.
    Sync,
    /// Giving it its name.
    Place,
    /// Having its name on the disk.
    SyncDirectory,
    /// Removing the hidden file after a failure, or after it got a second name.
    Remove,
}

/// Why a file was not put in place.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is one, which was to be kept.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A step failed. After [`Step::SyncDirectory`] the new file is in place, but may be gone after a power failure; after
    /// all others the old one is.
    #[error("{} cannot be written: {source}", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The step.
        step: Step,
        /// What the system says.
        source: io::Error,
    },
}

impl NewFile<'_> {
    /// Puts the file in place.
    ///
    /// # Errors
    /// [`WriteError`]; the hidden file is then gone.
    pub fn put(&self) -> Result<(), WriteError> {
        self.put_watched(&mut |_| Ok(()))
    }

    /// Puts the file in place and calls `before` before each step, which fails when `before` does.
    fn put_watched(
        &self,
        before: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let hidden = self.hidden_path();
        let put = self
            .write(&hidden, before)
            .and_then(|()| self.place(&hidden, before))
            .and_then(|()| self.sync_directory(before));
        let left = put.is_err() || self.existing == Existing::Kept;
        if left && before(Step::Remove).is_ok() {
            // After a rename there is none; and what cannot be removed is hidden, and overwritten by the next one.
            let _ = fs::remove_file(&hidden);
        }
        put.map_err(|(step, source)| match (step, source.kind()) {
            (Step::Place, ErrorKind::AlreadyExists) => WriteError::Exists(self.path.to_owned()),
            _ => WriteError::Failed { path: self.path.to_owned(), step, source },
        })
    }

    fn hidden_path(&self) -> PathBuf {
        match self.hidden {
            Some(name) => self.path.with_file_name(name),
            None => hidden(self.path),
        }
    }

    fn write(
        &self,
        hidden: &Path,
        before: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> Result<(), (Step, io::Error)> {
        let mut step = |step| before(step).map_err(|error| (step, error));
        let at = |step| move |error| (step, error);
        step(Step::Create)?;
        // Nobody else reads it before it may be read.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(hidden).map_err(at(Step::Create))?;
        step(Step::Write)?;
        file.write_all(self.content).map_err(at(Step::Write))?;
        step(Step::Permit)?;
        file.set_permissions(Permissions::from_mode(self.mode)).map_err(at(Step::Permit))?;
        step(Step::Sync)?;
        file.sync_all().map_err(at(Step::Sync))
    }

    fn place(
        &self,
        hidden: &Path,
        before: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> Result<(), (Step, io::Error)> {
        before(Step::Place)
            .and_then(|()| match self.existing {
                Existing::Kept => fs::hard_link(hidden, self.path),
                Existing::Replaced => fs::rename(hidden, self.path),
            })
            .map_err(|error| (Step::Place, error))
    }

    fn sync_directory(
        &self,
        before: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> Result<(), (Step, io::Error)> {
        before(Step::SyncDirectory)
            .and_then(|()| File::open(directory(self.path))?.sync_all())
            .map_err(|error| (Step::SyncDirectory, error))
    }
}

/// The directory that a path's last part stands in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// A name that no list of definitions has, for it does not end in `.xml`, and no other process.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests;
