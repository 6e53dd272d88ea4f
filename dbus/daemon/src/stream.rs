//! A client's stream socket as zbus takes it after authentication, with a limit on the size of messages.
//!
//! A message may be 128 MiB long by the D-Bus specification, and zbus sets that much memory aside at its first
//! sixteen bytes. Our longest message is a thousandth of that, so no client makes the daemon big.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

use crate::sasl::{Handshake, Progress};

/// The longest message that is taken: `Register` with a name and UUID has some hundred bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// How many file descriptors one message may bring; `Register` has three. What a read brings beyond, the kernel closes.
const MOST_FDS: usize = 16;

/// The length of what every message begins with (D-Bus specification, "Message Format"): the fixed header and the
/// length of the array of header fields.
const FIXED_HEADER: usize = 16;

/// An authenticated stream, with what came behind the authentication.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The socket.
    pub(crate) socket: Arc<UnixStream>,
    /// Bytes of the first messages that were read already.
    pub(crate) early: Received,
}

/// Bytes and the file descriptors that came with them.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The file descriptors.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Lets the client say who it is, until it begins to send messages.
///
/// # Errors
/// When it does not speak the protocol, or hangs up.
pub(crate) async fn authenticate(
    stream: UnixStream,
    mut handshake: Handshake,
) -> io::Result<Stream> {
    let mut early = Received::default();
    let mut buffer = [0; 512];
    loop {
        let (length, fds) = receive(&stream, &mut buffer).await?;
        if length == 0 {
            return Err(io::Error::other("it hung up"));
        }
        early.bytes.extend_from_slice(&buffer[..length]);
        early.fds.extend(fds);
        let mut answers = Vec::new();
        let progress = handshake.feed(&mut early.bytes, &mut answers).map_err(io::Error::other)?;
        send(&stream, &answers).await?;
        if progress == Progress::Begun {
            return Ok(Stream { socket: Arc::new(stream), early });
        }
        // Nothing that authenticates has file descriptors; whoever piles them up is up to no good.
        if !early.fds.is_empty() {
            return Err(io::Error::other("it sends file descriptors before it begins"));
        }
    }
}

/// Receives what there is, once there is something. No bytes mean the end of the stream.
pub(crate) async fn receive(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || receive_now(socket, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Receives what there is now; `WouldBlock` when there is nothing.
pub(crate) fn receive_now(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    Ok((message.bytes, fds))
}

/// Sends all of it.
pub(crate) async fn send(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[send_some(socket, bytes).await?..];
    }
    Ok(())
}

async fn send_some(socket: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

impl Socket for Stream {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let reader = Reader {
            socket: self.socket.clone(),
            early: self.early,
            meter: Meter::default(),
            fds: 0,
        };
        Split::new(reader, Writer(self.socket))
    }
}

/// The half that messages come from.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Arc<UnixStream>,
    early: Received,
    meter: Meter,
    /// How many file descriptors came with the current message.
    fds: usize,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let early = &mut self.early;
        let (length, fds) = if early.bytes.is_empty() {
            receive(&self.socket, buffer).await?
        } else {
            let length = early.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&early.bytes[..length]);
            early.bytes.drain(..length);
            (length, std::mem::take(&mut early.fds))
        };
        self.meter.count(&buffer[..length]).map_err(io::Error::other)?;
        // zbus keeps them until the message is whole, and its bytes may come one by one.
        self.fds += fds.len();
        if self.fds > MOST_FDS {
            return Err(io::Error::other("it sends file descriptors without end"));
        }
        if self.meter.is_between_messages() {
            self.fds = 0;
        }
        Ok((length, fds))
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

/// The half that replies go to.
#[derive(Debug)]
pub(crate) struct Writer(Arc<UnixStream>);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if !fds.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no reply has file descriptors",
            ));
        }
        send_some(&self.0, buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both)?)
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

/// Follows the boundaries of messages in a stream, and finds the one that is too long by its header.
#[derive(Debug, Default)]
struct Meter {
    header: Vec<u8>,
    /// How much of the current message's rest is to come.
    rest: usize,
}

/// A message is longer than any that this program takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sends a message of {0} bytes, {LONGEST_MESSAGE} are the limit")]
struct TooLong(u64);

impl Meter {
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            let of_rest = self.rest.min(bytes.len());
            self.rest -= of_rest;
            bytes = &bytes[of_rest..];
            let of_header = (FIXED_HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..of_header]);
            bytes = &bytes[of_header..];
            if let Ok(header) = <[u8; FIXED_HEADER]>::try_from(self.header.as_slice()) {
                self.rest = rest_of(header)?;
                self.header.clear();
            }
        }
        Ok(())
    }

    fn is_between_messages(&self) -> bool {
        self.rest == 0 && self.header.is_empty()
    }
}

/// How many bytes follow the fixed header: the header fields, filled up to a multiple of eight, and the body.
fn rest_of(header: [u8; FIXED_HEADER]) -> Result<usize, TooLong> {
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        // The first byte tells the byte order. What is neither is zbus's to refuse, by the same header.
        u64::from(if header[0] == b'B' {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    };
    let rest = number(12).next_multiple_of(8) + number(4);
    match usize::try_from(rest) {
        Ok(length) if length <= LONGEST_MESSAGE => Ok(length),
        _ => Err(TooLong(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixed header of a message with so many bytes of fields and body.
    fn header(order: u8, fields: u32, body: u32) -> Vec<u8> {
        let mut header = vec![order, 1, 0, 1];
        for number in [body, 1, fields] {
            header.extend(match order {
                b'l' => number.to_le_bytes(),
                _ => number.to_be_bytes(),
            });
        }
        header
    }

    fn message(order: u8, fields: u32, body: u32) -> Vec<u8> {
        let rest = usize::try_from(fields.next_multiple_of(8) + body).unwrap();
        [header(order, fields, body), vec![b'x'; rest]].concat()
    }

    #[test]
    fn boundaries_are_found_in_any_pieces() {
        let stream = [
            message(b'l', 0, 0),
            message(b'B', 13, 5),
            message(b'l', 8, 60_000),
            message(b'l', 1, 1),
        ]
        .concat();
        for size in [1, 3, 16, 17, 1000, stream.len()] {
            let mut meter = Meter::default();
            for piece in stream.chunks(size) {
                assert_eq!(meter.count(piece), Ok(()));
            }
            assert_eq!((meter.rest, meter.header.len()), (0, 0), "in pieces of {size}");
        }
    }

    #[test]
    fn a_long_message_is_refused_at_its_header() {
        for (order, fields, body, total) in [
            (b'l', 0, 65_537, 65_537),
            (b'B', 65_537, 0, 65_544),
            (b'l', u32::MAX, u32::MAX, 8_589_934_591),
        ] {
            let bytes = header(order, fields, body);
            let mut meter = Meter::default();
            assert_eq!(meter.count(&bytes[..15]), Ok(()));
            assert_eq!(meter.count(&bytes[15..]), Err(TooLong(total)));
        }
    }
}
