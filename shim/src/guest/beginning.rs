//! From QEMU's greeting until its guest runs.

use qmp::CommandError;
use serde_json::Value;

use super::{Action, Command, ConsolePath, Effect, Guest, Phase};
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
            (Phase::Negotiating, Command::Capabilities) if self.has_consoles => {
                self.phase = Phase::Asking;
                vec![Effect::Send(Command::QueryChardev)]
            }
            (Phase::Negotiating, Command::Capabilities) => self.resume(Vec::new()),
            (Phase::Asking, Command::QueryChardev) => {
                self.resume(vec![Effect::Consoles(ptys(value))])
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

    fn resume(&mut self, mut before: Vec<Effect>) -> Vec<Effect> {
        self.phase = Phase::Resuming;
        // QEMU itself would start a guest anew that resets, which is one of three actions.
        if self.holds_reboots() {
            before.push(Effect::Send(Command::RebootShutsDown));
        }
        before.extend((0..self.orders).map(|order| Effect::Send(Command::Order(order))));
        before.push(Effect::Send(Command::Cont));
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
            | Command::RebootShutsDown
            | Command::RebootResets
            | Command::Order(_)
            | Command::Cont
            | Command::Powerdown
            | Command::Reset => vec![Effect::Warn(words)],
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
