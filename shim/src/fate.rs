//! How a guest ended, and the exit status that says so.

use std::process::ExitCode;

/// The end of a run of `glassbox-qemu`, in so far as QEMU was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The guest shut down, by itself or when asked to.
    Stopped,
    /// The guest panicked and `<on_crash>` says destroy.
    Panicked,
    /// The guest was asked to shut down and did not; QEMU was quit.
    StopTimeout,
    /// The process that started the shim has ended, and the guest was to end with it.
    CallerLost,
    /// QEMU ended before the guest ran.
    StartFailed(String),
    /// QEMU ended by itself.
    Crashed(String),
}

/// The exit status of `glassbox-qemu`, which is the guest's fate for whoever spawned it.
///
/// The numbers are part of the program's interface, listed in glassbox-qemu(1) under EXIT STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Success = 0,
    Internal = 1,
    // 2 is clap's, for a wrong command line.
    Definition = 3,
    HostFile = 4,
    Claim = 5,
    StartFailed = 6,
    Crashed = 7,
    Panicked = 8,
    StopTimeout = 9,
    CallerLost = 10,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl Fate {
    /// The exit status that stands for this end.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Stopped => Status::Success,
            Self::Panicked => Status::Panicked,
            Self::StopTimeout => Status::StopTimeout,
            Self::CallerLost => Status::CallerLost,
            Self::StartFailed(_) => Status::StartFailed,
            Self::Crashed(_) => Status::Crashed,
        }
    }

    /// One line for `systemctl status` and the log.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Stopped => "the guest is shut down".to_owned(),
            Self::Panicked => "the guest panicked".to_owned(),
            Self::StopTimeout => "the guest did not power down in time; QEMU was quit".to_owned(),
            Self::CallerLost => {
                "the process that started glassbox-qemu has ended, and the guest with it".to_owned()
            }
            Self::StartFailed(words) => format!("the guest was not started: {words}"),
            Self::Crashed(words) => format!("the guest is lost: {words}"),
        }
    }
}
