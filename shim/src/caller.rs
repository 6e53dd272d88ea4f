//! The process that started this one, watched when its end is to be QEMU's (`--die-with-parent`).
//!
//! A pidfd tells of the whole process. `PR_SET_PDEATHSIG` (prctl(2)) would tell of the end of the thread that
//! forked; it serves only where the caller is in another PID namespace, as that of a container's first process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::fate::Status;

/// The signal for a caller without a pid here. It is one that asks nothing else of this program and
/// is blocked with the others.
pub(crate) const LOST: Signal = Signal::SIGUSR2;

/// The caller, if it is watched.
#[derive(Debug)]
pub(crate) struct Caller {
    pidfd: Option<OwnedFd>,
    by_signal: bool,
}

/// Why a caller is not watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    /// It has ended.
    #[error("the process that started glassbox-qemu has ended")]
    Lost,
    /// The kernel does not tell of it.
    #[error("--die-with-parent: the caller cannot be watched: {0}")]
    Unwatchable(io::Error),
}

impl CallerError {
    /// The exit status that stands for it.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Lost => Status::CallerLost,
            Self::Unwatchable(_) => Status::Internal,
        }
    }
}

impl Caller {
    /// A caller whose end is its own business.
    pub(crate) fn ignored() -> Self {
        Self { pidfd: None, by_signal: false }
    }

    /// Watches the caller. One that ended before this process asked for it cannot be told from its successor,
    /// unless its pid is `expected`.
    pub(crate) fn watch(expected: Option<i32>) -> Result<Self, CallerError> {
        let parent = getppid();
        if expected.is_some_and(|expected| Pid::from_raw(expected) != parent) {
            return Err(CallerError::Lost);
        }
        let Some(pid) = rustix::process::Pid::from_raw(parent.as_raw()) else {
            set_pdeathsig(LOST).map_err(|error| CallerError::Unwatchable(error.into()))?;
            return Ok(Self { pidfd: None, by_signal: true });
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Err(CallerError::Lost),
            Err(error) => return Err(CallerError::Unwatchable(error.into())),
        };
        // Its number may have become another process's just before.
        if getppid() == parent {
            Ok(Self { pidfd: Some(pidfd), by_signal: false })
        } else {
            Err(CallerError::Lost)
        }
    }

    /// Readable when the caller has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Looks whether it is there still.
    pub(crate) fn check(&self) -> Result<(), CallerError> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(0) => Ok(()),
            Ok(_) => Err(CallerError::Lost),
            Err(error) => Err(CallerError::Unwatchable(error.into())),
        }
    }

    /// Whether this signal says that the caller has ended.
    pub(crate) fn is_lost_by(&self, signal: i32) -> bool {
        self.by_signal && signal == LOST as i32
    }

    /// The caller has ended, and there is nothing more to hear of it.
    pub(crate) fn forget(&mut self) {
        self.pidfd = None;
    }
}
