//! Varlink: JSON messages, each ended by a NUL byte, on a stream socket (varlink.org, "Method Call").
//!
//! A call is answered in its turn, once, or, where the method says so and the call wants `more`, until it is hung up.
//! File descriptors come with messages, as systemd passes them, and none is sent.

use std::io;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;

use crate::stream::{self, Received};

/// The longest message that is taken. What is served here has some hundred bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// How many file descriptors one message may bring; no method takes more than one.
const MOST_FDS: usize = 16;

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
    /// Whether the caller takes any number of answers.
    #[serde(default)]
    pub(crate) more: bool,
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

/// A message, without its end.
#[derive(Debug)]
pub(crate) struct Message {
    /// JSON.
    pub(crate) text: Vec<u8>,
    /// What came with it, and behind the former one.
    pub(crate) fds: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    /// What came of the next messages.
    received: Received,
}

impl Channel {
    /// Speaks Varlink over a connected socket.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Received::default() }
    }

    /// The next message; none when the other side hung up.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let Received { bytes, fds } = &mut self.received;
            if let Some(text) = take_message(bytes) {
                return Ok(Some(Message { text, fds: std::mem::take(fds) }));
            }
            if bytes.len() > LONGEST_MESSAGE {
                return Err(io::Error::other("the message is longer than any that is known here"));
            }
            let mut buffer = [0; 4096];
            let (length, more) = stream::receive(&self.socket, &mut buffer).await?;
            if length == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(&buffer[..length]);
            fds.extend(more);
            if fds.len() > MOST_FDS {
                return Err(io::Error::other("it sends file descriptors without end"));
            }
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&self, message: &Value) -> io::Result<()> {
        self.send_text(message.to_string()).await
    }

    /// Sends a message that is JSON already.
    pub(crate) async fn send_text(&self, message: String) -> io::Result<()> {
        let mut bytes = message.into_bytes();
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
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    #[test]
    fn messages_end_with_a_null_byte() {
        let mut received = b"{\"a\":1}\0{}\0{\"b".to_vec();
        assert_eq!(take_message(&mut received).as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(take_message(&mut received).as_deref(), Some(&b"{}"[..]));
        assert_eq!(take_message(&mut received), None);
        assert_eq!(received, b"{\"b");
    }

    #[test]
    fn file_descriptors_belong_to_the_message_that_they_come_with() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut channel = Channel::new(UnixStream::from_std(ours).unwrap());
            let null = std::fs::File::open("/dev/null").unwrap();
            let send = |text: &[u8], count: usize| {
                let fds = vec![null.as_fd(); count];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if count > 0 {
                    control.push(SendAncillaryMessage::ScmRights(&fds));
                }
                let parts = [IoSlice::new(text)];
                sendmsg(&theirs, &parts, &mut control, SendFlags::empty()).unwrap();
            };
            send(b"{\"a\":", 2);
            send(b"1}\0", 1);
            let first = channel.next().await.unwrap().unwrap();
            assert_eq!((first.text.as_slice(), first.fds.len()), (&b"{\"a\":1}"[..], 3));
            send(b"{}\0", 0);
            assert_eq!(channel.next().await.unwrap().unwrap().fds.len(), 0);
            // Nobody piles them up in a message without end.
            send(b"{", MOST_FDS);
            send(b" ", 1);
            assert!(channel.next().await.is_err());
        });
    }

    #[test]
    fn calls_are_read_with_and_without_arguments() {
        let call = |text: &str| serde_json::from_str::<Call>(text).map_err(|_| ());
        let plain = Call { method: "a.B".to_owned(), parameters: None, oneway: false, more: false };
        assert_eq!(call(r#"{"method":"a.B"}"#), Ok(plain.clone()));
        assert_eq!(call(r#"{"method":"a.B","parameters":null,"oneway":false}"#), Ok(plain.clone()));
        let empty = Call { parameters: Some(Map::new()), oneway: true, ..plain };
        assert_eq!(call(r#"{"method":"a.B","parameters":{},"oneway":true}"#), Ok(empty.clone()));
        let more = Call { oneway: false, more: true, ..empty };
        assert_eq!(call(r#"{"method":"a.B","parameters":{},"more":true}"#), Ok(more));
        for wrong in ["", "{}", r#"{"method":1}"#, r#"{"method":"a.B","parameters":[]}"#] {
            assert_eq!(call(wrong), Err(()), "{wrong}");
        }
    }
}
