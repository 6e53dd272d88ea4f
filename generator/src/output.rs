//! The files that are written: only here, and only below the directory that systemd gave; or shown instead.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use domain::UnitInstance;

use crate::environment::Scope;
use crate::log::Log;
use crate::value::UnitValue;

/// The name of the drop-in. One with a higher number, or with this name in /etc, wins over it.
const DROP_IN: &str = "50-glassbox.conf";

/// The directory for generated units.
#[derive(Debug)]
pub(crate) struct Output {
    directory: PathBuf,
    scope: Scope,
    shown: bool,
    failed: bool,
}

impl Output {
    /// Output below `directory`, which is made when the first file is written if it isn't there.
    pub(crate) fn new(directory: &Path, scope: Scope) -> Self {
        Self { directory: directory.to_owned(), scope, shown: false, failed: false }
    }

    /// Output that is printed, as `systemctl cat` does, and not written.
    pub(crate) fn shown(directory: &Path, scope: Scope) -> Self {
        Self { shown: true, ..Self::new(directory, scope) }
    }

    /// Whether something could not be written.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Writes the drop-in of a unit such as `qemu@web.service`.
    pub(crate) fn drop_in(&mut self, unit: &UnitValue, text: &str, log: &mut Log) {
        let directory = self.directory.join(format!("{unit}.d"));
        let file = directory.join(DROP_IN);
        let written = if self.shown {
            writeln!(io::stdout(), "# {}\n{text}", file.display())
        } else {
            make_directory(&directory).and_then(|()| fs::write(&file, text))
        };
        self.note(&file, written, log);
    }

    /// Makes the guest's unit one that can't be started, as `systemctl mask` does.
    pub(crate) fn mask(&mut self, instance: &UnitInstance, log: &mut Log) {
        let link = self.directory.join(format!("qemu@{instance}.service"));
        self.link("/dev/null", &link, log);
    }

    /// Has the guest started with the manager's usual target, by the link that `systemctl enable` would make.
    pub(crate) fn start_at_boot(&mut self, instance: &UnitInstance, log: &mut Log) {
        // Systemd goes by the names of link and target; that the template may be installed in another
        // directory of units does not matter.
        let (wants, template) = match self.scope {
            Scope::System => ("multi-user.target.wants", "/usr/lib/systemd/system/qemu@.service"),
            Scope::User => ("default.target.wants", "/usr/lib/systemd/user/qemu@.service"),
        };
        let link = self.directory.join(wants).join(format!("qemu@{instance}.service"));
        self.link(template, &link, log);
    }

    fn link(&mut self, target: &str, link: &Path, log: &mut Log) {
        let made = if self.shown {
            writeln!(io::stdout(), "# {} -> {target}\n", link.display())
        } else {
            let directory = link.parent().unwrap_or(&self.directory);
            make_directory(directory).and_then(|()| make_link(target, link))
        };
        self.note(link, made, log);
    }

    fn note(&mut self, path: &Path, result: io::Result<()>, log: &mut Log) {
        if let Err(error) = result {
            self.failed = true;
            log.error(path, &format!("{error}; the guest lacks this part of its unit"));
        }
    }
}

/// Makes a directory, and those above it only if they lack: one system call for the usual case.
fn make_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(directory),
        result => result,
    }
}

/// Makes a link in the place of whatever an earlier run left there; systemd itself empties its directories.
fn make_link(target: &str, link: &Path) -> io::Result<()> {
    match symlink(target, link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(link)?;
            symlink(target, link)
        }
        result => result,
    }
}
