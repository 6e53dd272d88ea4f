//! The host as a guest's sandbox leaves it to the shim.
//!
//! In the sandbox of qemu@.service nothing of the host's `/run` can be seen but the guest's own directory, so that a
//! QEMU that was broken into finds neither the registry nor another guest. The shim has a file descriptor of the
//! folder instead, which QEMU does not inherit, and goes through that.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};
use zbus::connection::Builder;

/// The host's folders, where this process sees others.
static FOLDERS: OnceLock<Folders> = OnceLock::new();

/// Folders of the host.
#[derive(Debug)]
pub(crate) struct Folders {
    /// `/run`.
    pub(crate) run: OwnedFd,
    /// `/proc`, which tells who holds a name that this guest may not have.
    pub(crate) proc: OwnedFd,
}

/// The usual path of what [`run`] leads to.
pub(crate) const USUAL_RUN: &str = "/run";

/// Goes through these folders from now on. The first ones count.
pub(crate) fn adopt(folders: Folders) {
    // Others are closed, and nothing is lost by it: they are the same folders.
    drop(FOLDERS.set(folders));
}

/// Where the host's `/proc` is for this process.
pub(crate) fn proc() -> PathBuf {
    FOLDERS.get().map_or_else(|| PathBuf::from("/proc"), |folders| path(&folders.proc))
}

fn path(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Where the host's `/run` is for this process.
pub(crate) fn run() -> PathBuf {
    adopted().unwrap_or_else(|| PathBuf::from(USUAL_RUN))
}

/// Where the host's `/run` is, if this process sees another one at the usual path.
pub(crate) fn adopted() -> Option<PathBuf> {
    Some(path(&FOLDERS.get()?.run))
}

/// A path as people know it.
pub(crate) fn usual(path: &Path) -> PathBuf {
    let below = adopted().and_then(|run| path.strip_prefix(run).ok().map(Path::to_owned));
    below.map_or_else(|| path.to_owned(), |below| Path::new(USUAL_RUN).join(below))
}

/// The way to the host's system bus.
pub(crate) fn system_bus() -> Builder<'static> {
    match adopted() {
        Some(run) if std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() => {
            Builder::address(&*format!("unix:path={}/dbus/system_bus_socket", run.display()))
        }
        Some(_) | None => Builder::system(),
    }
}

/// Moves this process into the mount and network namespaces of the service manager, which are the host's.
///
/// systemd runs a command with a plus sign (systemd.service(5)) as root, but with the root directory, the mounts and
/// the network of its unit. Only a process of one thread can move (setns(2)).
pub(crate) fn enter() -> io::Result<()> {
    // Both are opened first: the host's /proc need not be the unit's.
    let spaces = ["/proc/1/ns/mnt", "/proc/1/ns/net"].map(File::open);
    let [mount, network] = spaces;
    setns(mount?, CloneFlags::CLONE_NEWNS)?;
    setns(network?, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}
