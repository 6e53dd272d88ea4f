//! What the process is told by its environment, read once at the start.

use std::env;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domain::{DomainUuid, NbdkitParts, SearchPath, UserEnvironment};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::drop_in::Surroundings;

/// Whose manager the units are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The system's, PID 1.
    System,
    /// A user's, `systemd --user`.
    User,
}

/// The environment of the program.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Whose manager calls.
    pub(crate) scope: Scope,
    /// Where definitions are looked for, as the running system names the directories.
    pub(crate) search: SearchPath,
    /// Where networks are looked for: nowhere by a user's manager.
    pub(crate) networks: SearchPath,
    root: Option<Root>,
    /// Whether udev runs.
    devices: bool,
    /// The manager's runtime directory.
    runtime: PathBuf,
    /// The id of the machine.
    machine: Option<[u8; 16]>,
    /// What of nbdkit is installed for guests of this manager.
    nbdkit: NbdkitParts,
}

/// The most that is read of a machine's id.
const LONGEST_ID: u64 = 64;

/// The directory that stands for `/`.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// None when it can't be opened; then nothing is below it.
    directory: Option<File>,
}

impl Environment {
    /// The environment of this process, for the manager that `asked` names or that calls.
    pub(crate) fn of_process(asked: Option<Scope>) -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let called_as = env::args_os().next().map(PathBuf::from);
        let calling = || scope(env::var_os("SYSTEMD_SCOPE").as_deref(), called_as.as_deref());
        let scope = asked.unwrap_or_else(calling);
        let search = match scope {
            Scope::System => SearchPath::system(),
            Scope::User => SearchPath::user(&UserEnvironment::of(|name| env::var_os(name))),
        };
        let networks = match scope {
            Scope::System => SearchPath::networks(),
            Scope::User => SearchPath::default(),
        };
        let root = path("GLASSBOX_ROOT").map(|path| {
            let directory = File::open(&path).ok();
            Root { path, directory }
        });
        // An image that is not running is taken for a machine.
        let devices = root.is_some() || has_udev();
        let runtime = match scope {
            Scope::System => None,
            Scope::User => path("XDG_RUNTIME_DIR"),
        };
        let runtime = runtime.unwrap_or_else(|| "/run".into());
        let (machine, nbdkit) = (None, NbdkitParts::default());
        let environment = Self { scope, search, networks, root, devices, runtime, machine, nbdkit };
        let (machine, nbdkit) = (environment.machine_id(), environment.installed_nbdkit());
        Self { machine, nbdkit, ..environment }
    }

    /// Where the manager has generated units, systemd.unit(5).
    pub(crate) fn generated(&self) -> PathBuf {
        self.runtime.join("systemd/generator")
    }

    /// Where people and packages put units, the directory that counts first first, systemd.unit(5).
    pub(crate) fn unit_directories(&self) -> Vec<PathBuf> {
        match self.scope {
            Scope::System => self.search.beside("systemd/system").collect(),
            Scope::User => {
                let everyone = SearchPath::system();
                let everyone = everyone.beside("systemd/user");
                self.search.beside("systemd/user").chain(everyone).collect()
            }
        }
    }

    /// Which units there are beside those of guests.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings { devices: self.devices, scope: self.scope, machine: self.machine }
    }

    /// The id of machine-id(5), as glassbox-qemu reads it.
    fn machine_id(&self) -> Option<[u8; 16]> {
        let mut text = String::new();
        let file = self.open(Path::new("/etc/machine-id"), OFlag::empty()).ok()?;
        file.take(LONGEST_ID).read_to_string(&mut text).ok()?;
        let id: DomainUuid = text.trim().parse().ok()?;
        Some(*id.as_bytes())
    }

    /// What of nbdkit serves images of guests.
    pub(crate) fn nbdkit(&self) -> NbdkitParts {
        self.nbdkit
    }

    /// A user's manager starts no programs beside its guests.
    fn installed_nbdkit(&self) -> NbdkitParts {
        match self.scope {
            Scope::System => {
                NbdkitParts::found(|path| self.open(Path::new(path), OFlag::O_PATH).is_ok())
            }
            Scope::User => NbdkitParts::default(),
        }
    }

    /// Where a directory of the system is found by this process: below `GLASSBOX_ROOT` if that is set.
    pub(crate) fn rooted(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.path.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Opens a file of the system for reading, where absolute links lead below `GLASSBOX_ROOT` too.
    ///
    /// # Errors
    /// Those of open(2), and of openat2(2) with a root.
    pub(crate) fn open(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let Some(root) = &self.root else {
            return OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
        };
        let directory = root.directory.as_ref().ok_or(Errno::ENOENT)?;
        let how =
            OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        Ok(openat2(directory, path, how)?.into())
    }
}

/// Whether udev runs here, or will: at boot this program is earlier. It is installed, and systemd-udevd.service has the
/// condition that /sys can be written, which it cannot in containers.
fn has_udev() -> bool {
    let sys = statvfs("/sys").is_ok_and(|found| !found.flags().contains(FsFlags::ST_RDONLY));
    sys && Path::new("/usr/lib/systemd/systemd-udevd").exists()
}

/// The scope by `SYSTEMD_SCOPE`, which managers set since systemd 251, or else by the directory that holds
/// the program: both managers call the same file, from `system-generators` and `user-generators`.
fn scope(variable: Option<&OsStr>, called_as: Option<&Path>) -> Scope {
    let by_directory = || {
        let directory = called_as.and_then(Path::parent).and_then(Path::file_name);
        directory == Some(OsStr::new("user-generators"))
    };
    match variable {
        Some(value) if value == "user" => Scope::User,
        Some(value) if value == "system" => Scope::System,
        Some(_) | None if by_directory() => Scope::User,
        Some(_) | None => Scope::System,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_decides_and_then_the_directory() {
        for (variable, called_as, expected) in [
            (Some("user"), "/usr/lib/systemd/system-generators/g", Scope::User),
            (Some("system"), "/usr/lib/systemd/user-generators/g", Scope::System),
            (None, "/usr/lib/systemd/user-generators/g", Scope::User),
            (None, "/usr/lib/systemd/system-generators/g", Scope::System),
            (Some("initrd"), "target/debug/g", Scope::System),
            (None, "g", Scope::System),
        ] {
            let got = scope(variable.map(OsStr::new), Some(Path::new(called_as)));
            assert_eq!(got, expected, "{variable:?} {called_as}");
        }
        assert_eq!(scope(None, None), Scope::System);
    }
}
