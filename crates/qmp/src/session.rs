//! One monitor's session.
//!
//! ```text
//!   bytes --receive--> lines --next--> Greeting | Reply | Event
//!   execute --> output (bytes to send)
//! ```
//!
//! A session may follow another one on the same monitor, whose client died at any byte. Then QEMU may hold half a
//! command of the former client, and the socket the rest of a line and answers that are nobody's:
//!
//! ```text
//!   taken over --(the answer to the first command)--> in step
//!   until then what is no message is skipped, and so are answers to commands of the former client; events are not
//! ```

use serde_json::{Value, json};

use crate::message::{CommandError, Message, parse};

/// Names one command of one session; its reply carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub(crate) u64);

/// Why a session cannot go on. The monitor is of no use after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line that is no QMP message.
    #[error("QEMU sent {line:?}, which is no QMP message: {why}")]
    Malformed {
        /// The line's beginning.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// A line without end.
    #[error("QEMU sent a line of more than {limit} bytes")]
    TooLong {
        /// The longest line that the session takes, in bytes.
        limit: usize,
    },
    /// QEMU could not read what it was sent.
    #[error("QEMU could not read a command: {0}")]
    Unreadable(CommandError),
}

/// The client's side of a monitor. See the module's documentation.
#[derive(Debug)]
pub struct Session {
    limit: usize,
    input: Vec<u8>,
    /// Bytes of `input` that [`Self::next`] has seen already, so that a long line is scanned once.
    scanned: usize,
    output: Vec<u8>,
    last_id: u64,
    /// The command whose answer shows that the session is in step with QEMU; none once it is.
    awaited: Option<CommandId>,
}

/// A byte that is in no JSON text. It makes QEMU forget half a command and answer with an error (qmp-spec.rst,
/// "Forcing the JSON parser into known-good state").
const NO_JSON: u8 = 0xff;

impl Session {
    /// A session that takes lines of up to `limit` bytes, on a monitor that nobody used before.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, input: Vec::new(), scanned: 0, output: Vec::new(), last_id: 0, awaited: None }
    }

    /// A session on a monitor that another client may have used, and left at any byte.
    ///
    /// It negotiates at once: the output has `qmp_capabilities`, and its answer, which is an error where the former
    /// client had negotiated already, is the first reply of the session. `number` is one that no command of a
    /// former client had, such as the microseconds that the host runs.
    #[must_use]
    pub fn take_over(limit: usize, number: u64) -> Self {
        let mut session = Self::new(limit);
        session.last_id = number;
        session.output.push(NO_JSON);
        session.awaited = Some(session.execute("qmp_capabilities", Value::Null));
        session
    }

    /// The number of the last command.
    #[must_use]
    pub fn last_command(&self) -> CommandId {
        CommandId(self.last_id)
    }

    /// Whether what QEMU says is understood from the first byte on.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.awaited.is_none()
    }

    /// Takes bytes that QEMU sent, whole messages or parts of them.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole message received, if there is one.
    ///
    /// # Errors
    /// [`ProtocolError`] when what came is no QMP; the session is then at its end.
    pub fn next_message(&mut self) -> Result<Option<Message>, ProtocolError> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let message = parse(&line);
            let Some(awaited) = self.awaited else { return message.map(Some) };
            match message {
                Ok(Message::Reply { id, result }) if id == awaited => {
                    self.awaited = None;
                    return Ok(Some(Message::Reply { id, result }));
                }
                // The rest of a line that the former client began to read, QEMU's word on what it wrote last, and
                // answers that it waited for.
                Err(_) | Ok(Message::Reply { .. }) => {}
                Ok(message @ (Message::Greeting(_) | Message::Event(_))) => {
                    return Ok(Some(message));
                }
            }
        }
    }

    /// The next whole line that is not empty.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, ProtocolError> {
        loop {
            let unseen = &self.input[self.scanned..];
            let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.input.len();
                return if self.input.len() > self.limit {
                    Err(ProtocolError::TooLong { limit: self.limit })
                } else {
                    Ok(None)
                };
            };
            let line: Vec<u8> = self.input.drain(..=self.scanned + at).collect();
            self.scanned = 0;
            if line.len() > self.limit {
                return Err(ProtocolError::TooLong { limit: self.limit });
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Adds a command to the output. `arguments` is a JSON object, or null for none.
    pub fn execute(&mut self, command: &str, arguments: Value) -> CommandId {
        self.last_id += 1;
        let mut message = json!({ "execute": command, "id": self.last_id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        self.output.extend_from_slice(message.to_string().as_bytes());
        self.output.push(b'\n');
        CommandId(self.last_id)
    }

    /// The bytes to send.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Drops the first `count` bytes of the output, which were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Event, Version};
    use proptest::prelude::*;

    const TRANSCRIPT: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "x"}, "capabilities": ["oob"]}}"#,
        "\r\n",
        r#"{"return": {}, "id": 1}"#,
        "\r\n",
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
        "\r\n",
        r#"{"id": 2, "error": {"class": "GenericError", "desc": "no"}}"#,
        "\r\n",
    );

    fn messages(session: &mut Session) -> Vec<Message> {
        std::iter::from_fn(|| session.next_message().unwrap()).collect()
    }

    fn expected() -> Vec<Message> {
        let data = json!({ "guest": true, "reason": "guest-shutdown" });
        let error = CommandError { class: "GenericError".into(), desc: "no".into() };
        vec![
            Message::Greeting(Version { major: 10, minor: 0, micro: 2 }),
            Message::Reply { id: CommandId(1), result: Ok(json!({})) },
            Message::Event(Event { name: "SHUTDOWN".into(), data, time: Some(1_000_002) }),
            Message::Reply { id: CommandId(2), result: Err(error) },
        ]
    }

    #[test]
    fn a_transcript_is_read() {
        let mut session = Session::new(1024);
        session.receive(TRANSCRIPT.as_bytes());
        assert_eq!(messages(&mut session), expected());
        assert_eq!(expected().len(), 4);
    }

    #[test]
    fn commands_are_written_and_numbered() {
        let mut session = Session::new(1024);
        assert_eq!(session.execute("qmp_capabilities", Value::Null), CommandId(1));
        assert_eq!(session.execute("x", json!({ "a": "\n" })), CommandId(2));
        let sent = String::from_utf8(session.output().to_vec()).unwrap();
        assert_eq!(sent.lines().count(), 2, "one line a command: {sent}");
        session.sent(sent.find('\n').unwrap() + 1);
        let second: Value = serde_json::from_slice(session.output()).unwrap();
        assert_eq!(second, json!({ "execute": "x", "arguments": { "a": "\n" }, "id": 2 }));
    }

    #[test]
    fn what_is_no_qmp_ends_the_session() {
        for (bytes, message) in [
            (
                "hello\n",
                "QEMU sent \"hello\", which is no QMP message: expected value at line 1 column 1",
            ),
            (
                "{}\n",
                "QEMU sent \"{}\", which is no QMP message: it is neither greeting, event, return nor error",
            ),
            (
                "{\"return\":1}\n",
                "QEMU sent \"{\\\"return\\\":1}\", which is no QMP message: it answers no command",
            ),
            (
                "{\"error\":{\"class\":\"C\",\"desc\":\"d\"}}\n",
                "QEMU could not read a command: d (C)",
            ),
            ("01234567890123456789012345678901234567890", "QEMU sent a line of more than 40 bytes"),
        ] {
            let mut session = Session::new(40);
            session.receive(bytes.as_bytes());
            assert_eq!(session.next_message().unwrap_err().to_string(), message);
        }
    }

    /// What is left of a session whose client died: the rest of an event, the answer to its last whole command, and
    /// QEMU's word on half a command. Then what the next one gets.
    const LEFT: &str = concat!(
        r#"onds": 2}, "event": "STOP"}"#,
        "\r\n",
        r#"{"return": {"status": "paused"}, "id": 8}"#,
        "\r\n",
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#,
        "\r\n",
        r#"{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}"#,
        "\r\n",
        r#"{"id": 101, "error": {"class": "CommandNotFound", "desc": "negotiation is complete"}}"#,
        "\r\n",
        r#"{"return": {}, "id": 102}"#,
        "\r\n",
    );

    #[test]
    fn a_monitor_is_taken_over_in_the_middle_of_a_line() {
        let mut session = Session::take_over(1024, 100);
        assert_eq!(session.output()[0], 0xff, "QEMU forgets half a command");
        let text = std::str::from_utf8(&session.output()[1..]).unwrap();
        assert_eq!(text, "{\"execute\":\"qmp_capabilities\",\"id\":101}\n");
        session.receive(LEFT.as_bytes());
        let event = Message::Event(Event {
            name: "RESUME".into(),
            data: Value::Null,
            time: Some(1_000_002),
        });
        assert_eq!(session.next_message(), Ok(Some(event)));
        assert!(!session.is_in_step());
        let Ok(Some(Message::Reply { id: CommandId(101), result: Err(_) })) =
            session.next_message()
        else {
            panic!("the answer to its own first command puts it in step");
        };
        assert!(session.is_in_step());
        let reply = Message::Reply { id: CommandId(102), result: Ok(json!({})) };
        assert_eq!(messages(&mut session), [reply]);
        session.receive(b"half a line\n");
        assert!(session.next_message().is_err(), "from then on nothing is skipped");
    }

    #[test]
    fn a_monitor_that_nobody_used_is_taken_over_too() {
        let mut session = Session::take_over(1024, 0);
        session.receive(TRANSCRIPT.as_bytes());
        assert_eq!(messages(&mut session), expected());
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_makes_no_difference(cuts in prop::collection::vec(1usize..60, 0..40)) {
            let mut session = Session::new(1024);
            let mut rest = TRANSCRIPT.as_bytes();
            let mut got = Vec::new();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                session.receive(now);
                got.extend(messages(&mut session));
                rest = later;
            }
            session.receive(rest);
            got.extend(messages(&mut session));
            prop_assert_eq!(got, expected());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut session = Session::new(64);
            session.receive(&bytes);
            while let Ok(Some(_)) = session.next_message() {}
        }
    }
}
