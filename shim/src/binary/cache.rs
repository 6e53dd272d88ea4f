//! Where answers of QEMU binaries are kept: one file for each binary, with the identity that it was asked under.
//!
//! A cache that cannot be read or written is none, and no error: the binary is asked again.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use qemu::QemuBinary;
use serde::{Deserialize, Serialize};

use crate::runtime_dir;

use super::identity::Identity;

/// Where the system's guests have a folder each, for root to read (`CacheDirectory=` of qemu@.service).
const GUESTS: &str = "/var/cache/glassbox/guest";

/// Raised when a file of before no longer means the same.
const FORMAT: u32 = 1;

/// Held by whoever asks a binary, so that of many guests that start together only one does.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "it is held, not used")] Option<Flock<File>>);

/// Waits until nobody else asks this binary. Where no lock can be had, each asks for itself.
pub(super) fn turn(identity: &Identity) -> Turn {
    Turn(folder().and_then(|folder| lock(&folder, identity).ok()))
}

fn lock(folder: &Path, identity: &Identity) -> io::Result<Flock<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = file(folder, identity).with_extension("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    // Whoever holds it asks for a bounded time, and its end frees it.
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// The largest file that is read: an answer has about 20 KiB.
const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Entry {
    format: u32,
    identity: Identity,
    binary: QemuBinary,
}

#[derive(Serialize)]
struct NewEntry<'a> {
    format: u32,
    identity: &'a Identity,
    binary: &'a QemuBinary,
}

/// Whose word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// That of whoever may write there: it is only shown.
    All,
    /// That of this account and root. Another account's could be a guest's that broke out of its QEMU.
    Own,
}

/// The answer that was kept, if it is this binary's. To be shown it may be one that any guest of the system's keeps.
pub(super) fn read(identity: &Identity, trust: Trust) -> Option<QemuBinary> {
    let guests = (trust == Trust::All).then(|| fs::read_dir(GUESTS).ok()).flatten();
    let guests = guests.into_iter().flatten().flatten().map(|entry| entry.path());
    folder().into_iter().chain(guests).find_map(|folder| read_in(&folder, identity, trust))
}

/// Keeps an answer.
pub(super) fn write(identity: &Identity, binary: &QemuBinary) {
    if let Some(folder) = folder() {
        // Without a cache each start asks again, which `systemd-analyze` shows and a user's log need not.
        let _ = write_in(&folder, identity, binary);
    }
}

/// The unit's `CacheDirectory=`, else the usual folder of the system or of the user.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = runtime_dir::granted("CACHE_DIRECTORY") {
        return Some(folder);
    }
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/glassbox/qemu"));
    }
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))?;
    Some(cache.join("glassbox"))
}

fn file(folder: &Path, identity: &Identity) -> PathBuf {
    let accelerator = if identity.kvm { "kvm" } else { "tcg" };
    let name = identity.path.trim_start_matches('/').replace('/', "-");
    folder.join(format!("{name}.{accelerator}.json"))
}

fn read_in(folder: &Path, identity: &Identity, trust: Trust) -> Option<QemuBinary> {
    let file = File::open(file(folder, identity)).ok()?;
    let metadata = file.metadata().ok()?;
    let is_own = [0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid());
    if metadata.len() > LARGEST || (trust == Trust::Own && !is_own) {
        return None;
    }
    let text = io::read_to_string(file).ok()?;
    let entry: Entry = serde_json::from_str(&text).ok()?;
    (entry.format == FORMAT && entry.identity == *identity).then_some(entry.binary)
}

/// Writes beside the file and renames, so that a reader finds the old one or the new one.
fn write_in(folder: &Path, identity: &Identity, binary: &QemuBinary) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = file(folder, identity);
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let text = serde_json::to_vec(&NewEntry { format: FORMAT, identity, binary })?;
    let written = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(machine: &str) -> QemuBinary {
        let text = format!(
            r#"{{"version": {{"number": [10, 0, 2], "package": "x"}}, "kvm": false,
                "default-machine": "{machine}", "machine-aliases": {{}}, "machines": {{}}, "host-model": null,
                "abilities": {{"chardev-reconnect-ms": true, "netdev-reconnect": "no",
                    "discard-no-unref": true, "iothread-mapping": false}},
                "sev": null, "devices": ["virtio-net-pci"]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_answer_is_kept_until_the_binary_changes() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("qemu");
        fs::write(&program, "one").unwrap();
        let cache = folder.path().join("a/b");
        let identity = Identity::of(&program).unwrap();
        assert_eq!(read_in(&cache, &identity, Trust::Own), None);
        write_in(&cache, &identity, &binary("pc-1")).unwrap();
        assert_eq!(
            read_in(&cache, &Identity::of(&program).unwrap(), Trust::Own),
            Some(binary("pc-1"))
        );

        fs::write(&program, "another").unwrap();
        let changed = Identity::of(&program).unwrap();
        assert_eq!(read_in(&cache, &changed, Trust::Own), None);
        write_in(&cache, &changed, &binary("pc-2")).unwrap();
        assert_eq!(read_in(&cache, &changed, Trust::Own), Some(binary("pc-2")));
        let left: Vec<_> = fs::read_dir(&cache).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_is_no_cache_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::of(folder.path()).unwrap();
        for text in ["", "{}", "{\"format\": 1", "\u{0}"] {
            fs::write(file(folder.path(), &identity), text).unwrap();
            assert_eq!(read_in(folder.path(), &identity, Trust::Own), None, "{text}");
        }
        let other = NewEntry { format: FORMAT + 1, identity: &identity, binary: &binary("pc") };
        fs::write(file(folder.path(), &identity), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(read_in(folder.path(), &identity, Trust::Own), None, "of another version");
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        assert!(write_in(&blocked, &identity, &binary("pc")).is_err(), "no folder");
    }
}
