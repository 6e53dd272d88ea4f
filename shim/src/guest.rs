//! The life of one guest as a state machine: what happens goes in, what to do comes out.
//!
//! ```text
//!           greeting        capabilities      consoles known
//! Greeting ----------> Negotiating -------> Asking -------> Preparing: orders, then cont, or none yet
//!                                                               |
//!            +--------------------------------------------------+---------------+
//!            | no cont                   | cont done                            | a migration is awaited
//!            v                           v                                      v
//!          Paused <------------------> Running <-- it came in as it was -- Incoming --> Paused
//!                                        |
//!                                        | stop asked: powerdown with a deadline
//!                                        v
//!                                   PoweringOff
//!                                        | guest shut down, panicked, or the deadline passed,
//!                                        v from any phase on: `quit` with a deadline
//!                                    Quitting
//!                                        | deadline passed: SIGKILL
//!                                        v
//!                                     Killed     QEMU's process ended, at any time: Effect::Finish(fate)
//! ```
//!
//! Asking is left out where there is no console. QEMU is asked for its threads before Preparing (Pinning) where some
//! are pinned.
//!
//! It has no clock, no socket and no process: [`crate::supervise`] has those, feeds [`Input`]s and carries
//! [`Effect`]s out in order.

mod beginning;
mod command;
mod ending;
mod events;
mod messages;
mod requests;

pub(crate) use command::Command;
pub(crate) use messages::{ConsolePath, Effect, Ended, Input, Request, Standing};

use crate::fate::Fate;
use crate::pinning::Threads;

/// What is done when the guest shuts down, resets or panics; of `<on_poweroff>`, `<on_reboot>`, `<on_crash>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// QEMU ends.
    Destroy,
    /// The guest starts anew in the same QEMU.
    Restart,
    /// QEMU stays with its CPUs stopped, for somebody to look at.
    Preserve,
}

/// The actions of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actions {
    pub(crate) on_poweroff: Action,
    pub(crate) on_reboot: Action,
    pub(crate) on_crash: Action,
    /// Whether the guest's memory is written to a file before that.
    pub(crate) dumps: bool,
}

/// What is done with a guest before the start is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Whether there are ptys to be asked for.
    pub(crate) has_consoles: bool,
    /// Whether there are threads to be asked for and pinned.
    pub(crate) has_threads: bool,
    /// How many orders there are to give before the CPUs run.
    pub(crate) orders: usize,
    /// Whether the CPUs are started then. Somebody else does it otherwise, or a migration.
    pub(crate) resumes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Negotiating,
    Asking,
    Pinning,
    Preparing,
    Incoming,
    Running,
    Paused,
    /// The guest panicked and its memory is being written to a file.
    Dumping,
    PoweringOff,
    Quitting,
    Killed,
}

/// One guest's life. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Guest {
    phase: Phase,
    actions: Actions,
    beginning: Beginning,
    /// Why the monitor is of no use any more, when it is not.
    monitor_lost: Option<String>,
    /// The threads that QEMU told of.
    threads: Threads,
    /// The CPUs ran at least once.
    started: bool,
    /// The guest is shut down, its CPUs stopped for good until a reset.
    shut_down: bool,
    interrupted: bool,
    /// The guest was asked to shut down in order to be started anew.
    rebooting: bool,
    /// A reset was sent to a guest that is shut down. QEMU takes `cont` only once the reset is done.
    restarting: bool,
    /// What was decided, if QEMU ends as it was told to.
    fate: Option<Fate>,
}

impl Guest {
    /// A guest whose QEMU was just started and runs no CPU yet.
    pub(crate) fn new(actions: Actions, beginning: Beginning) -> Self {
        Self {
            phase: Phase::Greeting,
            actions,
            beginning,
            monitor_lost: None,
            threads: Threads::default(),
            started: false,
            shut_down: false,
            interrupted: false,
            rebooting: false,
            restarting: false,
            fate: None,
        }
    }

    /// Takes what happened; says what to do, in this order.
    pub(crate) fn handle(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Greeting => self.greeted(),
            Input::Reply(command, Ok(value)) => self.done(command, &value),
            Input::Reply(command, Err(error)) => self.failed(command, &error),
            Input::Event(event) => self.event(&event),
            Input::MonitorLost(why) => self.monitor_lost(why),
            Input::Pinned(done) => self.pinned(done),
            Input::Request(request) => self.request(request),
            Input::NotReady(words) => self.not_ready(words),
            Input::DeadlinePassed => self.deadline_passed(),
            Input::Ended(ended) => vec![Effect::Finish(self.end(ended))],
        }
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
