//! The bell: a connection to the system bus that is heard when a daemon takes its name there.
//!
//! Where the registry's socket is not to be had, no file appears when a daemon comes, and asking again and again
//! would wake the machine for nothing. The bus tells (D-Bus specification, `NameOwnerChanged`). All is sent at
//! once and nothing of the answers is needed but whether a signal was among them, so this is no D-Bus client: the
//! claim itself is made on a connection of its own, by zbus.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use zbus::Message;

use crate::host;

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// Where below the host's `/run` the system bus is unless a variable says otherwise (D-Bus specification, "System
/// message bus").
const SYSTEM_BUS: &str = "dbus/system_bus_socket";

/// The fixed part of a message's header (D-Bus specification, "Message Format").
const FIXED_HEADER: usize = 16;

/// Longest message that is waited for. Those that come here have a few hundred bytes.
const LONGEST: usize = 64 << 10;

/// A connection on which the bus tells of the daemon.
#[derive(Debug)]
pub(crate) struct Bell {
    stream: UnixStream,
    heard: Heard,
}

/// What there is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    /// Nothing of the daemon.
    Silence,
    /// The daemon came or went.
    Rung,
    /// The bus has closed the connection.
    Broken,
}

/// The path of the system bus's socket; none when it is no socket with a path.
pub(crate) fn system_bus() -> Option<PathBuf> {
    let Ok(address) = std::env::var("DBUS_SYSTEM_BUS_ADDRESS") else {
        return Some(host::run().join(SYSTEM_BUS));
    };
    let path = address.split(';').next()?.strip_prefix("unix:path=")?.split(',').next()?;
    Some(PathBuf::from(path))
}

impl Bell {
    /// Connects and asks to be told.
    pub(crate) fn hang() -> io::Result<Self> {
        let path = system_bus().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = UnixStream::connect(path)?;
        // A few hundred bytes, which fit the socket's buffer, so that nothing waits for the bus.
        stream.set_nonblocking(true)?;
        stream.write_all(&request().map_err(io::Error::other)?)?;
        Ok(Self { stream, heard: Heard::default() })
    }

    /// Takes what has come. Waits for nothing.
    pub(crate) fn listen(&mut self) -> Ring {
        let mut buffer = [0; 4096];
        let mut ring = Ring::Silence;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ring::Broken,
                Ok(length) => match self.heard.take(&buffer[..length]) {
                    Ring::Silence => {}
                    Ring::Rung => ring = Ring::Rung,
                    Ring::Broken => return Ring::Broken,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ring,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ring::Broken,
            }
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// All that is ever sent: who this is, by the kernel's word, and what it wants to hear.
fn request() -> zbus::Result<Vec<u8>> {
    let rule = format!(
        "type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{}'",
        dbus_api::BUS_NAME
    );
    let mut bytes = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec();
    bytes.extend_from_slice(call("Hello").build(&())?.data());
    bytes.extend_from_slice(call("AddMatch").build(&rule)?.data());
    Ok(bytes)
}

fn call(method: &'static str) -> zbus::message::Builder<'static> {
    Message::method_call(BUS_PATH, method).destination(BUS).interface(BUS)
}

/// What has come so far and is no whole message yet.
#[derive(Debug, Default)]
struct Heard {
    authenticated: bool,
    bytes: Vec<u8>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) -> Ring {
        self.bytes.extend_from_slice(bytes);
        if !self.authenticated && !self.authenticate() {
            return if self.bytes.len() > LONGEST { Ring::Broken } else { Ring::Silence };
        }
        let mut ring = Ring::Silence;
        while let Some(length) = message_length(&self.bytes) {
            if length > LONGEST {
                return Ring::Broken;
            }
            if self.bytes.len() < length {
                break;
            }
            let message: Vec<u8> = self.bytes.drain(..length).collect();
            // The match rule lets no signal of this name pass but the daemon's.
            if message.windows(16).any(|window| window == b"NameOwnerChanged") {
                ring = Ring::Rung;
            }
        }
        ring
    }

    /// Drops the lines of the authentication: `DATA`, then `OK` with the bus's id, after which messages come.
    fn authenticate(&mut self) -> bool {
        while let Some(end) = self.bytes.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = self.bytes.drain(..end + 2).collect();
            self.authenticated = line.starts_with(b"OK ");
            if self.authenticated {
                return true;
            }
        }
        false
    }
}

/// The length of the message that begins here; none when too little of it is there to tell.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..FIXED_HEADER)?;
    let number = |at: usize| {
        let field = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let number =
            if header[0] == b'l' { u32::from_le_bytes(field) } else { u32::from_be_bytes(field) };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (body, fields) = (number(4), number(12));
    Some(FIXED_HEADER.saturating_add(fields).checked_next_multiple_of(8)?.saturating_add(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(member: &'static str) -> Vec<u8> {
        let signal = Message::signal(BUS_PATH, BUS, member).build(&("a", "b", "cdefg"));
        signal.unwrap().data().to_vec()
    }

    /// However the bytes are cut, the bell rings once for each change and for nothing else.
    #[test]
    fn only_the_daemon_rings() {
        let other = [b"DATA\r\nOK 1234\r\n".to_vec(), signal("NameAcquired")].concat();
        let all = [other, signal("NameOwnerChanged"), signal("NameAcquired")].concat();
        for size in 1..all.len() {
            let mut heard = Heard::default();
            let rings: Vec<Ring> = all.chunks(size).map(|chunk| heard.take(chunk)).collect();
            assert_eq!(rings.iter().filter(|ring| **ring == Ring::Rung).count(), 1, "{size}");
            assert!(!rings.contains(&Ring::Broken), "{size}");
            assert_eq!(heard.bytes, b"");
        }
    }

    #[test]
    fn what_is_no_bus_breaks_it() {
        let endless =
            [b"l\x04\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff".as_slice()].concat();
        let mut heard = Heard { authenticated: true, bytes: Vec::new() };
        assert_eq!(heard.take(&endless), Ring::Broken);
        assert_eq!(Heard::default().take(&vec![b'x'; LONGEST + 1]), Ring::Broken);
    }
}
