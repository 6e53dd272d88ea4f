//! A lifeline: the daemon's end of the socket pair whose other end a shim holds while its guest lives.
//!
//! The kernel closes the shim's end however the shim ends, so there is nothing stale to clean up. What it carries is what
//! the daemon has the shim open or do ([`dbus_api::opening`]); what else a client writes is read and thrown away.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dbus_api::opening::{Answer, LONGEST, Outcome, Port, Request, Wish};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, SockType, UnixAddr, getpeername, getsockopt, shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::{clock, stream};

/// How long a shim may take to open something. It does so in a millisecond, or is stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many requests may be without an answer.
const MOST_UNANSWERED: usize = 16;

/// What is said of an answer that is none.
const MALFORMED: &str = "its answer is malformed";

/// `POLLRDHUP` of poll(2), which nix does not name: the peer closed, or will at least never write again.
const PEER_CLOSED: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);

/// A connected lifeline.
#[derive(Debug)]
pub(crate) struct Lifeline {
    /// Tokio's stream serves packet sockets as well: waiting and reading are the same.
    socket: UnixStream,
    /// Who waits for which answer.
    unanswered: Mutex<BTreeMap<u64, oneshot::Sender<Answered>>>,
    /// The number of the next request. A former daemon's were smaller, for its host ran less long.
    next: AtomicU64,
}

/// What a shim opened, if it was to open something, or its words why it did not.
type Answered = Result<Option<OwnedFd>, String>;

/// Why a shim opened nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenFault {
    /// It does not open things.
    #[error(
        "its glassbox-qemu opens nothing for others, as one does that is older than this daemon"
    )]
    Unable,
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// It does not answer.
    #[error("its glassbox-qemu does not answer")]
    Silent,
}

/// The lifeline that a guest has now: a claim that is renewed has a new one. It keeps none open.
#[derive(Debug, Default)]
pub(crate) struct CurrentLifeline(Mutex<Weak<Lifeline>>);

impl CurrentLifeline {
    /// Takes note of a new one.
    pub(crate) fn is_now(&self, lifeline: &Arc<Lifeline>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(lifeline);
    }

    /// The lifeline; none of a guest that has ended.
    pub(crate) fn get(&self) -> Option<Arc<Lifeline>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

/// A file descriptor is not the lifeline that `Register` asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifelineFault {
    /// The file descriptor is something else.
    #[error("it is not a socket; give one end of socketpair(AF_UNIX, SOCK_SEQPACKET)")]
    NotASocket,
    /// The socket is of a kind whose closing the kernel does not report.
    #[error(
        "it is a socket of the wrong kind; give one end of socketpair(AF_UNIX, SOCK_SEQPACKET)"
    )]
    Kind,
    /// The socket has no other end.
    #[error("it is not connected; give one end of a socket pair")]
    NotConnected,
    /// The daemon cannot watch it.
    #[error("it cannot be watched")]
    Watch(#[source] io::Error),
}

impl Lifeline {
    /// Checks that the file descriptor is one end of a stream or packet socket pair, and watches it.
    pub(crate) fn watch(socket: OwnedFd) -> Result<Self, LifelineFault> {
        let kind = getsockopt(&socket, sockopt::SockType).map_err(|_| LifelineFault::NotASocket)?;
        if !matches!(kind, SockType::SeqPacket | SockType::Stream) {
            return Err(LifelineFault::Kind);
        }
        match getpeername::<UnixAddr>(socket.as_raw_fd()) {
            Ok(_) => {}
            Err(Errno::ENOTCONN) => return Err(LifelineFault::NotConnected),
            Err(_) => return Err(LifelineFault::Kind),
        }
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true).map_err(LifelineFault::Watch)?;
        let socket = UnixStream::from_std(stream).map_err(LifelineFault::Watch)?;
        Ok(Self { socket, unanswered: Mutex::default(), next: clock::boottime().into() })
    }

    /// Has the shim open something, and waits for it for [`PATIENCE`] at most.
    ///
    /// # Errors
    /// [`OpenFault`].
    pub(crate) async fn open(&self, port: Port, name: &str) -> Result<OwnedFd, OpenFault> {
        let opened = self.ask(Wish::Open { port, name }).await?;
        opened.ok_or_else(|| OpenFault::Refused(MALFORMED.to_owned()))
    }

    /// Has the shim begin to reboot its guest.
    ///
    /// # Errors
    /// [`OpenFault`].
    pub(crate) async fn reboot(&self) -> Result<(), OpenFault> {
        self.ask(Wish::Reboot).await.map(drop)
    }

    async fn ask(&self, wish: Wish<'_>) -> Result<Option<OwnedFd>, OpenFault> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request { number, wish }.to_string();
        if request.len() > LONGEST {
            return Err(OpenFault::Refused("it has none of so long a name".to_owned()));
        }
        let (answered, answer) = oneshot::channel();
        if self.unanswered().len() >= MOST_UNANSWERED {
            return Err(OpenFault::Silent);
        }
        self.unanswered().insert(number, answered);
        let answer = match self.socket.try_write(request.as_bytes()) {
            Ok(_) => tokio::time::timeout(PATIENCE, answer).await.ok().and_then(Result::ok),
            // One that is stopped reads nothing, and its socket is full some time.
            Err(_) => None,
        };
        self.unanswered().remove(&number);
        match answer {
            Some(answered) => answered.map_err(OpenFault::Refused),
            None => Err(OpenFault::Silent),
        }
    }

    /// Returns when the other end is closed.
    pub(crate) async fn ended(&self) {
        loop {
            if self.socket.readable().await.is_err() {
                // The runtime is shutting down, and the claim must outlive the daemon.
                return std::future::pending().await;
            }
            // What is left to read when it has ended is nobody's business any more.
            if self.has_ended() {
                return;
            }
            self.take_answer();
        }
    }

    /// Whether the other end is closed by now.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.socket.as_fd())
    }

    /// The account of the process that made it, and keeps its other end (`SO_PEERCRED`, unix(7)).
    pub(crate) fn maker(&self) -> Option<u32> {
        getsockopt(&self.socket, sockopt::PeerCredentials).map(|made| made.uid()).ok()
    }

    /// Ends it from this side, which its client sees.
    pub(crate) fn hang_up(&self) {
        // One that has ended has ended.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Takes an answer for who waits for it, and throws away what else a client wrote.
    fn take_answer(&self) {
        let mut buffer = [0; LONGEST];
        let receive = || stream::receive_now(&self.socket, &mut buffer);
        let (length, fds) = match self.socket.try_io(Interest::READABLE, receive) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::debug!("a lifeline cannot be read: {error}"),
        };
        let answer = Answer::parse(&buffer[..length]);
        let waiting = answer.and_then(|answer| self.unanswered().remove(&answer.number));
        let answered = match (answer.map(|answer| answer.outcome), fds.into_iter().next()) {
            (Some(Outcome::Opened), Some(fd)) => Ok(Some(fd)),
            (Some(Outcome::Begun), _) => Ok(None),
            (Some(Outcome::Refused(words)), _) => Err(words.to_owned()),
            (Some(Outcome::Opened), None) | (None, _) => Err(MALFORMED.to_owned()),
        };
        match waiting {
            // Who asked may have given up.
            Some(waiting) => drop(waiting.send(answered)),
            None => tracing::debug!("a client wrote {length} bytes to its lifeline"),
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answered>>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Lifeline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn has_ended(socket: BorrowedFd<'_>) -> bool {
    let mut poll_fds = [PollFd::new(socket, PEER_CLOSED)];
    // An error of poll cannot come from the peer; the claim then stays until the next look.
    poll(&mut poll_fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, send, socketpair};
    use std::time::Duration;

    fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn only_the_other_end_s_closing_ends_it() {
        runtime().block_on(async {
            for kind in [SockType::SeqPacket, SockType::Stream] {
                let (ours, theirs) = pair(kind);
                let lifeline = Lifeline::watch(ours).unwrap();
                for noise in [&b"x"[..], b"", b"more"] {
                    send(theirs.as_raw_fd(), noise, MsgFlags::empty()).unwrap();
                }
                let wait = tokio::time::timeout(Duration::from_millis(50), lifeline.ended());
                wait.await.expect_err("data does not end a lifeline");
                assert!(!lifeline.has_ended());
                drop(theirs);
                assert!(lifeline.has_ended());
                tokio::time::timeout(Duration::from_secs(5), lifeline.ended()).await.unwrap();
            }
        });
    }

    #[test]
    fn it_is_ended_from_this_side_too_and_knows_who_made_it() {
        runtime().block_on(async {
            let (ours, theirs) = pair(SockType::SeqPacket);
            let lifeline = Lifeline::watch(ours).unwrap();
            assert_eq!(lifeline.maker(), Some(nix::unistd::getuid().as_raw()));
            lifeline.hang_up();
            assert!(lifeline.has_ended() && has_ended(theirs.as_fd()));
            tokio::time::timeout(Duration::from_secs(5), lifeline.ended()).await.unwrap();
        });
    }

    #[test]
    fn what_cannot_end_is_refused() {
        let _guard = runtime();
        let _guard = _guard.enter();
        let fault = |fd: OwnedFd| Lifeline::watch(fd).unwrap_err().to_string();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(fault(file.into()).starts_with("it is not a socket;"));
        assert!(fault(pair(SockType::Datagram).0).starts_with("it is a socket of the wrong kind;"));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inet = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(fault(inet.into()).starts_with("it is a socket of the wrong kind;"));
        let directory = tempfile::tempdir().unwrap();
        let listener =
            std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        assert!(fault(listener.into()).starts_with("it is not connected;"));
        let lone = nix::sys::socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        );
        assert!(fault(lone.unwrap()).starts_with("it is not connected;"));
    }

    #[test]
    fn one_that_ended_before_is_taken() {
        runtime().block_on(async {
            let (ours, theirs) = pair(SockType::SeqPacket);
            drop(theirs);
            let lifeline = Lifeline::watch(ours).unwrap();
            tokio::time::timeout(Duration::from_secs(5), lifeline.ended()).await.unwrap();
        });
    }
}
