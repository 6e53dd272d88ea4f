//! What somebody outside asks of a guest.

use std::time::Duration;

use super::ending::LOST_TIMEOUT;
use super::{Command, Effect, Guest, Phase, Request};
use crate::fate::Fate;

impl Guest {
    pub(super) fn request(&mut self, request: Request) -> Vec<Effect> {
        match (request, self.phase) {
            (_, Phase::Killed) => Vec::new(),
            (Request::Abort, _) => self.abort(),
            (Request::CallerLost, _) => self.caller_lost(),
            (_, Phase::Quitting) => Vec::new(),
            (Request::Quit, _) => self.quit(Fate::Stopped),
            (Request::Interrupt { .. }, _) if self.interrupted => self.quit(Fate::Stopped),
            (Request::Interrupt { timeout }, _) => {
                self.interrupted = true;
                self.stop(timeout)
            }
            (Request::Stop { timeout }, _) => self.stop(timeout),
            (Request::Reboot, Phase::Running | Phase::Paused) if self.started => self.reboot(),
            (Request::Reboot, _) => Vec::new(),
            (Request::Poweroff, Phase::Running) => {
                self.rebooting = false;
                vec![Effect::Status("powering off".to_owned()), Effect::Send(Command::Powerdown)]
            }
            (Request::Poweroff, Phase::Paused) if self.started => self.wake_for_powerdown(),
            (Request::Poweroff, Phase::PoweringOff) => vec![Effect::Send(Command::Powerdown)],
            (Request::Reset, Phase::Running | Phase::Paused | Phase::PoweringOff) => {
                vec![Effect::Send(Command::Reset)]
            }
            // A guest that panicked sees no button.
            (Request::Poweroff, Phase::Dumping) => Vec::new(),
            // No guest runs yet: there is nobody to ask, and nothing to reset.
            (Request::Poweroff, _) => self.quit(Fate::Stopped),
            (Request::Reset, _) => Vec::new(),
        }
    }

    /// An orderly reboot as libvirt has it: to the guest it is a power button, and only its end makes it a reboot.
    fn reboot(&mut self) -> Vec<Effect> {
        self.rebooting = true;
        let wake = (self.phase == Phase::Paused).then_some(Effect::Send(Command::Cont));
        let press = [Effect::Status("rebooting".to_owned()), Effect::Send(Command::Powerdown)];
        wake.into_iter().chain(press).collect()
    }

    /// Who does not answer cannot be asked to quit.
    fn abort(&mut self) -> Vec<Effect> {
        let words = "it was aborted, as a watchdog does when QEMU does not answer";
        let kill = self.kill(Fate::Crashed(words.to_owned()));
        [vec![Effect::Stopping], kill].concat()
    }

    /// QEMU ends now, with its disks flushed if it manages at once.
    fn caller_lost(&mut self) -> Vec<Effect> {
        match self.phase {
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Preparing => self.kill(Fate::CallerLost),
            Phase::Incoming
            | Phase::Running
            | Phase::Paused
            | Phase::Dumping
            | Phase::PoweringOff => {
                let mut effects = self.quit(Fate::CallerLost);
                effects.push(Effect::Deadline(Some(LOST_TIMEOUT)));
                effects
            }
            Phase::Quitting => vec![Effect::Deadline(Some(LOST_TIMEOUT))],
            Phase::Killed => Vec::new(),
        }
    }

    fn stop(&mut self, timeout: Option<Duration>) -> Vec<Effect> {
        if self.monitor_lost.is_some() {
            return self.quit(Fate::Stopped);
        }
        let ask = match self.phase {
            Phase::PoweringOff => return Vec::new(),
            Phase::Dumping => return self.quit(Fate::Panicked),
            // Who gives it no time wants QEMU's end, as that of any other process.
            Phase::Running | Phase::Paused if timeout == Some(Duration::ZERO) => {
                return self.quit(Fate::Stopped);
            }
            Phase::Running => vec![Effect::Send(Command::Powerdown)],
            Phase::Paused if self.started && !self.shut_down => self.wake_for_powerdown(),
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Preparing
            | Phase::Incoming
            | Phase::Paused
            | Phase::Quitting
            | Phase::Killed => return self.quit(Fate::Stopped),
        };
        self.phase = Phase::PoweringOff;
        let mut effects =
            vec![Effect::Stopping, Effect::Status("asked the guest to power down".to_owned())];
        effects.extend(ask);
        effects.push(Effect::Deadline(timeout));
        effects
    }

    /// A paused guest would never see its power button, and has data in its caches.
    fn wake_for_powerdown(&mut self) -> Vec<Effect> {
        vec![Effect::Send(Command::Cont), Effect::Send(Command::Powerdown)]
    }
}
