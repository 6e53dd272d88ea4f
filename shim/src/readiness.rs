//! The guest's own word that it is ready, over a port of its own or a vsock.
//!
//! The guest is not trusted: what it writes is read in small pieces, and nothing but the line `READY=1` means
//! anything.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use qemu::{GuestReady, ReadyAt};

use crate::vsock::HostPort;

/// What the guest writes, as a service does to its manager (sd_notify(3)).
const READY: &[u8] = b"READY=1";

/// Longest line that is looked at. A longer one is none of those that mean something.
const LONGEST_LINE: usize = 4096;

/// How much of a message is read, in pieces of a kilobyte; that of an ordinary guest is one of them.
const MOST_READS: u32 = 64;

/// How people are told of it.
const OVER_VSOCK: &str = "over its vsock";

/// A guest that is awaited.
#[derive(Debug)]
pub(crate) struct Readiness {
    what: String,
    timeout: Duration,
    /// None when there is nothing more to hear.
    source: Option<Source>,
    until: Option<Instant>,
}

/// What was heard of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// Words that mean nothing here.
    Something,
    Ready,
    /// QEMU closed the connection.
    Closed,
}

/// Where the guest is listened to.
#[derive(Debug)]
enum Source {
    /// A connection to the guest's port, which lasts as long as QEMU.
    Port(Connection),
    /// Systemd in a guest makes a connection for each message, and closes its half behind it; one is heard at a time.
    Vsock { port: HostPort, connection: Option<Connection> },
}

impl Readiness {
    /// Connects to the port's socket, which listens already: QEMU takes it up before the guest runs, and would
    /// drop what the guest writes to a port that nobody is connected to. Or listens itself, for a vsock, unless
    /// that socket is `open` already.
    pub(crate) fn await_at(ready: &GuestReady, open: Option<OwnedFd>) -> io::Result<Self> {
        let (what, source) = match &ready.at {
            ReadyAt::Port { name, socket } => {
                let stream = UnixStream::connect(socket)?;
                stream.set_nonblocking(true)?;
                (format!("on its port {name}"), Source::Port(Connection::new(stream.into())))
            }
            ReadyAt::Vsock { cid, port, .. } => {
                let port = match open {
                    Some(socket) => HostPort::Kernel { socket, cid: *cid },
                    None => HostPort::listen(*port, *cid)?,
                };
                (OVER_VSOCK.to_owned(), Source::Vsock { port, connection: None })
            }
            ReadyAt::VsockProgram { path, .. } => {
                let port = HostPort::listen_at(Path::new(path))?;
                (OVER_VSOCK.to_owned(), Source::Vsock { port, connection: None })
            }
        };
        Ok(Self { what, timeout: ready.timeout, source: Some(source), until: None })
    }

    /// The guest's CPUs run, and its time with them. This is how long the service manager is to wait at least.
    pub(crate) fn begin(&mut self, now: Instant) -> Duration {
        self.until = Some(now + self.timeout);
        self.timeout
    }

    /// Nobody waits for the guest any more.
    pub(crate) fn give_up(&mut self) {
        (self.until, self.source) = (None, None);
    }

    /// What to poll for input.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match self.source.as_ref()? {
            Source::Port(connection) | Source::Vsock { connection: Some(connection), .. } => {
                connection.stream.as_fd()
            }
            Source::Vsock { port, connection: None } => port.as_fd(),
        })
    }

    /// When the guest has had its time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// What the guest did not do in time.
    pub(crate) fn overdue(&self) -> String {
        format!("it did not say {self} in {} s", self.timeout.as_secs())
    }

    /// Reads what there is, up to a few kilobytes.
    pub(crate) fn listen(&mut self) -> Heard {
        match &mut self.source {
            None => Heard::Nothing,
            Some(Source::Port(connection)) => connection.hear(),
            Some(Source::Vsock { port, connection: current @ None }) => {
                *current = port.accept().map(Connection::new);
                Heard::Nothing
            }
            Some(Source::Vsock { port, connection: current @ Some(_) }) => {
                let heard = match current.as_mut() {
                    Some(connection) if port.passes_ends() => connection.hear(),
                    Some(connection) => connection.hear_message(),
                    None => Heard::Closed,
                };
                if heard != Heard::Closed {
                    return heard;
                }
                // Its end ends a line as well, and another connection may follow.
                let last = current.take().is_some_and(Connection::ended_ready);
                if last { Heard::Ready } else { Heard::Nothing }
            }
        }
    }
}

impl fmt::Display for Readiness {
    /// What is awaited.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "READY=1 {}", self.what)
    }
}

/// A stream that does not block, with the line that is being read.
#[derive(Debug)]
struct Connection {
    stream: File,
    lines: Lines,
}

impl Connection {
    fn new(stream: OwnedFd) -> Self {
        Self { stream: stream.into(), lines: Lines::default() }
    }

    fn hear(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Heard::Closed,
            Ok(length) if self.lines.take(&buffer[..length]) => Heard::Ready,
            Ok(_) => Heard::Something,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Heard::Nothing
            }
            Err(_) => Heard::Closed,
        }
    }

    /// As [`Self::hear`], of a stream whose end may not be seen: it ends behind what was sent at a time.
    ///
    /// The first process of a guest waits, once it has sent a message, until the other side closes as well (sd_notify(3)
    /// of systemd 254), and its guest with it.
    fn hear_message(&mut self) -> Heard {
        let mut heard_something = false;
        for _ in 0..MOST_READS {
            match self.hear() {
                Heard::Something => heard_something = true,
                Heard::Nothing if heard_something => return Heard::Closed,
                heard @ (Heard::Nothing | Heard::Ready | Heard::Closed) => return heard,
            }
        }
        Heard::Closed
    }

    /// Whether the line that the end of the stream ends is the one.
    fn ended_ready(self) -> bool {
        self.lines.0 == READY
    }
}

/// The line that is being read.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Whether one of the lines that end here is the one.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                if std::mem::take(&mut self.0) == READY {
                    return true;
                }
            } else if self.0.len() < LONGEST_LINE {
                self.0.push(*byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_message_of_systemd_ends_with_its_connection() {
        for (text, ready) in [
            (&b"READY=1"[..], true),
            (b"X_SYSTEMD_HOSTNAME=web\nREADY=1", true),
            (b"X_SYSTEMD_HOSTNAME=web", false),
            (b"READY=10", false),
            (b"", false),
        ] {
            let (mut guest, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut connection = Connection::new(ours.into());
            assert_eq!(connection.hear(), Heard::Nothing, "nothing is there yet");
            guest.write_all(text).unwrap();
            drop(guest);
            while connection.hear() == Heard::Something {}
            assert_eq!(connection.ended_ready(), ready, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_program_that_passes_no_end_on_is_closed_behind_a_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports_1024");
        std::fs::write(&path, "of an earlier start").unwrap();
        let at = ReadyAt::VsockProgram {
            path: path.display().to_string(),
            place: crate::tap::tests::domain("").place,
        };
        let ready = GuestReady { at, timeout: Duration::from_secs(1) };
        let long = "x".repeat(10_000);
        for (text, expected) in [
            ("X_SYSTEMD_HOSTNAME=web", Heard::Nothing),
            (long.as_str(), Heard::Nothing),
            ("STATUS=up\n", Heard::Nothing),
            ("STATUS=up\nREADY=1", Heard::Ready),
            ("READY=1\nSTATUS=up", Heard::Ready),
        ] {
            let mut readiness = Readiness::await_at(&ready, None).unwrap();
            assert_eq!(readiness.listen(), Heard::Nothing, "nobody is there yet");
            let mut program = UnixStream::connect(&path).unwrap();
            assert_eq!(readiness.listen(), Heard::Nothing, "it has said nothing");
            assert_eq!(readiness.listen(), Heard::Nothing, "and the shim goes on");
            program.write_all(text.as_bytes()).unwrap();
            assert_eq!(readiness.listen(), expected, "{text}");
            if expected == Heard::Nothing {
                assert_eq!(program.read(&mut [0]).unwrap(), 0, "closed behind {text}");
            }
        }
    }

    #[test]
    fn only_the_line_itself_is_heard() {
        let long = [vec![b'x'; 10_000], b"\nREADY=1\n".to_vec()].concat();
        for (text, ready) in [
            (&b"READY=1\n"[..], true),
            (b"READY=1\r\n", true),
            (b"STATUS=almost\nREADY=1\n", true),
            (b"\n\nREADY=1\n", true),
            (&long, true),
            (b"READY=1", false),
            (b"READY=0\n", false),
            (b"NOTREADY=1\n", false),
            (b"READY=10\n", false),
            (b"\0READY=1\n", false),
        ] {
            for size in [1, 3, text.len()] {
                let mut lines = Lines::default();
                let heard = text.chunks(size).any(|chunk| lines.take(chunk));
                assert_eq!(heard, ready, "{:?} by {size}", String::from_utf8_lossy(text));
                assert!(lines.0.len() <= LONGEST_LINE);
            }
        }
    }
}
