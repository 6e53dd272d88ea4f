//! From QEMU's greeting until its guest runs, or stands ready to.

use qmp::CommandError;
use serde_json::Value;

use super::{Action, Command, ConsolePath, Effect, Guest, Phase, Standing};
use crate::fate::Fate;

impl Guest {
    pub(super) fn greeted(&mut self) -> Vec<Effect> {
        if self.phase != Phase::Greeting {
            return Vec::new();
        }
        self.phase = Phase::Negotiating;
        vec![Effect::Send(Command::Capabilities)]
    }

    pub(super) fn done(&mut self, command: Command, value: &Value) -> Vec<Effect> {
        match (self.phase, command) {
            (Phase::Negotiating, Command::Capabilities) if self.beginning.has_consoles => {
                self.phase = Phase::Asking;
                vec![Effect::Send(Command::QueryChardev)]
            }
            (Phase::Negotiating, Command::Capabilities) => self.pin(Vec::new()),
            (Phase::Asking, Command::QueryChardev) => self.pin(vec![Effect::Consoles(ptys(value))]),
            (Phase::Pinning, Command::QueryCpus) => {
                self.threads.learn_vcpus(value);
                Vec::new()
            }
            // QEMU answers in turn, so all threads are known now.
            (Phase::Pinning, Command::QueryIothreads) => {
                self.threads.learn_iothreads(value);
                vec![Effect::Pin(std::mem::take(&mut self.threads))]
            }
            (Phase::Preparing, Command::Cont) => self.ready(Standing::Running),
            (Phase::Preparing, Command::QueryStatus) => self.ready(standing(value)),
            // Other commands' success shows itself in an event or in QEMU's end.
            _ => Vec::new(),
        }
    }

    fn ready(&mut self, standing: Standing) -> Vec<Effect> {
        self.phase = match standing {
            Standing::Running => Phase::Running,
            Standing::Paused => Phase::Paused,
            Standing::Incoming => Phase::Incoming,
        };
        self.started = standing == Standing::Running;
        vec![Effect::Ready(standing)]
    }

    /// Has the threads pinned if there is one to pin, and goes on.
    fn pin(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        if !self.beginning.has_threads {
            return self.prepare(before);
        }
        self.phase = Phase::Pinning;
        before.extend([Command::QueryCpus, Command::QueryIothreads].map(Effect::Send));
        before
    }

    pub(super) fn pinned(&mut self, done: Result<(), String>) -> Vec<Effect> {
        if self.phase != Phase::Pinning {
            return Vec::new(); // Somebody asked for an end meanwhile.
        }
        match done {
            Ok(()) => self.prepare(Vec::new()),
            Err(why) => self.quit(Fate::StartFailed(why)),
        }
    }

    fn prepare(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        self.phase = Phase::Preparing;
        // QEMU itself would start a guest anew that resets, which is one of three actions.
        if self.holds_reboots() {
            before.push(Effect::Send(Command::RebootShutsDown));
        }
        before.extend((0..self.beginning.orders).map(|order| Effect::Send(Command::Order(order))));
        // QEMU answers in turn, so the last answer tells that all before it is done.
        let last = if self.beginning.resumes { Command::Cont } else { Command::QueryStatus };
        before.push(Effect::Send(last));
        before
    }

    pub(super) fn holds_reboots(&self) -> bool {
        self.actions.on_reboot != Action::Restart
    }

    pub(super) fn failed(&mut self, command: Command, error: &CommandError) -> Vec<Effect> {
        let words = format!("QEMU refused {}: {error}", command.name());
        match command {
            Command::Capabilities
            | Command::QueryChardev
            | Command::QueryCpus
            | Command::QueryIothreads
            | Command::RebootShutsDown
            | Command::Order(_)
            | Command::QueryStatus
            | Command::Cont
                if !self.started =>
            {
                self.quit(Fate::StartFailed(words))
            }
            Command::Quit => vec![Effect::Warn(words), Effect::Terminate],
            Command::Dump => self.dumped(Some(&words)),
            Command::Capabilities
            | Command::QueryChardev
            | Command::QueryCpus
            | Command::QueryIothreads
            | Command::RebootShutsDown
            | Command::RebootResets
            | Command::Order(_)
            | Command::Cont
            | Command::QueryStatus
            | Command::Powerdown
            | Command::Reset => vec![Effect::Warn(words)],
        }
    }
}

/// What `query-status` says (`StatusInfo` and `RunState` of QEMU's qapi/run-state.json). Others of its words
/// are of guests whose CPUs are stopped.
fn standing(value: &Value) -> Standing {
    match value.get("status").and_then(Value::as_str) {
        Some("running") => Standing::Running,
        Some("inmigrate") => Standing::Incoming,
        Some(_) | None => Standing::Paused,
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
