//! The file with the guest's main process (`--pidfile`): this one, which a stop is to be sent to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::log;

/// A pidfile that is there whole or not at all. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
    /// Where it is until it is published.
    staged: PathBuf,
}

impl Pidfile {
    /// Writes it beside its place, so that what can fail does before QEMU is started.
    pub(crate) fn stage(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let pidfile = Self { path: path.to_owned(), staged: PathBuf::from(name) };
        let mut file = File::create_new(&pidfile.staged)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(pidfile)
    }

    /// Puts it in its place, instead of one that a killed process left.
    pub(crate) fn publish(&self) {
        if let Err(error) = fs::rename(&self.staged, &self.path) {
            log::warning(format_args!("{}: {error}; there is no pidfile", self.path.display()));
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // It was renamed, or its place was not to be had.
        let _ = fs::remove_file(&self.staged);
        let ours = format!("{}\n", std::process::id());
        if fs::read_to_string(&self.path).is_ok_and(|content| content == ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warning(format_args!("{}: {error}; it is left behind", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_whole_between_publication_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let pidfile = Pidfile::stage(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "not before QEMU is started");
        pidfile.publish();
        let ours = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), ours);
        drop(pidfile);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

        let pidfile = Pidfile::stage(&path).unwrap();
        pidfile.publish();
        fs::write(&path, "1\n").unwrap();
        drop(pidfile);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "another's is let be");
        assert!(Pidfile::stage(Path::new("/none/pid")).is_err());
    }
}
