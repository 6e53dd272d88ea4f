//! What goes into the state machine, and what comes out.

use std::time::Duration;

use qmp::{CommandError, Event};
use serde_json::Value;

use super::Command;
use crate::fate::Fate;
use crate::pinning::Threads;

/// What somebody outside asks for, by a signal or by ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The guest is to shut down; after the timeout QEMU is quit.
    Stop {
        /// None waits for ever.
        timeout: Option<Duration>,
    },
    /// The guest's power button is pressed, and that is all.
    Poweroff,
    /// The guest's power button is pressed, and once it has shut down it is started anew.
    Reboot,
    /// The guest's reset button is pressed.
    Reset,
    /// As `Stop`; the second time QEMU is quit at once.
    Interrupt {
        /// None waits for ever.
        timeout: Option<Duration>,
    },
    /// QEMU is quit at once, disks flushed.
    Quit,
    /// QEMU is killed at once, for it does not answer.
    Abort,
    /// The process that the guest was to end with has ended.
    CallerLost,
}

/// How QEMU's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signalled(i32),
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    Greeting,
    Reply(Command, Result<Value, CommandError>),
    Event(Event),
    /// The monitor is of no use any more, for this reason.
    MonitorLost(String),
    /// What [`Effect::Pin`] came to: the reason if it failed.
    Pinned(Result<(), String>),
    Request(Request),
    /// The guest does not say that it is ready, for this reason.
    NotReady(String),
    /// The deadline that [`Effect::Deadline`] set has passed.
    DeadlinePassed,
    Ended(Ended),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Send(Command),
    Consoles(Vec<ConsolePath>),
    /// Pin these threads and feed [`Input::Pinned`].
    Pin(Threads),
    /// The start is over: tell the service manager.
    Ready(Standing),
    /// The guest is going down: tell the service manager.
    Stopping,
    /// One line on what the guest does, for `systemctl status`.
    Status(String),
    /// One line for the log.
    Warn(String),
    /// Feed `DeadlinePassed` after this time, instead of any earlier deadline; none unsets it.
    Deadline(Option<Duration>),
    /// Send QEMU the signal on which it flushes and ends, for the monitor is lost.
    Terminate,
    Kill,
    /// QEMU has ended and this is how; nothing comes after.
    Finish(Fate),
}

/// What a guest does once its start is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    /// Its CPUs wait for somebody to let them run.
    Paused,
    /// It waits for a migration.
    Incoming,
}

/// A console whose pty QEMU has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsolePath {
    /// QEMU's id of the character device.
    pub(crate) chardev: String,
    /// The pty, `/dev/pts/3`.
    pub(crate) path: String,
}
