//! A monitor of a QEMU that runs, by its socket in the guest's directory.
//!
//! Whoever broke out of QEMU owns that directory, and may have put anything there and say anything. So no link is
//! followed, the other end must have the guest's account, what it says is read with bounds, and each answer has its time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::stat::Mode;
use nix::sys::time::{TimeVal, TimeValLike};
use qmp::{CommandId, Event, Message, Session};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// The longest line that QEMU may send, in bytes: a guest of many CPUs has them all in one.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long QEMU may take to answer a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a guest may take to let a device go. Libvirt waits five seconds, and calls a guest that takes longer one
/// that has not been seen to.
const GUEST_PATIENCE: Duration = Duration::from_secs(20);

/// How long after it was asked a guest is asked again. Within five seconds QEMU has a second request for a PCI device
/// wait for the first (`pending_deleted_expires_ms`, hw/pci/pcie.c).
const ASK_AGAIN: Duration = Duration::from_secs(6);

/// How long the guest's answer is waited for before QEMU is asked whether it has the device still.
const LOOK: Duration = Duration::from_secs(1);

/// How often, and how long after each other, QEMU is asked again for what is still in use.
const RELEASE_TRIES: u32 = 10;
const RELEASE_PAUSE: Duration = Duration::from_millis(100);

/// How many events are kept while something else is waited for.
const MOST_EVENTS: usize = 256;

/// A session with QEMU.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: UnixStream,
    session: Session,
    events: Vec<Event>,
    lost: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// QEMU says so.
    #[error("{}", .0.desc)]
    Command(qmp::CommandError),
    /// The monitor is of no use any more.
    #[error("{0:#}")]
    Lost(anyhow::Error),
}

impl Refusal {
    /// Whether QEMU has no such device.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Command(error) if error.class == "DeviceNotFound")
    }

    /// Whether the guest has been asked for the device already, by a reload that did not wait. QEMU has no class of
    /// errors for this (`qmp_device_del` in system/qdev-monitor.c).
    fn is_asked_for(&self) -> bool {
        self.says("already in the process of unplug")
    }

    /// Whether something that is gone uses it still: QEMU frees devices some time after the guest let them go.
    pub(super) fn is_in_use(&self) -> bool {
        self.says("in use")
    }

    fn says(&self, words: &str) -> bool {
        matches!(self, Self::Command(error) if error.desc.contains(words))
    }
}

/// What became of a device that a guest was asked to let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetGo {
    /// It is gone.
    Gone,
    /// The guest refuses.
    Refused,
    /// The guest said nothing in time.
    Late,
}

impl Monitor {
    /// Connects to the monitor in a guest's directory, which is that of the guest's account.
    pub(super) fn connect(directory: &Path) -> anyhow::Result<Self> {
        let (socket, owner) = find(directory)?;
        let socket = connected(&socket).context("QEMU cannot be reached at its monitor")?;
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
        ensure!(
            peer.uid() == owner,
            "uid {} listens there, and not the guest's account, uid {owner}",
            peer.uid()
        );
        let session = Session::new(LONGEST_ANSWER);
        let mut monitor = Self { socket, session, events: Vec::new(), lost: false };
        monitor.begin()?;
        Ok(monitor)
    }

    /// QEMU has one client at a time on a socket; others wait for its greeting.
    fn begin(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let greeting = self.message(deadline).context(
            "QEMU does not answer at its monitor; another program may be connected to it, end that",
        )?;
        ensure!(matches!(greeting, Message::Greeting(_)), "QEMU begins without a greeting");
        self.ask("qmp_capabilities", Value::Null)?;
        Ok(())
    }

    /// Has QEMU carry out a command.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        self.ask_with(command, arguments, None)
    }

    /// As [`Self::ask`], with a file descriptor.
    pub(super) fn ask_with(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, Refusal> {
        let id = self.session.execute(command, arguments);
        let answered = self.send(fd).and_then(|()| self.answer(id));
        self.lost |= answered.is_err();
        answered.map_err(Refusal::Lost)?.map_err(Refusal::Command)
    }

    /// Whether QEMU was told something and has not answered: it may do it yet.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Has QEMU take away something that a device may have used until now.
    pub(super) fn release(&mut self, command: &str, arguments: &Value) -> Result<(), Refusal> {
        for _ in 0..RELEASE_TRIES {
            match self.ask(command, arguments.clone()) {
                Err(refusal) if refusal.is_in_use() => std::thread::sleep(RELEASE_PAUSE),
                answered => return answered.map(drop),
            }
        }
        self.ask(command, arguments.clone()).map(drop)
    }

    fn send(&mut self, fd: Option<BorrowedFd<'_>>) -> anyhow::Result<()> {
        self.socket.set_write_timeout(Some(PATIENCE))?;
        let mut fds = fd.as_slice();
        while !self.session.output().is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            let parts = [IoSlice::new(self.session.output())];
            let socket = self.socket.as_fd();
            let sent = sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL);
            self.session.sent(sent.context("QEMU does not take a command")?);
            fds = &[];
        }
        Ok(())
    }

    fn answer(&mut self, wanted: CommandId) -> anyhow::Result<Result<Value, qmp::CommandError>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.message(deadline)? {
                Message::Reply { id, result } if id == wanted => return Ok(result),
                Message::Reply { .. } | Message::Greeting(_) => {}
                Message::Event(event) => self.keep(event),
            }
        }
    }

    fn keep(&mut self, event: Event) {
        let tells = ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"];
        if tells.contains(&&*event.name) && self.events.len() < MOST_EVENTS {
            self.events.push(event);
        }
    }

    /// Asks the guest to let a device go, and waits until it has. A guest that is busy, as with a CPU that has just
    /// come, may miss it, and so it is asked again.
    pub(super) fn unplug(&mut self, device: &str) -> Result<LetGo, Refusal> {
        self.events.clear();
        let deadline = Instant::now() + GUEST_PATIENCE;
        let mut asked: Option<Instant> = None;
        while Instant::now() < deadline {
            if asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN) {
                match self.ask("device_del", json!({ "id": device })) {
                    // It went after somebody had given up waiting.
                    Err(refusal) if refusal.is_not_found() => return Ok(LetGo::Gone),
                    Err(refusal) if refusal.is_asked_for() => {}
                    Err(Refusal::Command(_)) if asked.is_some() => {}
                    answered => drop(answered?),
                }
                asked = Some(Instant::now());
            }
            let until = deadline.min(Instant::now() + LOOK);
            if let Some(answer) = self.answer_of_guest(device, until)? {
                return Ok(answer);
            }
            // Of a CPU that goes QEMU 10.0 tells nothing.
            if !self.devices()?.contains(device) {
                return Ok(LetGo::Gone);
            }
        }
        Ok(LetGo::Late)
    }

    /// The ids of the devices that QEMU has.
    pub(super) fn devices(&mut self) -> Result<BTreeSet<String>, Refusal> {
        let all = self.ask("qom-list", json!({ "path": "/machine/peripheral" }))?;
        let name = |device: &Value| Some(device.get("name")?.as_str()?.to_owned());
        Ok(all.as_array().into_iter().flatten().filter_map(name).collect())
    }

    /// What the guest says until then.
    fn answer_of_guest(&mut self, device: &str, until: Instant) -> Result<Option<LetGo>, Refusal> {
        loop {
            let told = std::mem::take(&mut self.events);
            if let Some(event) = told.iter().find(|event| event.text("device") == Some(device)) {
                let gone = event.name == "DEVICE_DELETED";
                return Ok(Some(if gone { LetGo::Gone } else { LetGo::Refused }));
            }
            match self.message(until) {
                Ok(Message::Event(event)) => self.keep(event),
                Ok(Message::Reply { .. } | Message::Greeting(_)) => {}
                Err(_) if Instant::now() >= until => return Ok(None),
                Err(error) => {
                    self.lost = true;
                    return Err(Refusal::Lost(error));
                }
            }
        }
    }

    /// The next message, if it comes in time.
    fn message(&mut self, deadline: Instant) -> anyhow::Result<Message> {
        let mut buffer = [0; 1 << 14];
        loop {
            // Also between messages, or who sends them without end would never be done.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("QEMU has not answered in time");
            }
            if let Some(message) = self.session.next_message()? {
                return Ok(message);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut buffer) {
                Ok(0) => bail!("QEMU has closed its monitor"),
                Ok(count) => self.session.receive(&buffer[..count]),
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted]
                        .contains(&error.kind()) => {}
                Err(error) => return Err(error).context("QEMU's monitor cannot be read"),
            }
        }
    }
}

/// A connection to this socket, if one is taken in time.
fn connected(at: &OwnedFd) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // It bounds connect(2) as well (unix(7)): whoever listens may have more waiting than are taken.
    let patience = i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(patience))?;
    let path = format!("/proc/self/fd/{}", at.as_raw_fd());
    connect(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    Ok(socket.into())
}

/// The socket in the directory, as a path only, and the account that has the directory.
fn find(directory: &Path) -> anyhow::Result<(OwnedFd, u32)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = File::options()
        .read(true)
        .custom_flags((flags | OFlag::O_DIRECTORY).bits())
        .open(directory)
        .with_context(|| directory.display().to_string())?;
    let path = directory.join("monitor");
    let socket = openat(&folder, "monitor", flags, Mode::empty())
        .with_context(|| path.display().to_string())?;
    let found = File::from(socket.try_clone()?).metadata()?;
    ensure!(found.file_type().is_socket(), "{}: it is no socket", path.display());
    Ok((socket, folder.metadata()?.uid()))
}
