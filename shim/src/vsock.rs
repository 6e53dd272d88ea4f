//! The guest's vsock: its number, the kernel's device, and the host's end of a connection.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use domain::{DomainUuid, Fault, Place};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket,
};
use rustix::net::{SocketFlags, accept_with};

use crate::sys;

/// The kernel's device.
pub(crate) const DEVICE: &str = "/dev/vhost-vsock";

/// Numbers from 3 on are guests' (vsock(7)); the largest of 32 bits stands for any.
const FIRST: u32 = 3;

/// How many connections wait to be taken: systemd in a guest sends a few messages at once.
const WAITING: i32 = 16;

/// How many numbers are tried for a guest.
const TRIES: u32 = 1000;

/// The number of a guest that leaves it to us: made of its UUID, so that it mostly is the same at each start, and
/// the next one that is free when the kernel's device opens.
///
/// Another guest can take it before this one does, which is then refused when the number is set.
pub(crate) fn free(uuid: &DomainUuid) -> u32 {
    let taken = |cid| {
        File::options().read(true).write(true).open(DEVICE).is_ok_and(|device| {
            let set = sys::set_guest_cid(&device, cid);
            set.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        })
    };
    first_free(uuid, taken)
}

/// The number that a guest has when nothing is known of others.
pub(crate) fn derived(uuid: &DomainUuid) -> u32 {
    first_free(uuid, |_| false)
}

fn first_free(uuid: &DomainUuid, taken: impl Fn(u32) -> bool) -> u32 {
    let words = uuid
        .as_bytes()
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte)));
    let hash = words.fold(0, |hash, word| hash ^ word);
    let first = FIRST + hash % (u32::MAX - FIRST - TRIES);
    (first..first + TRIES).find(|cid| !taken(*cid)).unwrap_or(first)
}

/// The guest's vsock with its number.
pub(crate) fn open(cid: u32, place: &Place) -> Result<File, Fault> {
    let device = File::options().read(true).write(true).open(DEVICE).map_err(|error| {
        place.refused(format!("'{DEVICE}' cannot be opened: {error}; pass it as a file descriptor"))
    })?;
    sys::set_guest_cid(&device, cid).map_err(|error| {
        let advice = "give another one in <cid address='...'/>";
        place.refused(format!("the guest cannot have the number {cid}: {error}; {advice}"))
    })?;
    Ok(device)
}

/// A port of this host at which one guest is heard.
#[derive(Debug)]
pub(crate) enum HostPort {
    /// The kernel's, for the guest with this number.
    Kernel { socket: OwnedFd, cid: u32 },
    /// That of the program which serves the guest's vsock, in a folder of the guest's account.
    Program(UnixListener),
}

impl HostPort {
    /// Listens at a port of the kernel's for the guest with this number.
    pub(crate) fn listen(port: u32, cid: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, port))?;
        listen(&socket, Backlog::new(WAITING)?)?;
        Ok(Self::Kernel { socket, cid })
    }

    /// Listens where the program connects to.
    pub(crate) fn listen_at(path: &Path) -> io::Result<Self> {
        // The program may have outlived an earlier start of the guest, and its folder with it.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Program(listener))
    }

    /// The next connection of the guest's; one of somebody else is closed.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = accept_with(self, flags).ok()?;
        match self {
            Self::Kernel { cid, .. } => {
                let peer = getpeername::<VsockAddr>(connection.as_raw_fd()).ok()?;
                (peer.cid() == *cid).then_some(connection)
            }
            Self::Program(_) => Some(connection),
        }
    }

    /// Whether a guest that has closed its half of a connection is seen to have.
    pub(crate) fn passes_ends(&self) -> bool {
        match self {
            Self::Kernel { .. } => true,
            Self::Program(_) => false,
        }
    }
}

impl AsFd for HostPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel { socket, .. } => socket.as_fd(),
            Self::Program(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_guests_own_and_free() {
        let uuid = |text: &str| text.parse::<DomainUuid>().unwrap();
        let one = uuid("3bc0b8b8-8849-4f68-a58b-c38ae2e8e579");
        let cid = derived(&one);
        assert!(cid >= FIRST);
        assert_eq!(derived(&one), cid, "the same at each start");
        assert_eq!(first_free(&one, |tried| tried == cid), cid + 1);
        assert_eq!(first_free(&one, |_| true), cid, "the kernel then says that it is taken");
        let last = uuid("ffffffff-0000-0000-0000-000000000000");
        let cid = derived(&last);
        assert!((FIRST..u32::MAX - TRIES).contains(&cid), "{cid}: there is room for more");
    }
}
