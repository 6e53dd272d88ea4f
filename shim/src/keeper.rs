//! Keeps a running guest registered while daemons come and go.
//!
//! ```text
//!            lifeline hangs up                    a daemon may have come
//!   Held ----------------------> Waiting -------------------------------> claim again
//!     ^                                                                        |
//!     +------------------------------ held ------------------------------------+
//! ```
//!
//! What a daemon that comes is told by is [`crate::waiting`]'s. A clock is used where nothing else tells: for a
//! socket that exists and takes no connection yet, and for a daemon that answers nothing or refuses.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::guest::Request;
use crate::log;
use crate::opening::{self, Lifeline, Ports};
use crate::registry::{Answer, Claim, Occasion, Registrant, Registry};
use crate::waiting::Waiting;

/// When to look again where nothing tells that it is worth it.
const RETRY: Duration = Duration::from_secs(10);

/// How long a socket that is there and takes no connection is given at first. Whoever makes one binds it,
/// which shows the file, gives it to its owner, and only then listens. It doubles each time up to [`RETRY`];
/// what does not listen by then is no daemon's, and the one that comes makes a new file.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// The guest's standing with the daemon.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// None when the guest is not to be registered.
    registration: Option<Registration>,
    state: State,
    /// How long the next socket that takes no connection is given.
    patience: Duration,
    /// The last refusal, which is not logged again and again.
    refused: Option<String>,
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
        /// None when nothing can be watched, or the guest is not to be registered.
        waiting: Option<Waiting>,
        retry_at: Option<Instant>,
    },
}

impl Keeper {
    /// A guest that is not registered and never will be.
    pub(crate) fn off() -> Self {
        Self::new(None, State::Waiting { waiting: None, retry_at: None })
    }

    /// A guest whose claim is held.
    pub(crate) fn held(registry: Registry, registrant: Registrant, claim: Claim) -> Self {
        Self::new(Some(Registration { registry, registrant }), State::Held(claim))
    }

    /// A guest that is registered as soon as a daemon comes.
    pub(crate) fn waiting(registry: Registry, registrant: Registrant) -> Self {
        // The daemon may have come since the claim was tried, before anything was watched.
        let state = State::wait(&registry, Some(FIRST_RETRY));
        Self::new(Some(Registration { registry, registrant }), state)
    }

    fn new(registration: Option<Registration>, state: State) -> Self {
        Self { registration, state, patience: FIRST_RETRY, refused: None }
    }

    /// What to poll for input and hang-up.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Held(claim) => Some(claim.as_fd()),
            State::Waiting { waiting, .. } => waiting.as_ref().map(AsFd::as_fd),
        }
    }

    /// When to call [`Self::turn`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Held(_) => None,
            State::Waiting { retry_at, .. } => *retry_at,
        }
    }

    /// Goes on after the fd became ready or the deadline passed: opens what the daemon asks for, or claims the name again
    /// if it is time. What it gives is what the daemon asks of the guest.
    pub(crate) fn turn(&mut self, ports: &Ports<'_>) -> Option<Request> {
        let Some(registration) = &self.registration else { return None };
        match &mut self.state {
            State::Held(claim) => match opening::serve(claim.as_fd(), ports) {
                Lifeline::Open => return None,
                Lifeline::Reboots => return Some(Request::Reboot),
                Lifeline::Ended => log::info(
                    "the management daemon is gone; the guest runs on and is registered when one is back",
                ),
            },
            State::Waiting { waiting, retry_at } => {
                if waiting.as_mut().is_some_and(Waiting::is_over) {
                    self.patience = FIRST_RETRY;
                } else if retry_at.is_none_or(|at| at > Instant::now()) {
                    return None;
                }
            }
        }
        // The wait begins before the claim is tried, so that a daemon that comes in between is seen.
        let Registration { registry, registrant } = registration;
        let waiting = State::wait(registry, None);
        self.state = match registry.claim(registrant, Occasion::Running) {
            Answer::Held(claim) => {
                log::info("the guest is registered");
                (self.patience, self.refused) = (FIRST_RETRY, None);
                State::Held(claim)
            }
            Answer::Refused(words) => {
                if self.refused.as_ref() != Some(&words) {
                    log::error(format_args!("the running guest is not registered: {words}"));
                }
                self.refused = Some(words);
                waiting.with_retry(RETRY)
            }
            Answer::Silent(_) => waiting.with_retry(RETRY),
            Answer::Unreachable(_)
                if registration.registry.socket.exists() && self.patience < RETRY =>
            {
                let patience = self.patience;
                self.patience *= 2;
                waiting.with_retry(patience)
            }
            Answer::Unreachable(_) => waiting,
        };
        None
    }
}

impl State {
    /// Waits for a daemon, and looks again after this time at the latest.
    fn wait(registry: &Registry, retry: Option<Duration>) -> Self {
        let waiting = Waiting::begin(registry).ok();
        // What cannot be watched is looked for now and then.
        let retry = retry.or_else(|| waiting.is_none().then_some(RETRY));
        Self::Waiting { waiting, retry_at: retry.map(|after| Instant::now() + after) }
    }

    fn with_retry(self, after: Duration) -> Self {
        match self {
            Self::Waiting { waiting, .. } => {
                Self::Waiting { waiting, retry_at: Some(Instant::now() + after) }
            }
            Self::Held(claim) => Self::Held(claim),
        }
    }
}
