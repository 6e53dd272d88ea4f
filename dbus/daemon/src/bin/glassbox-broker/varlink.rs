//! One call of a Varlink service (varlink.org, "Method Call"): JSON, ended by a NUL byte, both ways.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The longest answer that is taken; those to what is called here have some hundred bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Answer {
    /// The error's name with its interface; none for success.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// What the method or the error tells.
    #[serde(default)]
    pub(crate) parameters: Option<Map<String, Value>>,
}

/// Calls a method of a service, and waits for the answer.
///
/// # Errors
/// When nobody listens there, or what is answered is no Varlink.
pub(crate) async fn call(path: &Path, method: &str, parameters: Value) -> io::Result<Answer> {
    let mut socket = UnixStream::connect(path).await?;
    let mut message = json!({ "method": method, "parameters": parameters }).to_string();
    message.push('\0');
    socket.write_all(message.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = socket.read(&mut buffer).await?;
        answer.extend_from_slice(&buffer[..length]);
        if let Some(end) = answer.iter().position(|byte| *byte == 0) {
            return Ok(serde_json::from_slice(&answer[..end])?);
        }
        if length == 0 || answer.len() > LONGEST_ANSWER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
