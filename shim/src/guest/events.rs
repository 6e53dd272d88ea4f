//! What QEMU tells of its guest by itself.

use qmp::Event;

use super::ending::QUIT_TIMEOUT;
use super::{Action, Command, Effect, Guest, Phase};
use crate::fate::Fate;

impl Guest {
    pub(super) fn event(&mut self, event: &Event) -> Vec<Effect> {
        match event.name.as_str() {
            "SHUTDOWN" => self.guest_shut_down(event.text("reason").unwrap_or("guest-shutdown")),
            "GUEST_PANICKED" if event.text("action") != Some("run") => self.guest_panicked(),
            "DUMP_COMPLETED" => self.dumped(event.text("error")),
            "STOP" => self.paused("paused"),
            // QEMU tells that it is through after it has let the guest run, if it ran where it came from.
            "MIGRATION"
                if self.phase == Phase::Incoming && event.text("status") == Some("completed") =>
            {
                self.phase = Phase::Paused;
                vec![Effect::Status("paused, as it came in".to_owned())]
            }
            "RESUME" => self.resumed(),
            "RESET" if std::mem::take(&mut self.restarting) => vec![Effect::Send(Command::Cont)],
            "BLOCK_IO_ERROR" if event.text("action") == Some("stop") => {
                let device = event.text("node-name").or(event.text("device")).unwrap_or("a disk");
                let what = format!("paused by an I/O error on {device}");
                let mut effects = self.paused(&what);
                effects.push(Effect::Warn(what));
                effects
            }
            // QEMU has many more, which concern the management daemon and not the guest's life.
            _ => Vec::new(),
        }
    }

    fn paused(&mut self, what: &str) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Running | Phase::Paused) || self.shut_down {
            return Vec::new();
        }
        self.phase = Phase::Paused;
        vec![Effect::Status(what.to_owned())]
    }

    fn resumed(&mut self) -> Vec<Effect> {
        self.shut_down = false;
        if !matches!(self.phase, Phase::Paused | Phase::Incoming) {
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.started = true;
        vec![Effect::Status("running".to_owned())]
    }

    fn guest_shut_down(&mut self, reason: &str) -> Vec<Effect> {
        if matches!(self.phase, Phase::Quitting | Phase::Killed) {
            return Vec::new();
        }
        // The reasons are those of `ShutdownCause` in QEMU's qapi/run-state.json.
        match reason {
            // QEMU ends by itself on these: somebody sent quit over another monitor, or a signal.
            "host-qmp-quit" | "host-signal" => {
                self.phase = Phase::Quitting;
                self.fate.get_or_insert(Fate::Stopped);
                vec![Effect::Stopping, Effect::Deadline(Some(QUIT_TIMEOUT))]
            }
            "guest-panic" => self.guest_panicked(),
            _ if self.phase == Phase::Dumping => Vec::new(),
            _ if self.phase == Phase::PoweringOff => self.quit(Fate::Stopped),
            "guest-reset" | "host-qmp-system-reset" => {
                self.rebooting = false;
                self.act(self.actions.on_reboot, "rebooted", Fate::Stopped)
            }
            _ if std::mem::take(&mut self.rebooting) => {
                self.act(self.actions.on_reboot, "shut down to reboot", Fate::Stopped)
            }
            _ => self.act(self.actions.on_poweroff, "shut down", Fate::Stopped),
        }
    }

    pub(super) fn guest_panicked(&mut self) -> Vec<Effect> {
        if matches!(self.phase, Phase::Dumping | Phase::Quitting | Phase::Killed) {
            return Vec::new();
        }
        if self.phase == Phase::PoweringOff {
            return self.quit(Fate::Panicked);
        }
        if self.actions.dumps && !self.shut_down {
            self.phase = Phase::Dumping;
            return vec![
                Effect::Warn("the guest panicked".to_owned()),
                Effect::Status("the guest panicked; writing its memory to a file".to_owned()),
                Effect::Send(Command::Dump),
            ];
        }
        let mut effects = self.after_panic();
        if !effects.is_empty() {
            effects.insert(0, Effect::Warn("the guest panicked".to_owned()));
        }
        effects
    }

    /// The memory is written, or cannot be for this reason.
    pub(super) fn dumped(&mut self, error: Option<&str>) -> Vec<Effect> {
        if self.phase != Phase::Dumping {
            return Vec::new();
        }
        self.phase = Phase::Paused;
        let why =
            error.map(|why| Effect::Warn(format!("the guest's memory is not written: {why}")));
        why.into_iter().chain(self.after_panic()).collect()
    }

    fn after_panic(&mut self) -> Vec<Effect> {
        self.act(self.actions.on_crash, "panicked", Fate::Panicked)
    }

    fn act(&mut self, action: Action, what: &str, fate: Fate) -> Vec<Effect> {
        match action {
            Action::Destroy => self.quit(fate),
            // It has been told so already; QEMU tells of a panic twice.
            Action::Restart if self.restarting => Vec::new(),
            Action::Preserve if self.shut_down => Vec::new(),
            Action::Restart => {
                self.restarting = true;
                // The shim's own reset must not be held as one of the guest's, nor the second one that SeaBIOS
                // does when it finds that it ran before. Nobody tells when that is over, so a guest that was
                // started anew resets freely from then on.
                let freed = self.holds_reboots().then_some(Effect::Send(Command::RebootResets));
                let status = Effect::Status(format!("the guest {what}; starting it anew"));
                let reset = Effect::Send(Command::Reset);
                [Some(status), freed, Some(reset)].into_iter().flatten().collect()
            }
            Action::Preserve => {
                self.phase = Phase::Paused;
                self.shut_down = true;
                vec![Effect::Status(format!("the guest {what}; QEMU is kept as it is"))]
            }
        }
    }
}
