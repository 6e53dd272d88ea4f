//! Which process stands for a guest, by the kernel's word.
//!
//! A guest's `glassbox-qemu` makes a socket pair and hands one end, the lifeline, to `glassboxd`. For a socket pair the
//! kernel keeps who made it, and tells it with `SO_PEERCRED` (unix(7)) wherever an end is passed on. So the end that
//! `glassboxd` has is a proof that this very process asked to be a guest; a process id or a pidfd, which anybody can
//! have of any process, is none. The other end is open for as long as the process lives.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use dbus_api::Placement;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockname, getsockopt, sockopt};

/// `POLLRDHUP` of poll(2), which nix does not name: the other end is closed.
const PEER_CLOSED: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);

/// The process that made a lifeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its process id.
    pub(crate) pid: u32,
    /// The account that it had then.
    uid: u32,
    /// The unit of the system's manager it lives in.
    unit: Option<String>,
}

/// Why a file descriptor proves nothing, or what it proves is not enough.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofFault {
    /// It is something else.
    #[error("the lifeline is no end of a socket pair")]
    NotAPair,
    /// The process is gone.
    #[error("the process that made the lifeline has ended")]
    Ended,
    /// The kernel does not tell.
    #[error("the kernel does not tell who made the lifeline: {0}")]
    Kernel(#[from] Errno),
    /// The process file system does not tell.
    #[error("{path}: {source}")]
    Proc {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The caller made it.
    #[error("pid {0}, which made the lifeline, has the account of the caller")]
    Caller(u32),
    /// Nothing that the service manager could stop is the guest's.
    #[error("pid {0} lives in no unit of its own")]
    NoUnit(u32),
}

impl Leader {
    /// The process that made a socket pair, of which this is one end.
    pub(crate) fn of(lifeline: BorrowedFd<'_>) -> Result<Self, ProofFault> {
        let kind = getsockopt(&lifeline, sockopt::SockType).map_err(|_| ProofFault::NotAPair)?;
        if !matches!(kind, SockType::SeqPacket | SockType::Stream) || !is_nameless(lifeline) {
            return Err(ProofFault::NotAPair);
        }
        let made = getsockopt(&lifeline, sockopt::PeerCredentials)?;
        let pid = u32::try_from(made.pid()).ok().filter(|pid| *pid != 0);
        let pid = pid.ok_or(ProofFault::Ended)?;
        let path = format!("/proc/{pid}/cgroup");
        let unit = match fs::read_to_string(&path) {
            Ok(text) => Placement::parse(&text).system_unit,
            Err(source) => return Err(ProofFault::Proc { path, source }),
        };
        // Looked at afterwards, so that the number is not that of a later process.
        let mut polled = [PollFd::new(lifeline, PEER_CLOSED)];
        if poll(&mut polled, PollTimeout::ZERO)? > 0 {
            return Err(ProofFault::Ended);
        }
        Ok(Self { pid, uid: made.uid(), unit })
    }

    /// The unit that is the guest's alone, for a caller with this account.
    pub(crate) fn unit_for(&self, caller: u32) -> Result<String, ProofFault> {
        // Or whoever has the daemon's account could make a lifeline for a process of its own. Root needs no broker.
        if self.uid == caller && caller != 0 {
            return Err(ProofFault::Caller(self.pid));
        }
        let unit = self.unit.clone().filter(|unit| !Placement::is_shared(unit));
        unit.ok_or(ProofFault::NoUnit(self.pid))
    }
}

/// Whether neither end has an address. Who listens or connects has one on one of the two ends.
fn is_nameless(socket: BorrowedFd<'_>) -> bool {
    let ends =
        [getsockname::<UnixAddr>(socket.as_raw_fd()), getpeername::<UnixAddr>(socket.as_raw_fd())];
    ends.iter().all(|end| end.as_ref().is_ok_and(UnixAddr::is_unnamed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn fault(socket: &impl AsFd) -> String {
        Leader::of(socket.as_fd()).unwrap_err().to_string()
    }

    #[test]
    fn a_socket_pair_tells_who_made_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let leader = Leader::of(ours.as_fd()).unwrap();
        assert_eq!(leader.pid, std::process::id());
        assert_eq!(leader.uid, nix::unistd::getuid().as_raw());
        drop(theirs);
        assert_eq!(fault(&ours), "the process that made the lifeline has ended");
    }

    #[test]
    fn what_anybody_could_have_of_another_process_is_no_proof() {
        let no_pair = "the lifeline is no end of a socket pair";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // As any client of any service has it; the kernel would name the service.
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        assert_eq!(fault(&client), no_pair);
        assert_eq!(fault(&server), no_pair);
        assert_eq!(fault(&listener), no_pair);
        assert_eq!(fault(&datagram), no_pair);
        assert_eq!(fault(&std::fs::File::open("/dev/null").unwrap()), no_pair);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inet = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert_eq!(fault(&inet), no_pair);
    }

    #[test]
    fn a_unit_counts_that_is_the_guest_s_alone() {
        let leader =
            |uid, unit: Option<&str>| Leader { pid: 7, uid, unit: unit.map(str::to_owned) };
        let unit = |uid, unit| leader(uid, unit).unit_for(998).map_err(|fault| fault.to_string());
        assert_eq!(unit(0, Some("qemu@web.service")), Ok("qemu@web.service".to_owned()));
        assert_eq!(unit(61184, Some("run-1.scope")), Ok("run-1.scope".to_owned()));
        let none = Err("pid 7 lives in no unit of its own".to_owned());
        for shared in ["init.scope", "session-1.scope", "user@1000.service"] {
            assert_eq!(unit(1000, Some(shared)), none);
        }
        assert_eq!(unit(0, None), none);
        let own = Err("pid 7, which made the lifeline, has the account of the caller".to_owned());
        assert_eq!(unit(998, Some("glassboxd.service")), own);
    }
}
