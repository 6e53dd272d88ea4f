//! What QEMU's events say to those who follow guests. Pure.
//!
//! Events are of few kinds, and have libvirt's words where it has some (`virDomainEventID` and the enumerations beside
//! it). QEMU has many more events than these; what says nothing of a guest to its user is left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::State;

/// The longest text that is kept of an event, in characters: a guest or its QEMU may say anything.
const LONGEST_TEXT: usize = 256;

/// Something that happened to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    /// What it is about.
    pub(crate) kind: Kind,
    /// What happened: `suspended`.
    pub(crate) event: &'static str,
    /// What else is known of it.
    pub(crate) details: BTreeMap<&'static str, Detail>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The guest's state.
    Lifecycle,
    /// A device that goes, or cannot.
    Device,
    /// A job of the block layer.
    BlockJob,
    /// A disk that cannot be read or written.
    IoError,
    /// How much memory the guest has.
    Balloon,
    /// The guest's watchdog.
    Watchdog,
    /// The guest panicked.
    Panic,
    /// The guest agent came or went.
    Agent,
    /// A program in the guest opened or closed another channel.
    Channel,
    /// A migration.
    Migration,
}

impl Kind {
    /// Its word on the bus.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Device => "device",
            Self::BlockJob => "block-job",
            Self::IoError => "io-error",
            Self::Balloon => "balloon",
            Self::Watchdog => "watchdog",
            Self::Panic => "panic",
            Self::Agent => "agent",
            Self::Channel => "channel",
            Self::Migration => "migration",
        }
    }
}

/// One thing that is known of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Detail {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl Happening {
    /// An event without details.
    pub(crate) fn plain(kind: Kind, event: &'static str) -> Self {
        Self { kind, event, details: BTreeMap::new() }
    }

    /// A program in the guest opened or closed the channel with this alias; `name` is the channel's, if it is known.
    pub(crate) fn of_channel(alias: &str, name: Option<&str>, open: bool) -> Self {
        let (kind, event) = match (name == Some(AGENT), open) {
            (true, true) => (Kind::Agent, "connected"),
            (true, false) => (Kind::Agent, "disconnected"),
            (false, true) => (Kind::Channel, "opened"),
            (false, false) => (Kind::Channel, "closed"),
        };
        let text = |text: &str| Detail::Text(text.chars().take(LONGEST_TEXT).collect());
        let name = name.map(|name| ("name", text(name)));
        Self { kind, event, details: name.into_iter().chain([("id", text(alias))]).collect() }
    }

    /// What an event of QEMU's says, after which the guest is in `state`; none for one that nobody follows.
    pub(crate) fn of(name: &str, data: &Value, state: State) -> Option<Self> {
        let (kind, event, members): (_, _, &[&'static str]) = match name {
            "STOP" if matches!(state, State::Paused(_)) => (Kind::Lifecycle, "suspended", &[]),
            "RESUME" if state.reason() == "booted" => (Kind::Lifecycle, "started", &[]),
            "RESUME" => (Kind::Lifecycle, "resumed", &[]),
            "POWERDOWN" => (Kind::Lifecycle, "powerdown", &[]),
            "SHUTDOWN" => (Kind::Lifecycle, "shutdown", &["guest", "reason"]),
            "RESET" => (Kind::Lifecycle, "reset", &["guest", "reason"]),
            "SUSPEND" => (Kind::Lifecycle, "pmsuspended", &[]),
            "WAKEUP" => (Kind::Lifecycle, "resumed", &[]),
            "GUEST_PANICKED" => (Kind::Panic, "panicked", &["action"]),
            "WATCHDOG" => (Kind::Watchdog, "expired", &["action"]),
            "BALLOON_CHANGE" => (Kind::Balloon, "changed", &["actual"]),
            "DEVICE_DELETED" => (Kind::Device, "removed", &["device", "path"]),
            "DEVICE_UNPLUG_GUEST_ERROR" | "MEM_UNPLUG_ERROR" => {
                (Kind::Device, "removal-failed", &["device", "path", "msg"])
            }
            "DEVICE_TRAY_MOVED" => (Kind::Device, "tray-moved", &["device", "id", "tray-open"]),
            "BLOCK_JOB_READY" => (Kind::BlockJob, "ready", BLOCK_JOB),
            "BLOCK_JOB_PENDING" => (Kind::BlockJob, "pending", BLOCK_JOB),
            "BLOCK_JOB_COMPLETED" => (Kind::BlockJob, "completed", BLOCK_JOB),
            "BLOCK_JOB_CANCELLED" => (Kind::BlockJob, "canceled", BLOCK_JOB),
            "BLOCK_JOB_ERROR" => (Kind::BlockJob, "failed", BLOCK_JOB),
            "BLOCK_IO_ERROR" => (
                Kind::IoError,
                "failed",
                &["device", "node-name", "operation", "action", "nospace", "reason"],
            ),
            "MIGRATION" => (Kind::Migration, "changed", &["status"]),
            _ => return None,
        };
        let mut happening = Self { kind, event, details: details(data, members) };
        if kind == Kind::Lifecycle && !happening.details.contains_key("reason") {
            happening.details.insert("reason", Detail::Text(state.reason().to_owned()));
        }
        Some(happening)
    }
}

/// The name of the guest agent's channel, by which the agent finds it (qemu-ga(8)).
const AGENT: &str = "org.qemu.guest_agent.0";

/// The members of the events of block jobs (QEMU's qapi/block-core.json).
const BLOCK_JOB: &[&str] = &["device", "type", "len", "offset", "error"];

fn details(data: &Value, members: &[&'static str]) -> BTreeMap<&'static str, Detail> {
    let detail = |member: &&'static str| {
        let detail = match data.get(*member)? {
            Value::String(text) => Detail::Text(text.chars().take(LONGEST_TEXT).collect()),
            Value::Bool(flag) => Detail::Flag(*flag),
            Value::Number(number) => Detail::Number(number.as_i64()?),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((*member, detail))
    };
    members.iter().filter_map(detail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{WhyPaused, WhyRunning};
    use serde_json::json;

    fn text(happening: &Happening) -> String {
        let detail = |(name, detail): (&&str, &Detail)| match detail {
            Detail::Text(text) => format!(" {name}={text}"),
            Detail::Number(number) => format!(" {name}={number}"),
            Detail::Flag(flag) => format!(" {name}={flag}"),
        };
        let details: String = happening.details.iter().map(detail).collect();
        format!("{} {}{details}", happening.kind.word(), happening.event)
    }

    #[test]
    fn events_of_each_kind_are_told() {
        let running = State::Running(WhyRunning::Booted);
        let paused = State::Paused(WhyPaused::IoError);
        let unpaused = State::Running(WhyRunning::Unpaused);
        for (name, data, state, expected) in [
            ("STOP", Value::Null, paused, "lifecycle suspended reason=ioerror"),
            ("RESUME", Value::Null, running, "lifecycle started reason=booted"),
            ("RESUME", Value::Null, unpaused, "lifecycle resumed reason=unpaused"),
            (
                "SHUTDOWN",
                json!({ "guest": true, "reason": "guest-shutdown" }),
                State::Shutdown,
                "lifecycle shutdown guest=true reason=guest-shutdown",
            ),
            (
                "GUEST_PANICKED",
                json!({ "action": "pause" }),
                State::Crashed,
                "panic panicked action=pause",
            ),
            ("WATCHDOG", json!({ "action": "none" }), running, "watchdog expired action=none"),
            ("BALLOON_CHANGE", json!({ "actual": 7 }), running, "balloon changed actual=7"),
            ("DEVICE_DELETED", json!({ "path": "/x" }), running, "device removed path=/x"),
            (
                "BLOCK_JOB_READY",
                json!({ "device": "a", "len": 2, "offset": 1, "type": "mirror", "speed": 0 }),
                running,
                "block-job ready device=a len=2 offset=1 type=mirror",
            ),
            (
                "BLOCK_IO_ERROR",
                json!({ "operation": "write" }),
                running,
                "io-error failed operation=write",
            ),
            (
                "MIGRATION",
                json!({ "status": "active" }),
                running,
                "migration changed status=active",
            ),
        ] {
            let told = Happening::of(name, &data, state).map(|happening| text(&happening));
            assert_eq!(told.as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_agent_s_channel_is_told_from_others() {
        for (name, open, expected) in [
            (Some(AGENT), true, "agent connected id=channel0 name=org.qemu.guest_agent.0"),
            (Some(AGENT), false, "agent disconnected id=channel0 name=org.qemu.guest_agent.0"),
            (Some("mine"), true, "channel opened id=channel0 name=mine"),
            (None, false, "channel closed id=channel0"),
        ] {
            assert_eq!(text(&Happening::of_channel("channel0", name, open)), expected);
        }
    }

    #[test]
    fn what_nobody_follows_is_left_out() {
        assert_eq!(Happening::of("RTC_CHANGE", &Value::Null, State::Unknown), None);
        assert_eq!(Happening::of("STOP", &Value::Null, State::Shutdown), None, "its end is told");
    }

    #[test]
    fn what_is_kept_of_an_event_is_bounded() {
        let data = json!({ "path": "x".repeat(100_000), "device": ["x"] });
        let told = Happening::of("DEVICE_DELETED", &data, State::Unknown).unwrap();
        assert_eq!(text(&told), format!("device removed path={}", "x".repeat(LONGEST_TEXT)));
    }
}
