//! The guest agent (qemu-ga(8)), asked one command at a time over a connection of its own.
//!
//! Whatever answers is the guest's, and not trusted: what it says has a length and a time that it cannot exceed, and is
//! never taken apart further than its outermost object. An agent may owe answers to whoever asked before, so it is
//! synchronized with first, as QEMU's documentation of `guest-sync-delimited` says and libvirt does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use dbus_api::opening::Port;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::guest::Guest;
use crate::lifeline::OpenFault;
use crate::stream;

/// The name of the agent's channel.
const CHANNEL: &str = "org.qemu.guest_agent.0";

/// How long an agent may take where the caller does not say, and to be in step; libvirt's time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time that a caller may give it, in seconds.
pub(crate) const LONGEST_PATIENCE: u32 = 300;

/// How long a command that answers only when it fails has for that.
const REFUSAL: Duration = Duration::from_secs(2);

/// The most that is read of an agent for one command, in bytes.
const LONGEST: usize = 4 << 20;

/// With this byte, which is in no JSON, the agent begins what it says when it is in step, and the client what it asks.
const SENTINEL: u8 = 0xff;

/// What the agent does not answer when it succeeds (`success-response` in its schema).
const WITHOUT_ANSWER: [&str; 4] =
    ["guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"];

/// Why a command of the agent's has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentFault {
    /// There is no way to it.
    #[error(transparent)]
    Open(#[from] OpenFault),
    /// It does not answer in time.
    #[error("its guest agent does not answer; look whether it runs in the guest")]
    Silent,
    /// The channel was closed.
    #[error("its guest agent's channel was closed")]
    Closed,
    /// The channel cannot be used.
    #[error("its guest agent's channel: {0}")]
    Channel(#[from] io::Error),
    /// It says too much.
    #[error("its guest agent says more than {LONGEST} bytes")]
    TooLong,
    /// It says what is no answer.
    #[error("its guest agent's answer is malformed: {0}")]
    Malformed(serde_json::Error),
    /// It refuses.
    #[error("its guest agent refuses: {0}")]
    Refused(String),
}

/// Has the guest's agent carry out a command within so many seconds, 0 being five, and gives what it returned, as JSON.
///
/// Commands of one guest wait for each other, within their own time.
///
/// # Errors
/// [`AgentFault`], in words that follow the guest's name.
pub(crate) async fn ask(
    guest: &Guest,
    command: &str,
    arguments: Value,
    seconds: u32,
) -> Result<String, AgentFault> {
    let patience = match seconds {
        0 => PATIENCE,
        seconds => Duration::from_secs(seconds.into()),
    };
    let deadline = Instant::now() + patience;
    let turn = timeout_at(deadline, guest.agent()).await;
    let _turn = turn.map_err(|_| AgentFault::Silent)?;
    let mut talk = Talk::begin(guest.open(Port::Channel, CHANNEL).await?)?;
    let in_step = deadline.min(Instant::now() + PATIENCE);
    let id = clock::boottime();
    timeout_at(in_step, talk.synchronize(id)).await.map_err(|_| AgentFault::Silent)??;
    let mut request = json!({ "execute": command });
    if !arguments.is_null() {
        request["arguments"] = arguments;
    }
    let answer = async {
        talk.send(format!("{request}\n").as_bytes()).await?;
        talk.line().await
    };
    let answers = !WITHOUT_ANSWER.contains(&command);
    let until = if answers { deadline } else { deadline.min(Instant::now() + REFUSAL) };
    match timeout_at(until, answer).await {
        Ok(Ok(line)) => read(&line),
        // The guest went down as it was told.
        Ok(Err(AgentFault::Closed)) | Err(_) if !answers => Ok("{}".to_owned()),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(AgentFault::Silent),
    }
}

/// A connection to an agent.
struct Talk {
    socket: UnixStream,
    /// What was read and not looked at yet.
    unread: Vec<u8>,
    /// How much was read in all.
    length: usize,
}

/// What an agent says; of what it returns only the text is taken.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "return")]
    returned: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

fn read(line: &[u8]) -> Result<String, AgentFault> {
    let answer: Answer<'_> = serde_json::from_slice(line).map_err(AgentFault::Malformed)?;
    match answer {
        Answer { error: Some(refusal), .. } => {
            let words = refusal.desc.chars().filter(|it| !it.is_control()).take(256);
            Err(AgentFault::Refused(words.collect()))
        }
        Answer { returned: Some(value), .. } => Ok(value.get().to_owned()),
        Answer { returned: None, error: None } => Ok("null".to_owned()),
    }
}

impl Talk {
    fn begin(socket: OwnedFd) -> Result<Self, AgentFault> {
        // Reading what is no socket may wait, whatever its flags say.
        if !matches!(getsockopt(&socket, sockopt::SockType), Ok(SockType::Stream)) {
            return Err(AgentFault::Channel(io::ErrorKind::InvalidInput.into()));
        }
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        let socket = UnixStream::from_std(stream)?;
        Ok(Self { socket, unread: Vec::new(), length: 0 })
    }

    /// Returns when the agent is about to answer nothing but what it is asked from now on.
    async fn synchronize(&mut self, id: u64) -> Result<(), AgentFault> {
        let request = json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } });
        let mut bytes = vec![SENTINEL];
        bytes.extend_from_slice(format!("{request}\n").as_bytes());
        self.send(&bytes).await?;
        loop {
            self.until(SENTINEL).await?;
            let line = self.line().await?;
            // An answer to whoever asked before may end in anything.
            if read(&line).is_ok_and(|returned| returned == id.to_string()) {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), AgentFault> {
        match stream::send(&self.socket, bytes).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(AgentFault::Closed),
            sent => Ok(sent?),
        }
    }

    /// The next line that is not empty.
    async fn line(&mut self) -> Result<Vec<u8>, AgentFault> {
        loop {
            let line = self.until(b'\n').await?;
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(line);
            }
        }
    }

    /// What comes before this byte, which is taken as well.
    async fn until(&mut self, end: u8) -> Result<Vec<u8>, AgentFault> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.unread[seen..].iter().position(|byte| *byte == end) {
                let rest = self.unread.split_off(seen + at + 1);
                let mut taken = std::mem::replace(&mut self.unread, rest);
                taken.truncate(seen + at);
                return Ok(taken);
            }
            seen = self.unread.len();
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), AgentFault> {
        let mut buffer = [0; 4096];
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Err(AgentFault::Closed),
                Ok(length) if self.length + length > LONGEST => return Err(AgentFault::TooLong),
                Ok(length) => {
                    self.length += length;
                    self.unread.extend_from_slice(&buffer[..length]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(AgentFault::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_no_further_apart_than_needed() {
        let told = |line: &str| read(line.as_bytes()).map_err(|fault| fault.to_string());
        assert_eq!(told(r#"{"return": {"a": [1, {}]}}"#), Ok(r#"{"a": [1, {}]}"#.to_owned()));
        assert_eq!(told(r#"{"return": {}, "id": 1}"#), Ok("{}".to_owned()));
        let refused = r#"{"error": {"class": "GenericError", "desc": "no\u0007such"}}"#;
        assert_eq!(told(refused), Err("its guest agent refuses: nosuch".to_owned()));
        for bad in ["", "[1]", "{\"return\"", "\u{1b}[31m"] {
            let words = told(bad).unwrap_err();
            assert!(words.starts_with("its guest agent's answer is malformed: "), "{words}");
        }
        // As deep as it is long, and no deeper on the stack.
        let deep = format!("{{\"return\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(told(&deep).unwrap().len(), 200_000);
    }
}
