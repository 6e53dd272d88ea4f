//! The life of one guest as a state machine: what happens goes in, what to do comes out.
//!
//! ```text
//!            greeting       capabilities      consoles known       cont done
//! Greeting ----------> Negotiating ----------> Asking ----------> Resuming ----------> Running <-> Paused
//!                                                                                        |
//!                        stop asked: powerdown with a deadline                           v
//!                                                                                    PoweringOff
//!       guest shut down, panicked, or the deadline passed: `quit` with a deadline        |
//!                                                                                        v
//!                                 deadline passed: SIGKILL                            Quitting
//!                                                                                        |
//!                                            QEMU's process ended: Effect::Finish(fate)  v
//! ```
//!
//! Asking is left out where there is no console, and before Resuming QEMU's threads are asked for and pinned
//! (Pinning) where the plan says something of them.
//!
//! It has no clock, no socket and no process: [`crate::supervise`] has those, feeds [`Input`]s and carries
//! [`Effect`]s out in order.

use std::time::Duration;

use qmp::{CommandError, Event};
use serde_json::{Value, json};

use crate::fate::Fate;
use crate::pinning::Threads;

/// How long QEMU may take to end after it was told to quit, flushing disks included, before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

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
}

/// A console whose pty QEMU has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsolePath {
    /// QEMU's id of the character device.
    pub(crate) chardev: String,
    /// The pty, `/dev/pts/3`.
    pub(crate) path: String,
}

/// What is sent over QMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Capabilities,
    QueryChardev,
    QueryCpus,
    QueryIothreads,
    /// A reset by the guest stops QEMU's CPUs and tells, instead of starting the guest anew.
    RebootShutsDown,
    /// A reset starts the guest anew, as QEMU does unless told otherwise.
    RebootResets,
    /// The order with this index of those that go before the guest runs, see [`crate::orders`].
    Order(usize),
    Cont,
    Powerdown,
    Reset,
    Quit,
}

impl Command {
    /// QMP's name of the command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::QueryChardev => "query-chardev",
            Self::QueryCpus => "query-cpus-fast",
            Self::QueryIothreads => "query-iothreads",
            // Of QEMU 6.0 and later, qapi/run-state.json.
            Self::RebootShutsDown | Self::RebootResets => "set-action",
            Self::Order(_) => "to prepare the guest",
            Self::Cont => "cont",
            Self::Powerdown => "system_powerdown",
            Self::Reset => "system_reset",
            Self::Quit => "quit",
        }
    }

    /// Its arguments as a JSON object, or null.
    pub(crate) fn arguments(self) -> Value {
        match self {
            Self::RebootShutsDown => json!({ "reboot": "shutdown" }),
            Self::RebootResets => json!({ "reboot": "reset" }),
            Self::Capabilities
            | Self::QueryChardev
            | Self::QueryCpus
            | Self::QueryIothreads
            | Self::Order(_)
            | Self::Cont
            | Self::Powerdown
            | Self::Reset
            | Self::Quit => Value::Null,
        }
    }
}

/// What somebody outside asks for, by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The guest is to shut down; after the timeout QEMU is quit.
    Stop {
        /// None waits for ever.
        timeout: Option<Duration>,
    },
    /// The guest's power button is pressed, and that is all.
    Poweroff,
    /// The guest's reset button is pressed.
    Reset,
    /// As `Stop`; the second time QEMU is quit at once.
    Interrupt {
        /// None waits for ever.
        timeout: Option<Duration>,
    },
    /// QEMU is quit at once, disks flushed.
    Quit,
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
    /// The deadline that [`Effect::Deadline`] set has passed.
    DeadlinePassed,
    Ended(Ended),
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Send(Command),
    Consoles(Vec<ConsolePath>),
    /// Pin these threads and feed [`Input::Pinned`].
    Pin(Threads),
    /// The guest's CPUs run: tell the service manager.
    Ready,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Negotiating,
    Asking,
    Pinning,
    Resuming,
    Running,
    Paused,
    PoweringOff,
    Quitting,
    Killed,
}

/// What is to be done before a guest's CPUs run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// QEMU is to be asked for ptys.
    pub(crate) consoles: bool,
    /// QEMU is to be asked for its threads, some of which are pinned.
    pub(crate) threads: bool,
    /// How many orders there are to give.
    pub(crate) orders: usize,
}

/// One guest's life. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Guest {
    phase: Phase,
    actions: Actions,
    start: Start,
    /// The threads that QEMU told of.
    threads: Threads,
    monitor_lost: bool,
    /// The CPUs ran at least once.
    started: bool,
    /// The guest is shut down, its CPUs stopped for good until a reset.
    shut_down: bool,
    interrupted: bool,
    /// A reset was sent to a guest that is shut down. QEMU takes `cont` only once the reset is done.
    restarting: bool,
    /// What was decided, if QEMU ends as it was told to.
    fate: Option<Fate>,
}

impl Guest {
    /// A guest whose QEMU was just started with its CPUs stopped.
    pub(crate) fn new(actions: Actions, start: Start) -> Self {
        Self {
            phase: Phase::Greeting,
            actions,
            start,
            threads: Threads::default(),
            monitor_lost: false,
            started: false,
            shut_down: false,
            interrupted: false,
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
            Input::MonitorLost(why) => self.monitor_lost(&why),
            Input::Pinned(done) => self.pinned(done),
            Input::Request(request) => self.request(request),
            Input::DeadlinePassed => self.deadline_passed(),
            Input::Ended(ended) => vec![Effect::Finish(self.end(ended))],
        }
    }

    fn greeted(&mut self) -> Vec<Effect> {
        if self.phase != Phase::Greeting {
            return Vec::new();
        }
        self.phase = Phase::Negotiating;
        vec![Effect::Send(Command::Capabilities)]
    }

    fn done(&mut self, command: Command, value: &Value) -> Vec<Effect> {
        match (self.phase, command) {
            (Phase::Negotiating, Command::Capabilities) if self.start.consoles => {
                self.phase = Phase::Asking;
                vec![Effect::Send(Command::QueryChardev)]
            }
            (Phase::Negotiating, Command::Capabilities) => self.pin(Vec::new()),
            (Phase::Asking, Command::QueryChardev) => self.pin(vec![Effect::Consoles(ptys(value))]),
            (Phase::Pinning, Command::QueryCpus) => {
                self.threads.learn_vcpus(value);
                Vec::new()
            }
            // QEMU answers in the order in which it was asked, so all threads are known now.
            (Phase::Pinning, Command::QueryIothreads) => {
                self.threads.learn_iothreads(value);
                vec![Effect::Pin(std::mem::take(&mut self.threads))]
            }
            (Phase::Resuming, Command::Cont) => {
                self.phase = Phase::Running;
                self.started = true;
                vec![Effect::Ready]
            }
            // Other commands' success shows itself in an event or in QEMU's end.
            _ => Vec::new(),
        }
    }

    /// Has the threads pinned if there is one to pin, and lets the guest run.
    fn pin(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        if !self.start.threads {
            return self.resume(before);
        }
        self.phase = Phase::Pinning;
        before.extend([Command::QueryCpus, Command::QueryIothreads].map(Effect::Send));
        before
    }

    fn pinned(&mut self, done: Result<(), String>) -> Vec<Effect> {
        match (self.phase, done) {
            (Phase::Pinning, Ok(())) => self.resume(Vec::new()),
            (Phase::Pinning, Err(why)) => self.quit(Fate::StartFailed(why)),
            // Somebody asked for an end meanwhile.
            _ => Vec::new(),
        }
    }

    fn resume(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        self.phase = Phase::Resuming;
        // QEMU itself would start a guest anew that resets, which is one of three actions.
        if self.holds_reboots() {
            before.push(Effect::Send(Command::RebootShutsDown));
        }
        before.extend((0..self.start.orders).map(|order| Effect::Send(Command::Order(order))));
        before.push(Effect::Send(Command::Cont));
        before
    }

    fn holds_reboots(&self) -> bool {
        self.actions.on_reboot != Action::Restart
    }

    fn failed(&mut self, command: Command, error: &CommandError) -> Vec<Effect> {
        let words = format!("QEMU refused {}: {error}", command.name());
        match command {
            Command::Capabilities
            | Command::QueryChardev
            | Command::QueryCpus
            | Command::QueryIothreads
            | Command::RebootShutsDown
            | Command::Order(_)
            | Command::Cont
                if !self.started =>
            {
                self.quit(Fate::StartFailed(words))
            }
            Command::Quit => vec![Effect::Warn(words), Effect::Terminate],
            Command::Capabilities
            | Command::QueryChardev
            | Command::QueryCpus
            | Command::QueryIothreads
            | Command::RebootShutsDown
            | Command::RebootResets
            | Command::Order(_)
            | Command::Cont
            | Command::Powerdown
            | Command::Reset => vec![Effect::Warn(words)],
        }
    }

    fn event(&mut self, event: &Event) -> Vec<Effect> {
        match event.name.as_str() {
            "SHUTDOWN" => self.guest_shut_down(event.text("reason").unwrap_or("guest-shutdown")),
            "GUEST_PANICKED" if event.text("action") != Some("run") => self.guest_panicked(),
            "STOP" => self.paused("paused"),
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
        if self.phase != Phase::Paused {
            return Vec::new();
        }
        self.phase = Phase::Running;
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
            _ if self.phase == Phase::PoweringOff => self.quit(Fate::Stopped),
            "guest-reset" | "host-qmp-system-reset" => {
                self.act(self.actions.on_reboot, "rebooted", Fate::Stopped)
            }
            _ => self.act(self.actions.on_poweroff, "shut down", Fate::Stopped),
        }
    }

    fn guest_panicked(&mut self) -> Vec<Effect> {
        if matches!(self.phase, Phase::Quitting | Phase::Killed) {
            return Vec::new();
        }
        if self.phase == Phase::PoweringOff {
            return self.quit(Fate::Panicked);
        }
        let mut effects = vec![Effect::Warn("the guest panicked".to_owned())];
        effects.extend(self.act(self.actions.on_crash, "panicked", Fate::Panicked));
        effects
    }

    fn act(&mut self, action: Action, what: &str, fate: Fate) -> Vec<Effect> {
        match action {
            Action::Destroy => self.quit(fate),
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

    fn request(&mut self, request: Request) -> Vec<Effect> {
        match (request, self.phase) {
            (_, Phase::Quitting | Phase::Killed) => Vec::new(),
            (Request::Quit, _) => self.quit(Fate::Stopped),
            (Request::Interrupt { .. }, _) if self.interrupted => self.quit(Fate::Stopped),
            (Request::Interrupt { timeout }, _) => {
                self.interrupted = true;
                self.stop(timeout)
            }
            (Request::Stop { timeout }, _) => self.stop(timeout),
            (Request::Poweroff, Phase::Running) => {
                vec![Effect::Status("powering off".to_owned()), Effect::Send(Command::Powerdown)]
            }
            (Request::Poweroff, Phase::Paused) => self.wake_for_powerdown(),
            (Request::Poweroff, Phase::PoweringOff) => vec![Effect::Send(Command::Powerdown)],
            (Request::Reset, Phase::Running | Phase::Paused | Phase::PoweringOff) => {
                vec![Effect::Send(Command::Reset)]
            }
            // No guest runs yet: there is nobody to ask, and nothing to reset.
            (Request::Poweroff, _) => self.quit(Fate::Stopped),
            (Request::Reset, _) => Vec::new(),
        }
    }

    fn stop(&mut self, timeout: Option<Duration>) -> Vec<Effect> {
        if self.monitor_lost {
            return self.quit(Fate::Stopped);
        }
        let ask = match self.phase {
            Phase::PoweringOff => return Vec::new(),
            Phase::Running => vec![Effect::Send(Command::Powerdown)],
            Phase::Paused if !self.shut_down => self.wake_for_powerdown(),
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Resuming
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

    fn deadline_passed(&mut self) -> Vec<Effect> {
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
            | Phase::Resuming => {
                self.fate =
                    Some(Fate::StartFailed("QEMU did not answer its monitor in time".to_owned()));
                self.phase = Phase::Killed;
                vec![Effect::Kill]
            }
            Phase::Running | Phase::Paused | Phase::Killed => Vec::new(),
        }
    }

    fn quit(&mut self, fate: Fate) -> Vec<Effect> {
        self.phase = Phase::Quitting;
        self.fate = Some(fate);
        let ask = if self.monitor_lost { Effect::Terminate } else { Effect::Send(Command::Quit) };
        vec![Effect::Stopping, ask, Effect::Deadline(Some(QUIT_TIMEOUT))]
    }

    fn monitor_lost(&mut self, why: &str) -> Vec<Effect> {
        self.monitor_lost = true;
        match self.phase {
            // QEMU closes its monitor when it ends, which is seen on its process a moment later.
            Phase::Quitting | Phase::Killed => Vec::new(),
            Phase::Greeting
            | Phase::Negotiating
            | Phase::Asking
            | Phase::Pinning
            | Phase::Resuming => {
                vec![Effect::Deadline(Some(QUIT_TIMEOUT))]
            }
            Phase::Running | Phase::Paused => {
                vec![Effect::Warn(format!(
                    "{why}; the guest runs on and can only be stopped by ending QEMU"
                ))]
            }
            Phase::PoweringOff => self.quit(Fate::Stopped),
        }
    }

    fn end(&mut self, ended: Ended) -> Fate {
        let decided = self.fate.take();
        match (ended, decided) {
            (Ended::Exited(0), Some(fate)) => fate,
            (Ended::Signalled(_), Some(fate)) if self.phase == Phase::Killed => fate,
            (Ended::Exited(0), None) if self.started => Fate::Stopped,
            (Ended::Exited(status), Some(Fate::StartFailed(words))) => {
                Fate::StartFailed(format!("{words} (it ended with status {status})"))
            }
            (Ended::Exited(status), _) if !self.started => {
                Fate::StartFailed(format!("QEMU ended with status {status} before the guest ran"))
            }
            (Ended::Exited(status), _) => Fate::Crashed(format!("QEMU ended with status {status}")),
            (Ended::Signalled(signal), _) => {
                Fate::Crashed(format!("QEMU was killed by {}", signal_name(signal)))
            }
        }
    }
}

/// The ptys among the character devices that `query-chardev` lists (`ChardevInfo` of QEMU's qapi/char.json).
fn ptys(value: &Value) -> Vec<ConsolePath> {
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let chardev = entry.get("label")?.as_str()?.to_owned();
            let path = entry.get("filename")?.as_str()?.strip_prefix("pty:")?.to_owned();
            Some(ConsolePath { chardev, path })
        })
        .collect()
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
