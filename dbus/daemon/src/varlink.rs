//! Varlink: JSON messages, each ended by a NUL byte, on a stream socket (varlink.org, "Method Call").
//!
//! A call is answered once and in its turn; what streams answers (`more`) is not among the methods that are served here. File descriptors that come with a message are closed.

use std::io;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;

use crate::stream;

/// The longest message that is taken. What is served here has some hundred bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// The interface that every service has (org.varlink.service).
pub(crate) const SERVICE: &str = "org.varlink.service";

/// A method call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Call {
    /// The method with its interface: `io.systemd.MachineInstance.Pause`.
    pub(crate) method: String,
    /// Its arguments; null is none.
    #[serde(default)]
    pub(crate) parameters: Option<Map<String, Value>>,
    /// Whether the caller wants no answer.
    #[serde(default)]
    pub(crate) oneway: bool,
}

/// A call fails: the name of the error and what it tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallError {
    /// With its interface: `org.varlink.service.MethodNotFound`.
    pub(crate) name: String,
    /// An object.
    pub(crate) parameters: Value,
}

impl CallError {
    /// An error that tells nothing but its name.
    pub(crate) fn plain(interface: &str, name: &str) -> Self {
        Self { name: format!("{interface}.{name}"), parameters: json!({}) }
    }

    /// One of the errors of [`SERVICE`], which tell what they are about.
    pub(crate) fn of_service(name: &str, parameter: &str, value: &str) -> Self {
        Self { name: format!("{SERVICE}.{name}"), parameters: json!({ parameter: value }) }
    }
}

/// The message that answers a call.
pub(crate) fn reply(result: Result<Value, CallError>) -> Value {
    match result {
        Ok(parameters) => json!({ "parameters": parameters }),
        Err(CallError { name, parameters }) => json!({ "error": name, "parameters": parameters }),
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    /// What came of the next messages.
    received: Vec<u8>,
}

impl Channel {
    /// Speaks Varlink over a connected socket.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Vec::new() }
    }

    /// The next message, without its end; none when the other side hung up.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = take_message(&mut self.received) {
                return Ok(Some(message));
            }
            if self.received.len() > LONGEST_MESSAGE {
                return Err(io::Error::other("the message is longer than any that is known here"));
            }
            let mut buffer = [0; 4096];
            let (length, _) = stream::receive(&self.socket, &mut buffer).await?;
            if length == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(&buffer[..length]);
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&self, message: &Value) -> io::Result<()> {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        stream::send(&self.socket, &bytes).await
    }
}

/// Takes the first whole message away from what was received.
fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = received.iter().position(|byte| *byte == 0)?;
    let rest = received.split_off(end + 1);
    let mut message = std::mem::replace(received, rest);
    message.pop();
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_with_a_null_byte() {
        let mut received = b"{\"a\":1}\0{}\0{\"b".to_vec();
        assert_eq!(take_message(&mut received).as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(take_message(&mut received).as_deref(), Some(&b"{}"[..]));
        assert_eq!(take_message(&mut received), None);
        assert_eq!(received, b"{\"b");
    }

    #[test]
    fn calls_are_read_with_and_without_arguments() {
        let call = |text: &str| serde_json::from_str::<Call>(text).map_err(|_| ());
        let plain = Call { method: "a.B".to_owned(), parameters: None, oneway: false };
        assert_eq!(call(r#"{"method":"a.B"}"#), Ok(plain.clone()));
        assert_eq!(call(r#"{"method":"a.B","parameters":null,"oneway":false}"#), Ok(plain.clone()));
        let empty = Call { parameters: Some(Map::new()), oneway: true, ..plain };
        assert_eq!(call(r#"{"method":"a.B","parameters":{},"oneway":true}"#), Ok(empty));
        for wrong in ["", "{}", r#"{"method":1}"#, r#"{"method":"a.B","parameters":[]}"#] {
            assert_eq!(call(wrong), Err(()), "{wrong}");
        }
    }
}
