//! The socket of a monitor: bytes and file descriptors out, bytes in.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use rustix::io::ioctl_fionread;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// How many bytes are read at once.
const AT_ONCE: usize = 4096;

/// A connected monitor.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<UnixStream>,
    unsent: VecDeque<Piece>,
    /// How many bytes were read and are in the socket still.
    held: usize,
    /// How many of the bytes in the socket were there before, so that a former daemon may have read them.
    former: usize,
}

/// Bytes to be sent, the first of them with a file descriptor.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    sent: usize,
    fd: Option<OwnedFd>,
}

/// A file descriptor is not the monitor that `Register` takes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    /// The file descriptor is something else.
    #[error(
        "it is not a stream socket; give one end of socketpair(AF_UNIX, SOCK_STREAM), the other being QEMU's"
    )]
    Kind,
    /// The daemon cannot use it.
    #[error("it cannot be used")]
    Use(#[source] io::Error),
}

impl Link {
    /// Takes the daemon's end of a monitor's socket pair.
    pub(crate) fn open(socket: OwnedFd) -> Result<Self, LinkFault> {
        if !matches!(getsockopt(&socket, sockopt::SockType), Ok(SockType::Stream)) {
            return Err(LinkFault::Kind);
        }
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.peer_addr().map_err(|_| LinkFault::Kind)?;
        stream.set_nonblocking(true).map_err(LinkFault::Use)?;
        let former = ioctl_fionread(&stream).map_err(|error| LinkFault::Use(error.into()))?;
        let former = usize::try_from(former).unwrap_or(usize::MAX);
        let socket = UnixStream::from_std(stream).map_err(LinkFault::Use)?;
        Ok(Self { socket: Arc::new(socket), unsent: VecDeque::new(), held: 0, former })
    }

    /// The socket, for the file descriptor store.
    pub(crate) fn socket(&self) -> Arc<UnixStream> {
        self.socket.clone()
    }

    /// Puts bytes behind what is to be sent; the file descriptor goes with their first one.
    pub(crate) fn send(&mut self, bytes: Vec<u8>, fd: Option<OwnedFd>) {
        self.unsent.push_back(Piece { bytes, sent: 0, fd });
    }

    /// Sends what there is to send, and returns when there are bytes to read, those behind what is held; none mean the end.
    ///
    /// They are held then, and stay in the socket until they are consumed, so a daemon that is killed before leaves them to the next one.
    /// They end with a line where they can, and the next daemon begins with one. Dropping the future loses nothing.
    pub(crate) async fn turn(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let interest = match self.unsent.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = self.socket.ready(interest).await?;
            if ready.is_writable() {
                self.flush()?;
            }
            if ready.is_readable() || ready.is_read_closed() {
                let all = ready.is_read_closed();
                match self.socket.try_io(Interest::READABLE, || peek(&self.socket, self.held, all))
                {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                    Ok(bytes) => {
                        self.held += bytes.len();
                        return Ok(bytes);
                    }
                }
            }
        }
    }

    /// How many bytes [`Self::turn`] gave that are not consumed.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether no former daemon has read what comes now.
    pub(crate) fn is_past_former(&self) -> bool {
        self.former == 0
    }

    /// Takes the first bytes out of the socket that [`Self::turn`] gave.
    pub(crate) fn consume(&mut self, length: usize) -> io::Result<()> {
        self.held -= length;
        self.former = self.former.saturating_sub(length);
        let mut left = length;
        while left > 0 {
            let mut buffer = [0; AT_ONCE];
            let part = &mut buffer[..left.min(AT_ONCE)];
            let (taken, _) = recv(self.socket.as_fd(), part, RecvFlags::DONTWAIT)?;
            left = left.saturating_sub(taken.max(1));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(piece) = self.unsent.front_mut() {
            let socket = &self.socket;
            match socket.try_io(Interest::WRITABLE, || piece.send(socket)) {
                Ok(()) if piece.sent == piece.bytes.len() => drop(self.unsent.pop_front()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The bytes in the socket behind the first `held`, up to the end of the last whole line; all of them when that is to be,
/// or when the first line is longer than what is read at once.
fn peek(socket: &UnixStream, held: usize, all: bool) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; held + AT_ONCE];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (length, _) = recv(socket.as_fd(), &mut buffer[..], flags)?;
    buffer.truncate(length);
    let mut bytes = buffer.split_off(held.min(length));
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    match whole {
        Some(whole) => bytes.truncate(whole),
        None if all || bytes.len() == AT_ONCE || length == 0 => {}
        None => return Err(io::ErrorKind::WouldBlock.into()),
    }
    Ok(bytes)
}

impl Piece {
    fn send(&mut self, socket: &UnixStream) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.fd.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let parts = [IoSlice::new(&self.bytes[self.sent..])];
        self.sent += sendmsg(socket.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL)?;
        self.fd = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Std;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn bytes_go_both_ways_however_full_the_socket_is() {
        runtime().block_on(async {
            let (ours, mut theirs) = Std::pair().unwrap();
            let mut link = Link::open(ours.into()).unwrap();
            let long = vec![b'x'; 1 << 20];
            link.send(long.clone(), None);
            link.send(b"end".to_vec(), Some(std::fs::File::open("/dev/null").unwrap().into()));
            let other = std::thread::spawn(move || {
                let mut got = vec![0; (1 << 20) + 3];
                theirs.read_exact(&mut got).unwrap();
                theirs.write_all(b"answer").unwrap();
                got
            });
            assert_eq!(link.turn().await.unwrap(), b"answer", "the other end is closed behind it");
            assert_eq!(other.join().unwrap(), [&long[..], b"end"].concat());
            link.consume(6).unwrap();
            assert_eq!(link.turn().await.unwrap(), b"");
        });
    }

    #[test]
    fn what_is_not_consumed_is_there_for_the_next_daemon() {
        runtime().block_on(async {
            let (ours, mut theirs) = Std::pair().unwrap();
            let store = ours.try_clone().unwrap();
            let mut link = Link::open(ours.into()).unwrap();
            theirs.write_all(b"one\ntwo\nthr").unwrap();
            assert_eq!(link.turn().await.unwrap(), b"one\ntwo\n");
            drop(link);
            let mut link = Link::open(store.into()).unwrap();
            assert_eq!(link.turn().await.unwrap(), b"one\ntwo\n");
            link.consume(8).unwrap();
            // Half a line wakes nobody up, and stays.
            let wait = tokio::time::timeout(std::time::Duration::from_millis(50), link.turn());
            wait.await.unwrap_err();
            theirs.write_all(b"ee\n").unwrap();
            assert_eq!(link.turn().await.unwrap(), b"three\n");
            link.consume(6).unwrap();
            theirs.write_all(b"four\n").unwrap();
            assert_eq!(link.turn().await.unwrap(), b"four\n");
            theirs.write_all(b"five\nsi").unwrap();
            assert_eq!(link.turn().await.unwrap(), b"five\n", "what is held is not read again");
            link.consume(5).unwrap();
            assert_eq!((link.held(), link.is_past_former()), (5, true));
            let mut link = Link::open(link.socket().as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert!(!link.is_past_former());
            theirs.write_all(b"x\n").unwrap();
            assert_eq!(link.turn().await.unwrap(), b"five\nsix\n", "the next daemon reads it");
            link.consume(9).unwrap();
            assert!(link.is_past_former());
            theirs.write_all(&[b'x'; AT_ONCE + 1]).unwrap();
            assert_eq!(link.turn().await.unwrap(), [b'x'; AT_ONCE], "a long line comes in parts");
        });
    }

    #[test]
    fn what_is_no_monitor_is_refused() {
        let _runtime = runtime();
        let _entered = _runtime.enter();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Link::open(file.into()), Err(LinkFault::Kind)));
        let (datagram, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(matches!(Link::open(datagram.into()), Err(LinkFault::Kind)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        assert!(matches!(Link::open(listener.into()), Err(LinkFault::Kind)));
    }
}
