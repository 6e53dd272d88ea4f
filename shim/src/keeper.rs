//! Keeps a running guest registered while daemons come and go.
//!
//! ```text
//!            lifeline hangs up                    the socket appears, or a while has passed
//!   Held ----------------------> Waiting ------------------------------------------> claim again
//!     ^                                                                                   |
//!     +----------------------------------- held ------------------------------------------+
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::log;
use crate::registry::{Answer, Claim, Registrant, Registry};

/// How long a claim is waited for when the directory of the socket cannot be watched, or a daemon was there
/// and gave none.
const RETRY: Duration = Duration::from_secs(10);

/// How long a socket that is there and takes no connection is given at first. Whoever makes one binds it,
/// which shows the file, gives it to its owner, and only then listens.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The guest's standing with the daemon.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// None when the guest is not to be registered.
    registration: Option<Registration>,
    state: State,
    /// How long the next socket that takes no connection is given; it doubles each time, up to [`RETRY`].
    patience: Duration,
}

#[derive(Debug)]
struct Registration {
    registry: Registry,
    registrant: Registrant,
}

#[derive(Debug)]
enum State {
    Held(Claim),
    Waiting {
        /// A watch on the directory of the socket; readable when something appears in it.
        watch: Option<Inotify>,
        retry_at: Option<Instant>,
    },
}

impl Keeper {
    /// A guest that is not registered and never will be.
    pub(crate) fn off() -> Self {
        let state = State::Waiting { watch: None, retry_at: None };
        Self { registration: None, state, patience: FIRST_RETRY }
    }

    /// A guest whose claim is held.
    pub(crate) fn held(registry: Registry, registrant: Registrant, claim: Claim) -> Self {
        Self {
            registration: Some(Registration { registry, registrant }),
            state: State::Held(claim),
            patience: FIRST_RETRY,
        }
    }

    /// A guest that is registered as soon as a daemon comes.
    pub(crate) fn waiting(registry: Registry, registrant: Registrant) -> Self {
        // The socket may have appeared since the claim was tried, before there was a watch.
        let state = State::wait(&registry).with_retry(FIRST_RETRY);
        Self {
            registration: Some(Registration { registry, registrant }),
            state,
            patience: FIRST_RETRY,
        }
    }

    /// What to poll for input and hang-up.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Held(claim) => Some(claim.as_fd()),
            State::Waiting { watch, .. } => watch.as_ref().map(AsFd::as_fd),
        }
    }

    /// When to call [`Self::turn`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Held(_) => None,
            State::Waiting { retry_at, .. } => *retry_at,
        }
    }

    /// Goes on after the fd became ready or the deadline passed: claims the name again.
    pub(crate) fn turn(&mut self) {
        let Some(registration) = &self.registration else { return };
        if matches!(self.state, State::Held(_)) {
            log::info(
                "the management daemon is gone; the guest runs on and is registered when one is back",
            );
        }
        // The watch is made before the claim is tried, so that a socket that appears in between is seen.
        let waiting = State::wait(&registration.registry);
        self.state = match registration.registry.claim(&registration.registrant) {
            Answer::Held(claim) => {
                log::info("the guest is registered");
                self.patience = FIRST_RETRY;
                State::Held(claim)
            }
            Answer::Refused(words) => {
                log::error(format_args!("the running guest is not registered: {words}"));
                waiting.with_retry(RETRY)
            }
            Answer::Unreachable(_) if registration.registry.socket.exists() => {
                let patience = self.patience;
                self.patience = (patience * 2).min(RETRY);
                waiting.with_retry(patience)
            }
            Answer::Unreachable(_) => {
                self.patience = FIRST_RETRY;
                waiting
            }
        };
    }
}

impl State {
    fn wait(registry: &Registry) -> Self {
        let directory = registry.directory();
        let watch =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).and_then(|watch| {
                let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
                watch.add_watch(directory, flags).map(|_| watch)
            });
        match watch {
            Ok(watch) => Self::Waiting { watch: Some(watch), retry_at: None },
            // Without the directory there is nothing to watch; looking now and then finds it.
            Err(_) => Self::Waiting { watch: None, retry_at: Some(Instant::now() + RETRY) },
        }
    }

    fn with_retry(self, after: Duration) -> Self {
        match self {
            Self::Waiting { watch, .. } => {
                Self::Waiting { watch, retry_at: Some(Instant::now() + after) }
            }
            Self::Held(claim) => Self::Held(claim),
        }
    }
}
