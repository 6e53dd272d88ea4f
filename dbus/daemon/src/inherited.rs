//! The file descriptors that systemd passes at start (sd_listen_fds(3)): the only unsafe code of the daemon.

use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::Context;

/// A file descriptor and the name that the unit, or the file descriptor store, gave it.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// `FileDescriptorName=` of the socket unit, or `FDNAME=` of the store.
    pub(crate) name: String,
    /// The file descriptor, to be closed on exec.
    pub(crate) fd: OwnedFd,
}

/// Stands for the first moment of the program: main makes it once, before anything opens a file.
#[derive(Debug)]
pub(crate) struct FirstMoment(pub(crate) ());

/// Takes all file descriptors that were passed. There are none without systemd.
///
/// # Errors
/// When the variables `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` contradict each other.
// The moment is consumed, so that nobody can take the same file descriptors twice.
#[allow(clippy::needless_pass_by_value, unsafe_code)]
pub(crate) fn take(_moment: FirstMoment) -> anyhow::Result<Vec<Inherited>> {
    let passed = sd_notify::listen_fds_with_names()
        .context("the file descriptors that systemd passes cannot be taken")?;
    let take = |(raw, name)| {
        // SAFETY: `from_raw_fd` wants an open file descriptor that nobody else owns. Systemd opened these for
        // this process (LISTEN_PID names it), setting FD_CLOEXEC just worked on each, and `FirstMoment` is used
        // up, so no other part of the program has made an owner of them.
        Inherited { name, fd: unsafe { OwnedFd::from_raw_fd(raw) } }
    };
    Ok(passed.map(take).collect())
}
