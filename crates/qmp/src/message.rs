//! What QEMU says.

use serde::Deserialize;
use serde_json::Value;

use crate::session::{CommandId, ProtocolError};

/// QEMU's version, of the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    /// 10 of 10.0.2.
    pub major: u32,
    /// 0 of 10.0.2.
    pub minor: u32,
    /// 2 of 10.0.2.
    pub micro: u32,
}

/// Why QEMU refused a command. QEMU's own words are `desc`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{desc} ({class})")]
pub struct CommandError {
    /// The class, nearly always `GenericError`.
    pub class: String,
    /// What QEMU says, for people.
    pub desc: String,
}

/// Something that happened in QEMU without being asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The name, such as `SHUTDOWN`.
    pub name: String,
    /// The members of `data`; null when the event has none.
    pub data: Value,
    /// When it happened by QEMU's clock of the day, in microseconds since 1970; none when QEMU does not know.
    pub time: Option<u64>,
}

impl Event {
    /// A text member of the event's data, such as `reason` of `SHUTDOWN`.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.data.get(member)?.as_str()
    }
}

/// One message of QEMU's.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first message of a session.
    Greeting(Version),
    /// The answer to a command.
    Reply {
        /// The command, as [`crate::Session::execute`] named it.
        id: CommandId,
        /// What it returned.
        result: Result<Value, CommandError>,
    },
    /// An event.
    Event(Event),
}

/// The shapes of QMP's messages in one: which members are there tells which message it is.
#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    returned: Option<Value>,
    error: Option<CommandError>,
    id: Option<u64>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    /// An event's.
    timestamp: Option<Timestamp>,
}

/// Both are -1 when QEMU does not know the time (qmp-spec.rst).
#[derive(Deserialize)]
struct Timestamp {
    seconds: i64,
    microseconds: i64,
}

impl Timestamp {
    fn microseconds(&self) -> Option<u64> {
        let seconds = u64::try_from(self.seconds).ok()?.checked_mul(1_000_000)?;
        seconds.checked_add(u64::try_from(self.microseconds).ok()?)
    }
}

#[derive(Deserialize)]
struct Greeting {
    version: GreetingVersion,
}

#[derive(Deserialize)]
struct GreetingVersion {
    qemu: Version,
}

/// Keeps `"return": null` apart from no `return` at all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One line of QEMU's as a message.
pub(crate) fn parse(line: &[u8]) -> Result<Message, ProtocolError> {
    let wire: Wire = serde_json::from_slice(line).map_err(|error| ProtocolError::Malformed {
        line: excerpt(line),
        why: error.to_string(),
    })?;
    if let Some(greeting) = wire.greeting {
        return Ok(Message::Greeting(greeting.version.qemu));
    }
    if let Some(name) = wire.event {
        return Ok(Message::Event(Event {
            name,
            data: wire.data,
            time: wire.timestamp.as_ref().and_then(Timestamp::microseconds),
        }));
    }
    let result = match (wire.returned, wire.error) {
        (Some(value), None) => Ok(value),
        (None, Some(error)) => Err(error),
        (None, None) | (Some(_), Some(_)) => {
            let why = "it is neither greeting, event, return nor error".to_owned();
            return Err(ProtocolError::Malformed { line: excerpt(line), why });
        }
    };
    match (wire.id, result) {
        (Some(id), result) => Ok(Message::Reply { id: CommandId(id), result }),
        // QEMU answers without an id only to bytes that it could not read as a command.
        (None, Err(error)) => Err(ProtocolError::Unreadable(error)),
        (None, Ok(_)) => {
            let why = "it answers no command".to_owned();
            Err(ProtocolError::Malformed { line: excerpt(line), why })
        }
    }
}

/// The beginning of a line, for a message.
fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).trim_end().to_owned()
}
