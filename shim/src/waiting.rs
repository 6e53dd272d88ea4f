//! What a guest without a claim waits for: that a daemon's socket appears, or its name on the bus.
//!
//! Nothing is polled by a clock where the kernel or the bus can tell. A directory that is not there is waited for
//! in the nearest one above it that is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::bell::{self, Bell, Ring};
use crate::registry::Registry;

/// Something appears in a directory, or the directory itself goes away.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What is waited for. Made before a claim is tried, it sees a daemon that comes right after.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// One file descriptor for all of it.
    all: Epoll,
    files: Inotify,
    bell: Option<Bell>,
}

impl Waiting {
    /// Begins to wait for a daemon.
    ///
    /// # Errors
    /// When a directory cannot be watched, for lack of rights or of file descriptors.
    pub(crate) fn begin(registry: &Registry) -> io::Result<Self> {
        let all = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        all.add(&files, readable())?;
        watch(&files, &registry.socket)?;
        let bell = if registry.bus { hang(&files)? } else { None };
        if let Some(bell) = &bell {
            all.add(bell, readable())?;
        }
        Ok(Self { all, files, bell })
    }

    /// Whether a daemon may have come. Waits for nothing.
    pub(crate) fn is_over(&mut self) -> bool {
        // An overflow is an event as well; what the events say does not matter.
        let appeared = self.files.read_events().is_ok_and(|events| !events.is_empty());
        let rung = self.bell.as_mut().is_some_and(|bell| match bell.listen() {
            Ring::Silence => false,
            Ring::Rung | Ring::Broken => true,
        });
        appeared || rung
    }
}

impl AsFd for Waiting {
    /// Readable when [`Self::is_over`] may say so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all.0.as_fd()
    }
}

fn readable() -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, 0)
}

/// A bell on the system bus, or, where there is no bus yet, a watch for the bus's socket.
fn hang(files: &Inotify) -> io::Result<Option<Bell>> {
    let Some(path) = bell::system_bus() else { return Ok(None) };
    if let Ok(bell) = Bell::hang() {
        return Ok(Some(bell));
    }
    watch(files, &path)?;
    // It may have come in between.
    Ok(Bell::hang().ok())
}

/// Watches for a file: in its directory, or in the nearest one above that is there.
fn watch(files: &Inotify, path: &Path) -> io::Result<()> {
    loop {
        let mut missing = path.to_owned();
        let watched = loop {
            let directory = parent(&missing);
            match files.add_watch(&directory, CHANGES) {
                Ok(_) => break directory,
                Err(Errno::ENOENT | Errno::ENOTDIR) if directory != missing => missing = directory,
                Err(error) => return Err(error.into()),
            }
        };
        // A directory that was made before the watch was is in nobody's event.
        if watched == parent(path) || !missing.exists() {
            return Ok(());
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn begin(socket: &Path) -> Waiting {
        Waiting::begin(&Registry { socket: socket.to_owned(), bus: false }).unwrap()
    }

    /// Each step of a directory's coming, going and coming back is seen, and what happens elsewhere is not.
    #[test]
    fn a_socket_is_waited_for_from_the_root_down() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run/glassbox");
        let socket = directory.join("registry");
        for _ in 0..2 {
            let mut waiting = begin(&socket);
            assert!(!waiting.is_over());
            fs::create_dir(folder.path().join("run")).unwrap();
            assert!(waiting.is_over());
            let mut waiting = begin(&socket);
            fs::create_dir(&directory).unwrap();
            assert!(waiting.is_over());
            let mut waiting = begin(&socket);
            fs::write(folder.path().join("run/other"), "").unwrap();
            fs::create_dir(directory.join("guest")).unwrap();
            let _ = waiting.is_over();
            fs::write(folder.path().join("run/other"), "more").unwrap();
            assert!(!waiting.is_over());
            fs::write(&socket, "").unwrap();
            assert!(waiting.is_over());
            let mut waiting = begin(&socket);
            fs::remove_dir_all(&directory).unwrap();
            assert!(waiting.is_over(), "the directory went");
            fs::remove_dir_all(folder.path().join("run")).unwrap();
        }
    }
}
