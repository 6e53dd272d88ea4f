//! Watches directories, also ones that are not there yet: of those the nearest one above that is.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

/// Something in a directory comes, goes, was written or may be read now.
const CONTENT: WatchFlags = APPEARANCE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE);

/// Something appears in a directory, or the directory itself goes.
const APPEARANCE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Directories that are watched.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Tokio's end of a pipe serves inotify as well: waiting and reading are the same.
    events: Receiver,
    directories: Vec<PathBuf>,
    /// What the kernel calls what it watches.
    watched: BTreeSet<i32>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the user has too many watches already (inotify(7)).
    pub(crate) fn begin(directories: &[PathBuf]) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = Receiver::from_owned_fd_unchecked(events)?;
        let mut watch =
            Self { events, directories: directories.to_vec(), watched: BTreeSet::new() };
        watch.renew();
        Ok(watch)
    }

    /// Returns when something may have changed.
    pub(crate) async fn changed(&self) {
        if self.events.readable().await.is_err() {
            // The runtime is shutting down.
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what changed until now, and watches the directories that are there now.
    pub(crate) fn renew(&mut self) {
        self.forget();
        let now: BTreeSet<i32> = self
            .directories
            .iter()
            .filter_map(|directory| nearest(self.events.as_fd(), directory))
            .collect();
        for stale in self.watched.difference(&now) {
            // The kernel has removed that of a directory that is gone.
            let _ = inotify::remove_watch(self.events.as_fd(), *stale);
        }
        self.watched = now;
    }

    /// Reads all events; what they say does not matter.
    fn forget(&self) {
        let mut buffer = [0; 4096];
        while self.events.try_read(&mut buffer).is_ok() {}
    }
}

/// Watches a directory or, while that is missing, the nearest one above it.
fn nearest(events: BorrowedFd<'_>, directory: &Path) -> Option<i32> {
    directory.ancestors().enumerate().find_map(|(above, path)| {
        let flags = if above == 0 { CONTENT } else { APPEARANCE };
        match inotify::add_watch(events, path, flags) {
            Ok(watch) => Some(Some(watch)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => {
                tracing::warn!("{}: {error}; changes there are not seen", path.display());
                Some(None)
            }
        }
    })?
}
