//! Opens the guest's consoles and channels for the daemon, which has another account and sees no path of the guest's, and
//! hears when it wants the guest rebooted.
//!
//! The daemon asks over the lifeline ([`dbus_api::opening`]). Nothing here waits: what cannot be opened at once is
//! refused.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use dbus_api::opening::{Answer, LONGEST, Outcome, Port as Wanted, Request, Wish};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, socket,
};
use qemu::{Console, LaunchPlan, Port, PortRole};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::guest::ConsolePath;
use crate::log;

/// How many requests are answered before what else there is to do has its turn.
const AT_ONCE: usize = 16;

/// Where the kernel has pseudo terminals (pts(4)).
const PTYS: &str = "/dev/pts/";

/// Whether the daemon still has the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifeline {
    /// It has, and what it asked for is done.
    Open,
    /// It has, and wants the guest rebooted.
    Reboots,
    /// It is gone.
    Ended,
}

/// The ports of a guest on the host.
#[derive(Debug)]
pub(crate) struct Ports<'a> {
    ports: &'a [Port],
    /// Those that are ptys.
    pub(crate) consoles: &'a [Console],
    /// Where QEMU opened the ptys.
    pub(crate) ptys: Vec<ConsolePath>,
}

/// Answers what the daemon asks.
pub(crate) fn serve(lifeline: BorrowedFd<'_>, ports: &Ports<'_>) -> Lifeline {
    let mut buffer = [0; LONGEST];
    let mut state = Lifeline::Open;
    for _ in 0..AT_ONCE {
        match recv(lifeline.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Lifeline::Ended,
            Ok(length) => match Request::parse(&buffer[..length]) {
                Some(Request { number, wish: Wish::Open { port, name } }) => {
                    tell(lifeline, number, &ports.open(port, name));
                }
                Some(Request { number, wish: Wish::Reboot }) => {
                    answer(lifeline, Answer { number, outcome: Outcome::Begun }, None);
                    state = Lifeline::Reboots;
                }
                None => {
                    log::warning("the management daemon asks for something that is not known here");
                }
            },
            Err(Errno::EAGAIN) => return state,
            Err(Errno::EINTR) => {}
            Err(_) => return Lifeline::Ended,
        }
    }
    state
}

fn tell(lifeline: BorrowedFd<'_>, number: u64, opened: &Result<OwnedFd, String>) {
    match opened {
        Ok(fd) => answer(lifeline, Answer { number, outcome: Outcome::Opened }, Some(fd.as_fd())),
        Err(words) => answer(lifeline, Answer { number, outcome: Outcome::Refused(words) }, None),
    }
}

fn answer(lifeline: BorrowedFd<'_>, answer: Answer<'_>, fd: Option<BorrowedFd<'_>>) {
    let answer = answer.to_string();
    let answer = &answer.as_bytes()[..answer.len().min(LONGEST)];
    if let Err(error) = send(lifeline, answer, fd) {
        // A daemon that takes no answer has a time limit for it.
        log::warning(format_args!("the management daemon takes no answer: {error}"));
    }
}

fn send(to: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

impl<'a> Ports<'a> {
    /// The ports of a guest whose QEMU has opened no pty yet.
    pub(crate) fn of(plan: &'a LaunchPlan) -> Self {
        Self { ports: &plan.ports, consoles: &plan.consoles, ptys: Vec::new() }
    }

    fn open(&self, wanted: Wanted, name: &str) -> Result<OwnedFd, String> {
        let port = match wanted {
            Wanted::Console => self.console(name),
            Wanted::Channel => self.channel(name),
        }?;
        let alias = &port.alias;
        if let Some(console) = self.consoles.iter().find(|console| console.alias == *alias) {
            return self.pty(console);
        }
        if let Some(path) = &port.socket {
            return client(path)
                .map_err(|error| format!("{alias}: its socket cannot be connected to: {error}"));
        }
        let kind = port.kind.as_str();
        Err(format!("{alias} is of type '{kind}', which cannot be opened; make it type='pty'"))
    }

    /// A console or another serial or parallel port, by its alias; the first one without.
    fn console(&self, name: &str) -> Result<&Port, String> {
        let mut consoles = self.ports.iter().filter(|port| port.role == PortRole::Console);
        match consoles.find(|port| name.is_empty() || port.alias == name) {
            Some(port) => Ok(port),
            None if name.is_empty() => Err("it has no console".to_owned()),
            None => Err(format!("it has no console '{name}'")),
        }
    }

    /// A channel by its name in the guest.
    fn channel(&self, name: &str) -> Result<&Port, String> {
        let role = PortRole::Channel(Some(name.to_owned()));
        self.ports.iter().find(|port| port.role == role).ok_or_else(|| {
            format!("it has no channel '{name}'; add <target type='virtio' name='{name}'/>")
        })
    }

    /// Opens the pty of a console, for one at a time: the lock ends when the last copy of the file descriptor does.
    fn pty(&self, console: &Console) -> Result<OwnedFd, String> {
        let alias = &console.alias;
        let pty = self.ptys.iter().find(|pty| pty.chardev == console.chardev);
        let path = &pty.ok_or_else(|| format!("{alias}: QEMU has not opened it yet"))?.path;
        // It is QEMU's word, and the file goes to somebody with more rights.
        if !path.strip_prefix(PTYS).is_some_and(|name| name.bytes().all(|it| it.is_ascii_digit())) {
            return Err(format!("{alias}: '{path}' is no pseudo terminal"));
        }
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let opened = File::options().read(true).write(true).custom_flags(flags.bits()).open(path);
        let file = opened.map_err(|error| format!("{alias}: {path}: {error}"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(format!("{alias} is open already; close it there first"));
            }
            Err(error) => return Err(format!("{alias}: {path} cannot be locked: {error}")),
        }
        blocking(file.into()).map_err(|error| format!("{alias}: {path}: {error}"))
    }
}

/// Connects to a socket without waiting.
fn client(path: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    blocking(client)
}

/// Who gets it expects what open(2) gives.
fn blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(fd)
}
