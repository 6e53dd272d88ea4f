//! The locks on a guest's name and UUID, which exclude a second guest of this machine where no daemon does, and on the
//! number of its vsock where the kernel does not know of it.
//!
//! Each is a file below [`directory`] with a record lock of fcntl(2). The kernel frees it when this process ends,
//! however it ends, and tells who holds it: no file says anything that could be out of date. A claim with the
//! daemon is made under the locks, so that a guest whose daemon was stopped for good cannot lose its name to
//! another before it is registered again.
//!
//! They reach as far as the directory does: the same account's or root's guests in the same mount namespace.
//! Beyond that only the daemon excludes.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dbus_api::{Holder, Placement};
use domain::{DomainName, DomainUuid, UnitInstance};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::{host, runtime_dir};

/// Root and the guests' account lock each other's files, and nobody else may: a stranger would keep guests from
/// starting.
const FILE_MODE: u32 = 0o660;

/// Longest name that is read from a lock file; a guest's is 255 bytes at most.
const LONGEST_NAME: u64 = 1024;

/// The locks, held until this is dropped. One that could not be made is none.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Vec<Lock>,
}

/// Somebody else has a lock.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is held by {holder}")]
pub(crate) struct Held {
    what: String,
    holder: String,
}

impl Locks {
    /// Locks the name, then the UUID. Where the directory cannot be used there is no lock, and the log says so.
    ///
    /// # Errors
    /// Who holds one of the two.
    pub(crate) fn take(
        name: &DomainName,
        instance: &UnitInstance,
        uuid: &DomainUuid,
    ) -> Result<Self, Held> {
        match Self::take_in(&directory(), name, instance, uuid) {
            Ok(taken) => taken,
            Err(error) => {
                crate::log::info(format_args!(
                    "{}: {error}; where no daemon runs, nothing excludes a second guest '{name}'",
                    host::usual(&directory()).display()
                ));
                Ok(Self::default())
            }
        }
    }

    /// Locks the number of the guest's vsock as well. A guest that locked nothing else locks no number.
    ///
    /// # Errors
    /// Who holds it.
    pub(crate) fn add_cid(&mut self, cid: u32, name: &DomainName) -> Result<(), Held> {
        let Some(directory) = self.held.first().and_then(|lock| lock.path.parent()) else {
            return Ok(());
        };
        match Lock::take(directory.join(format!("{cid}.cid")), Some(name)) {
            Ok(Ok(lock)) => self.held.push(lock),
            Ok(Err(holder)) => return Err(Held { what: format!("the number {cid}"), holder }),
            Err(error) => crate::log::info(format_args!(
                "{}: {error}; nothing excludes a second guest with the number {cid}",
                host::usual(directory).display()
            )),
        }
        Ok(())
    }

    fn take_in(
        directory: &Path,
        name: &DomainName,
        instance: &UnitInstance,
        uuid: &DomainUuid,
    ) -> io::Result<Result<Self, Held>> {
        // Whoever is refused needs no UUID to be looked at: all take the locks in this order.
        let files = [
            (format!("{}.name", instance.directory()), format!("the name '{name}'"), None),
            (format!("{uuid}.uuid"), format!("the UUID {uuid}"), Some(name)),
        ];
        make(directory)?;
        let mut held = Vec::new();
        for (file, what, told) in files {
            match Lock::take(directory.join(file), told)? {
                Ok(lock) => held.push(lock),
                Err(holder) => return Ok(Err(Held { what, holder })),
            }
        }
        Ok(Ok(Self { held }))
    }
}

/// Where the locks are: beside the runtime directories, for the one of a unit goes with the unit.
fn directory() -> PathBuf {
    host::adopted().unwrap_or_else(runtime_dir::base).join("glassbox/claim")
}

/// Makes the directory where nothing has; for the system's guests tmpfiles.d(5) does, with the account's group.
fn make(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o770).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A locked file, removed when it is dropped.
///
/// A record lock goes when the process closes *any* descriptor of the file, and a child does not inherit it, so
/// that QEMU's end never holds up a name: nothing but this module may open these files.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks a file, and writes into it for which guest. The inner error is who has it locked.
    fn take(path: PathBuf, guest: Option<&DomainName>) -> io::Result<Result<Self, String>> {
        loop {
            let mut file = open(&path)?;
            if !try_lock(&file)? {
                match holder(&mut file)? {
                    Some(holder) => return Ok(Err(holder)),
                    // It was freed in between.
                    None => continue,
                }
            }
            // The former holder may have removed the file after it was opened here; who comes next would make and
            // lock another one.
            if !is_at(&file, &path)? {
                continue;
            }
            file.set_len(0)?;
            if let Some(guest) = guest {
                file.write_all(guest.as_str().as_bytes())?;
            }
            return Ok(Ok(Self { path, _file: file }));
        }
    }
}

impl Drop for Lock {
    /// Removes the file while it is still locked, so that it is not another's.
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                crate::log::warning(format_args!(
                    "{}: {error}; the file is left behind, unlocked",
                    self.path.display()
                ));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    // Root's umask would keep the account's guests out. What another account made is its own to permit.
    if file.metadata()?.permissions().mode() & 0o777 != FILE_MODE {
        let _ = file.set_permissions(Permissions::from_mode(FILE_MODE));
    }
    Ok(file)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Who has a file locked, by the kernel's word; none when nobody has.
fn holder(file: &mut File) -> io::Result<Option<String>> {
    let mut found = whole_file();
    fcntl(&*file, FcntlArg::F_GETLK(&mut found))?;
    if i32::from(found.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    let mut guest = String::new();
    // What is no text is no name, and the holder is named all the same.
    let _ = file.take(LONGEST_NAME).read_to_string(&mut guest);
    let process = match u32::try_from(found.l_pid) {
        Ok(pid) if pid > 0 => process(pid),
        // The kernel translates process ids, and this one has none here (fcntl(2), pid_namespaces(7)).
        Ok(_) | Err(_) => "a process of another pid namespace".to_owned(),
    };
    let guest = guest.escape_debug();
    Ok(Some(if guest.clone().next().is_none() {
        process
    } else {
        format!("guest '{guest}', {process}")
    }))
}

fn process(pid: u32) -> String {
    // Without it, for a process that has just ended say, the process id is all there is to tell.
    let text = fs::read_to_string(host::proc().join(format!("{pid}/cgroup"))).unwrap_or_default();
    let placement = Placement::parse(&text);
    Holder { pid, unit: placement.unit.as_deref() }.to_string()
}

/// A write lock on all of a file.
#[allow(clippy::cast_possible_truncation)] // The constants are one-digit numbers (fcntl.h).
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whether this open file is the one at the path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::{SecondProcess, second_process};
    use std::ffi::OsStr;

    const UUIDS: [&str; 2] =
        ["c7a5fdbd-edaf-9455-926a-d65c16db1801", "c7a5fdbd-edaf-9455-926a-d65c16db1802"];

    fn take(directory: &Path, name: &str, uuid: usize) -> Result<Locks, Held> {
        let name: DomainName = name.parse().unwrap();
        let instance = UnitInstance::from(&name);
        Locks::take_in(directory, &name, &instance, &UUIDS[uuid].parse().unwrap()).unwrap()
    }

    /// Another process that holds a guest's locks.
    fn other(directory: &Path, name: &str) -> SecondProcess {
        let variables = [("HOLD_IN", directory.as_os_str()), ("HOLD_NAME", OsStr::new(name))];
        SecondProcess::of("locks::tests::hold_the_locks", variables)
    }

    #[test]
    #[ignore = "it is the other process of other tests"]
    fn hold_the_locks() {
        let directory = PathBuf::from(std::env::var_os("HOLD_IN").unwrap());
        let name = std::env::var("HOLD_NAME").unwrap();
        let mut locks = take(&directory, &name, 0).unwrap();
        locks.add_cid(7, &DomainName::try_from(name.as_str()).unwrap()).unwrap();
        second_process::done();
    }

    #[test]
    fn the_holder_of_name_or_uuid_is_named_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("glassbox/claim");
        let other = other(&directory, "my vm");
        let text = fs::read_to_string(format!("/proc/{}/cgroup", other.0.id())).unwrap();
        let unit = Placement::parse(&text).unit;
        let who = Holder { pid: other.0.id(), unit: unit.as_deref() };
        for (name, uuid, words) in [
            ("my vm", 0, format!("the name 'my vm' is held by {who}")),
            ("my vm", 1, format!("the name 'my vm' is held by {who}")),
            ("db", 0, format!("the UUID {} is held by guest 'my vm', {who}", UUIDS[0])),
        ] {
            assert_eq!(take(&directory, name, uuid).unwrap_err().to_string(), words);
        }
        let mut locks = take(&directory, "db", 1).unwrap();
        let db = DomainName::try_from("db").unwrap();
        let held = format!("the number 7 is held by guest 'my vm', {who}");
        assert_eq!(locks.add_cid(7, &db).unwrap_err().to_string(), held);
        locks.add_cid(8, &db).unwrap();
        drop(locks);
        // Who was refused keeps nothing.
        drop(take(&directory, "db", 1).unwrap());
        drop(other);
        take(&directory, "my vm", 0).unwrap();
    }

    #[test]
    fn a_guest_that_ended_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let locks = take(folder.path(), "web", 0).unwrap();
        let mode =
            |file: &str| fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode("web.name") & 0o777, FILE_MODE, "whatever the umask is");
        assert_eq!(fs::read_to_string(folder.path().join("web.name")).unwrap(), "");
        drop(locks);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_removed_file_is_not_the_one_at_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.name");
        let file = open(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        let _next = open(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
    }
}
