//! The files that are written: only here, and only below the directory that systemd gave; or shown instead.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use domain::{DomainName, NetworkName, UnitInstance};

use crate::environment::Scope;
use crate::log::Log;

/// The name of the drop-in. One with a higher number, or with this name in /etc, wins over it.
const DROP_IN: &str = "50-glassbox.conf";

/// The drop-in of all guests, not called like the one of each, which would hide it.
const ALL_GUESTS: &str = "qemu@.service.d/50-glassbox-templates.conf";

/// What the unit of a network installs where networkd looks, one directory for each; not a unit's name, so that
/// systemd passes it over.
const NETWORK_FILES: &str = "glassbox-network";

/// Longest name of a unit, `UNIT_NAME_MAX` of systemd.
pub(crate) const LONGEST_NAME: usize = 255;

/// An instance of an installed template; displays as the unit's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    template: &'static str,
    /// Escaped as systemd has it.
    instance: String,
}

impl Unit {
    /// The service that is a guest.
    pub(crate) fn of_guest(name: &DomainName) -> Self {
        Self { template: "qemu", instance: UnitInstance::from(name).to_string() }
    }

    /// The service that makes a network.
    pub(crate) fn of_network(name: &NetworkName) -> Self {
        Self { template: "glassbox-network", instance: UnitInstance::from(name).to_string() }
    }

    /// The service that is a program beside a guest: `virtiofsd@web:fs0.service`. `device` is this program's own word.
    ///
    /// `None` for a guest whose name leaves no room for the directory of the unit's drop-ins.
    pub(crate) fn of_companion(
        template: &'static str,
        guest: &UnitInstance,
        device: &str,
    ) -> Option<Self> {
        let unit = Self { template, instance: format!("{guest}:{device}") };
        (unit.drop_ins().len() <= LONGEST_NAME).then_some(unit)
    }

    /// What the directories of its drop-ins are called.
    pub(crate) fn drop_ins(&self) -> String {
        format!("{self}.d")
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.service", self.template, self.instance)
    }
}

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

    /// Writes the unit's drop-in.
    pub(crate) fn drop_in(&mut self, unit: &Unit, text: &str, log: &mut Log) {
        let file = self.directory.join(unit.drop_ins()).join(DROP_IN);
        self.file(&file, text, log);
    }

    /// Writes the drop-in of all guests.
    pub(crate) fn all_guests(&mut self, text: &str, log: &mut Log) {
        self.file(&self.directory.join(ALL_GUESTS), text, log);
    }

    /// Makes a drop-in of the administrator's one of this unit.
    pub(crate) fn prefix_drop_in(
        &mut self,
        unit: &Unit,
        name: &OsStr,
        target: &Path,
        log: &mut Log,
    ) {
        let link = self.directory.join(unit.drop_ins()).join(name);
        self.link(target, &link, log);
    }

    /// Writes a file for the unit of a network.
    pub(crate) fn network_file(
        &mut self,
        network: &NetworkName,
        file: &str,
        text: &str,
        log: &mut Log,
    ) {
        let instance = UnitInstance::from(network);
        let directory = self.directory.join(NETWORK_FILES).join(instance.as_str());
        self.file(&directory.join(file), text, log);
    }

    /// Makes the unit one that can't be started, as `systemctl mask` does.
    pub(crate) fn mask(&mut self, unit: &Unit, log: &mut Log) {
        let link = self.directory.join(unit.to_string());
        self.link(Path::new("/dev/null"), &link, log);
    }

    /// Has the unit started with the manager's usual target, by the link that `systemctl enable` would make.
    pub(crate) fn start_at_boot(&mut self, unit: &Unit, log: &mut Log) {
        // Systemd goes by the names of link and target; that the template may be installed in another
        // directory of units does not matter.
        let (wants, templates) = match self.scope {
            Scope::System => ("multi-user.target.wants", "/usr/lib/systemd/system"),
            Scope::User => ("default.target.wants", "/usr/lib/systemd/user"),
        };
        let link = self.directory.join(wants).join(unit.to_string());
        let template = Path::new(templates).join(format!("{}@.service", unit.template));
        self.link(&template, &link, log);
    }

    fn file(&mut self, file: &Path, text: &str, log: &mut Log) {
        let written = if self.shown {
            writeln!(io::stdout(), "# {}\n{text}", file.display())
        } else {
            let directory = file.parent().unwrap_or(&self.directory);
            make_directory(directory).and_then(|()| fs::write(file, text))
        };
        self.note(file, written, log);
    }

    fn link(&mut self, target: &Path, link: &Path, log: &mut Log) {
        let made = if self.shown {
            writeln!(io::stdout(), "# {} -> {}\n", link.display(), target.display())
        } else {
            let directory = link.parent().unwrap_or(&self.directory);
            make_directory(directory).and_then(|()| make_link(target, link))
        };
        self.note(link, made, log);
    }

    fn note(&mut self, path: &Path, result: io::Result<()>, log: &mut Log) {
        if let Err(error) = result {
            self.failed = true;
            log.error(path, &format!("{error}; this part of a unit is missing"));
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
fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    match symlink(target, link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(link)?;
            symlink(target, link)
        }
        result => result,
    }
}
