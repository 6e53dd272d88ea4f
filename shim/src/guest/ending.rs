//! QEMU's end: asked for, overdue, or found.

use std::time::Duration;

use super::{Command, Effect, Ended, Guest, Phase};
use crate::fate::Fate;

/// How long QEMU may take to end after it was told to quit, flushing disks included, before it is killed.
pub(super) const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a QEMU that nobody is left to wait for.
pub(super) const LOST_TIMEOUT: Duration = Duration::from_millis(50);

impl Guest {
    pub(super) fn deadline_passed(&mut self) -> Vec<Effect> {
        match self.phase {
            Phase::PoweringOff => {
                let mut effects = vec![Effect::Warn(
                    "the guest did not power down in time; quitting QEMU, disks flushed".to_owned(),
                )];
                effects.extend(self.quit(Fate::StopTimeout));
                effects
            }
            Phase::Quitting => {
                self.phase = Phase::Killed;
                vec![Effect::Warn("QEMU does not quit; killing it".to_owned()), Effect::Kill]
            }
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Preparing => {
                let late = || "QEMU did not answer its monitor in time".to_owned();
                let why = self.monitor_lost.take().unwrap_or_else(late);
                self.kill(Fate::StartFailed(why))
            }
            Phase::Incoming | Phase::Running | Phase::Paused | Phase::Dumping | Phase::Killed => {
                Vec::new()
            }
        }
    }

    /// A guest that is not ready in time is like one that never ran.
    pub(super) fn not_ready(&mut self, words: String) -> Vec<Effect> {
        if matches!(self.phase, Phase::Quitting | Phase::Killed) {
            return Vec::new();
        }
        self.quit(Fate::StartFailed(words))
    }

    pub(super) fn kill(&mut self, fate: Fate) -> Vec<Effect> {
        self.phase = Phase::Killed;
        self.fate = Some(fate);
        vec![Effect::Kill]
    }

    pub(super) fn quit(&mut self, fate: Fate) -> Vec<Effect> {
        self.phase = Phase::Quitting;
        self.fate = Some(fate);
        let ask = match self.monitor_lost {
            Some(_) => Effect::Terminate,
            None => Effect::Send(Command::Quit),
        };
        vec![Effect::Stopping, ask, Effect::Deadline(Some(QUIT_TIMEOUT))]
    }

    pub(super) fn monitor_lost(&mut self, why: String) -> Vec<Effect> {
        let why = self.monitor_lost.insert(why);
        match self.phase {
            // QEMU closes its monitor when it ends, which is seen on its process a moment later.
            Phase::Quitting | Phase::Killed => Vec::new(),
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Preparing => {
                vec![Effect::Deadline(Some(QUIT_TIMEOUT))]
            }
            Phase::Incoming | Phase::Running | Phase::Paused => {
                vec![Effect::Warn(format!(
                    "{why}; the guest runs on and can only be stopped by ending QEMU"
                ))]
            }
            Phase::Dumping => self.quit(Fate::Panicked),
            Phase::PoweringOff => self.quit(Fate::Stopped),
        }
    }

    pub(super) fn end(&mut self, ended: Ended) -> Fate {
        let decided = self.fate.take();
        match (ended, decided) {
            (Ended::Exited(0), Some(fate)) => fate,
            (Ended::Signalled(_), Some(fate)) if self.phase == Phase::Killed => fate,
            (Ended::Exited(0), None) if self.started => Fate::Stopped,
            (Ended::Exited(status), Some(Fate::StartFailed(words))) => {
                Fate::StartFailed(format!("{words} (it ended with status {status})"))
            }
            (Ended::Exited(status), _) if !self.started => {
                // Its standard error is the caller's own, for good: what it said stands there, before this.
                Fate::StartFailed(format!(
                    "QEMU ended with status {status} before the guest ran, and said why before this"
                ))
            }
            (Ended::Exited(status), _) => Fate::Crashed(format!("QEMU ended with status {status}")),
            (Ended::Signalled(signal), _) => {
                Fate::Crashed(format!("QEMU was killed by {}", signal_name(signal)))
            }
        }
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}
