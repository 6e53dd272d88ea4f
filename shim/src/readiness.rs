//! The guest's own word that it is ready, over a port of its own.
//!
//! The guest is not trusted: what it writes is read in small pieces, and nothing but the line `READY=1` means
//! anything.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use qemu::GuestReady;

/// What the guest writes, as a service does to its manager (sd_notify(3)).
const READY: &[u8] = b"READY=1";

/// Longest line that is looked at. A longer one is none of those that mean something.
const LONGEST_LINE: usize = 4096;

/// A guest that is awaited.
#[derive(Debug)]
pub(crate) struct Readiness {
    port: String,
    timeout: Duration,
    /// None when there is nothing more to hear.
    stream: Option<UnixStream>,
    lines: Lines,
    until: Option<Instant>,
}

/// What was heard of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Ready,
    /// QEMU closed the connection.
    Closed,
}

impl Readiness {
    /// Connects to the port's socket, which listens already. QEMU takes it up before the guest runs, and would
    /// drop what the guest writes to a port that nobody is connected to.
    pub(crate) fn await_at(ready: &GuestReady) -> io::Result<Self> {
        let stream = UnixStream::connect(&ready.socket)?;
        stream.set_nonblocking(true)?;
        let (port, timeout) = (ready.port.clone(), ready.timeout);
        Ok(Self { port, timeout, stream: Some(stream), lines: Lines::default(), until: None })
    }

    /// The guest's CPUs run, and its time with them. This is how long the service manager is to wait at least.
    pub(crate) fn begin(&mut self, now: Instant) -> Duration {
        self.until = Some(now + self.timeout);
        self.timeout
    }

    /// Nobody waits for the guest any more.
    pub(crate) fn give_up(&mut self) {
        (self.until, self.stream) = (None, None);
    }

    /// What to poll for input.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
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
        let Some(stream) = &mut self.stream else { return Heard::Nothing };
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer) {
            Ok(0) => Heard::Closed,
            Ok(length) if self.lines.take(&buffer[..length]) => Heard::Ready,
            Ok(_) => Heard::Nothing,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Heard::Nothing
            }
            Err(_) => Heard::Closed,
        }
    }
}

impl fmt::Display for Readiness {
    /// What is awaited.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "READY=1 on its port {}", self.port)
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
