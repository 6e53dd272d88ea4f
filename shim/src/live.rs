//! The definition of a guest as it runs: written when it is started, and after each change of the running guest.
//!
//! Root goes by it when it changes a running guest, so that of a unit with a privileged step is root's: the guest's
//! account neither writes nor reads it, for it may have passwords. Elsewhere it is in the guest's runtime directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use domain::{LARGEST_DEFINITION, UnitInstance};
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::provide::make_folder;
use crate::runtime_dir::Place;

/// Where root has those of guests of the system's units. The folder's group, the management daemon's, reads them.
const SYSTEM: &str = "/run/glassbox/live";

/// Where the management daemon puts what they are to be.
const WANTED: &str = "/run/glassbox/wanted";

/// The live definition of one guest, and what stands beside it.
#[derive(Debug)]
pub(crate) struct LiveFile {
    path: PathBuf,
    /// Where the management daemon puts what the guest is to be instead of its definition.
    wanted: PathBuf,
    mode: u32,
}

impl LiveFile {
    /// That of a guest of the system's units.
    pub(crate) fn of_system(instance: &UnitInstance) -> Self {
        let name = format!("{}.xml", instance.directory());
        let [path, wanted] = [SYSTEM, WANTED].map(|folder| Path::new(folder).join(&name));
        Self { path, wanted, mode: 0o640 }
    }

    /// That of a guest with its caller's rights.
    pub(crate) fn of_place(place: &Place) -> Self {
        let [path, wanted] = ["live.xml", "wanted.xml"].map(|name| place.path.join(name));
        Self { path, wanted, mode: 0o600 }
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, in place of the former one. It is not synced: no guest outlives the host.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        // tmpfiles.d(5) has made it, but for a host on which this program is new.
        make_folder(&self.path, 0o750)?;
        self.replace(&self.path, text)
    }

    /// Writes that of a guest that starts: what was left unsettled in the former one is no affair of this one.
    pub(crate) fn begin(&self, text: &str) -> io::Result<()> {
        self.settled()?;
        self.write(text)
    }

    /// The text.
    pub(crate) fn read(&self) -> io::Result<String> {
        bounded(&self.path)
    }

    /// What the management daemon wants the guest to be, if it wants something, and where it says so.
    pub(crate) fn wanted(&self) -> Option<(&Path, io::Result<String>)> {
        match bounded(&self.wanted) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some((&self.wanted, read)),
        }
    }

    /// Keeps another reload of the guest waiting until the result is dropped.
    pub(crate) fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.beside("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// Leaves word of what became of a reload to the management daemon; without a word there is none.
    pub(crate) fn leave_word(&self, word: Option<&str>) -> io::Result<()> {
        let path = self.beside("outcome");
        match word {
            Some(word) => self.replace(&path, word),
            None => removed(&path),
        }
    }

    /// Notes a step that is about to be made.
    pub(crate) fn leave_step(&self, step: &str) -> io::Result<()> {
        self.replace(&self.beside("step"), step)
    }

    /// The step that was begun, if its end was not noted.
    pub(crate) fn step(&self) -> io::Result<Option<String>> {
        match bounded(&self.beside("step")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Notes that the step has come to its end.
    pub(crate) fn settled(&self) -> io::Result<()> {
        removed(&self.beside("step"))
    }

    /// Removes it, with what stands beside it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let beside = ["lock", "outcome", "step"].map(|name| self.beside(name));
        beside.iter().try_for_each(|it| removed(it))?;
        removed(&self.path)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        removed(&unfinished)?;
        let mut file =
            File::options().create_new(true).write(true).mode(self.mode).open(&unfinished)?;
        // Whatever the mask of this process is.
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&unfinished, path)
    }
}

/// The text of a regular file, and of no link.
fn bounded(path: &Path) -> io::Result<String> {
    // A pipe would keep this process waiting.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(2 * LARGEST_DEFINITION as u64).read_to_string(&mut text)?;
    Ok(text)
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn files(folder: &Path) -> LiveFile {
        let [path, wanted] = ["live/web.xml", "wanted.xml"].map(|name| folder.join(name));
        LiveFile { path, wanted, mode: 0o640 }
    }

    #[test]
    fn a_live_definition_is_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        for text in ["<a/>", "<b/>"] {
            files.write(text).unwrap();
            assert_eq!(files.read().unwrap(), text);
        }
        let mode = fs::metadata(files.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        drop(files.lock().unwrap());
        files.leave_word(Some("{}")).unwrap();
        assert_eq!(fs::read_to_string(files.beside("outcome")).unwrap(), "{}");
        files.leave_word(None).unwrap();
        files.leave_step("{}").unwrap();
        assert_eq!(files.step().unwrap().as_deref(), Some("{}"));
        files.begin("<c/>").unwrap();
        assert_eq!(files.step().unwrap(), None);
        files.leave_step("{}").unwrap();
        files.remove().unwrap();
        let left: Vec<_> = fs::read_dir(folder.path().join("live")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(files.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_wanted_is_a_file_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(files.wanted().is_none());
        fs::write(&files.wanted, "<a/>").unwrap();
        assert_eq!(files.wanted().unwrap().1.unwrap(), "<a/>");
        fs::rename(&files.wanted, folder.path().join("other")).unwrap();
        symlink(folder.path().join("other"), &files.wanted).unwrap();
        assert_eq!(files.wanted().unwrap().1.unwrap_err().raw_os_error(), Some(libc::ELOOP));
        fs::remove_file(&files.wanted).unwrap();
        nix::unistd::mkfifo(&files.wanted, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(files.wanted().unwrap().1.unwrap_err().to_string(), "it is no file");
    }
}
