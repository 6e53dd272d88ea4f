//! What a peer of the registry's socket may send: any bytes, and calls of `Register` with some bytes changed, with file
//! descriptors of all kinds and without. It is answered or hung up on, without panic, and never waits for more than is
//! there. What is read of a call is what the daemon reads, and goes where the daemon's claims do, up to the keeper, which
//! would publish and store them.
#![no_main]
// The daemon's own files; what the target does not use of them is used there.
#![allow(dead_code)]

#[path = "../../dbus/daemon/src/claims.rs"]
mod claims;
#[path = "../../dbus/daemon/src/clock.rs"]
mod clock;
#[path = "../../dbus/daemon/src/leader.rs"]
mod leader;
#[path = "../../dbus/daemon/src/lifeline.rs"]
mod lifeline;
#[path = "../../dbus/daemon/src/monitor/link.rs"]
mod link;
#[path = "../../dbus/daemon/src/record.rs"]
mod record;
#[path = "../../dbus/daemon/src/registry/request.rs"]
mod request;
#[path = "../../dbus/daemon/src/sasl.rs"]
mod sasl;
#[path = "../../dbus/daemon/src/stream.rs"]
mod stream;

mod monitor {
    pub(crate) use crate::link::Link;
}

use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags,
    SocketType, sendmsg, shutdown, socket, socketpair,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use zbus::connection::Builder;
use zbus::{Fd, Guid, Message, OwnedVariant, Variant, fdo, interface};

use crate::claims::{Claims, Grant};
use crate::request::{Arguments, Request};

const PATH: &str = "/org/glassbox/Glassbox1";
const REGISTRY: &str = "org.glassbox.Glassbox1.Registry";
const BEGUN: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";

/// What one socket takes without anybody who reads.
const LONGEST: usize = 64 * 1024;

/// How long all of it may take; a thousandth is usual.
const PATIENCE: Duration = Duration::from_secs(10);

/// The registry, up to the keeper.
#[derive(Default)]
struct Registry(Mutex<Kept>);

/// What the keeper keeps.
#[derive(Default)]
struct Kept {
    claims: Claims,
    requests: Vec<Request>,
}

#[interface(name = "org.glassbox.Glassbox1.Registry")]
impl Registry {
    async fn register(
        &self,
        name: &str,
        uuid: &str,
        leader: zbus::OwnedFd,
        lifeline: zbus::OwnedFd,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<String> {
        let (leader, lifeline) = (leader.into(), lifeline.into());
        let arguments = Arguments { name, uuid, leader, lifeline, options };
        let request = Request::read(arguments, std::process::id());
        let request = request.map_err(|fault| fdo::Error::InvalidArgs(fault.to_string()))?;
        self.0.lock().expect("nobody panicked").keep(request)
    }
}

impl Kept {
    fn keep(&mut self, request: Request) -> fdo::Result<String> {
        let claim = request.claim.clone();
        let read = record::read(&record::write(&claim)).expect("the next daemon reads it");
        assert_eq!(read, claim);
        self.claims.has_room(claim.user).map_err(fdo::Error::LimitsExceeded)?;
        let before: Vec<_> = self.claims.tokens().collect();
        let grant = match self.claims.claim(claim.clone()) {
            Ok(grant) => grant,
            Err(conflict) => {
                assert!(self.claims.tokens().eq(before), "nothing changes");
                return Err(fdo::Error::AccessDenied(conflict.to_string()));
            }
        };
        if let Grant::Renewed { former, .. } = grant {
            assert!(before.contains(&former));
            self.requests.retain(|kept| kept.claim.name != claim.name);
        }
        let token = Some(grant.token());
        assert_eq!(
            (self.claims.named(&claim.name), self.claims.numbered(&claim.uuid)),
            (token, token)
        );
        self.requests.push(request);
        assert_eq!(self.claims.tokens().count(), self.requests.len());
        Ok(claim.name.to_string())
    }
}

/// A sound call, without its file descriptors.
static CALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let null = || Fd::from(OwnedFd::from(File::open("/dev/null").expect("it is there")));
    let monitor: Variant<'_> = null().into();
    let options = HashMap::from([
        ("transient", true.into()),
        ("opens", true.into()),
        ("interfaces", vec![7i32, 8].into()),
        ("vsock-cid", 7u32.into()),
        ("monitor", monitor),
    ]);
    let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    let body = ("web", uuid, null(), null(), options);
    let message = Message::method_call(PATH, "Register").interface(REGISTRY).build(&body);
    message.expect("it is sound").data().to_vec()
});

/// What is sent: the bytes themselves, behind an authentication or not, or the call with the bytes that they change.
fn sent(kind: u8, bytes: &[u8]) -> Vec<u8> {
    match kind % 3 {
        1 => bytes.to_vec(),
        2 => [BEGUN, bytes].concat(),
        _ => {
            // Twice, for one that was taken leaves the peer in step, and claims what another one claims.
            let mut calls = [CALL.clone(), CALL.clone()];
            for change in bytes.chunks_exact(3) {
                let place = u16::from_le_bytes([change[0], change[1]]);
                // Both of them, or the second one only.
                let first = usize::from(place >> 15);
                let at = usize::from(place & 0x7fff) % CALL.len();
                calls[first..].iter_mut().for_each(|call| call[at] = change[2]);
            }
            [BEGUN, &calls[0], &calls[1]].concat()
        }
    }
}

/// File descriptors of this process, which must live for as long as they are of use.
fn fd(kind: u16) -> (OwnedFd, Option<OwnedFd>) {
    let pair = |kind| {
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let (one, other) = pair.expect("there are file descriptors");
        (one, Some(other))
    };
    match kind % 8 {
        0 => (pidfd_open(getpid(), PidfdFlags::empty()).expect("this process lives"), None),
        1 => pair(SocketType::SEQPACKET),
        2 => pair(SocketType::STREAM),
        3 => (File::open("/dev/null").expect("it is there").into(), None),
        4 => (UnixDatagram::unbound().expect("there are file descriptors").into(), None),
        5 => {
            let lone = socket(AddressFamily::UNIX, SocketType::STREAM, None);
            (lone.expect("there are file descriptors"), None)
        }
        6 => {
            let (one, other) = pipe().expect("there are file descriptors");
            (one.into(), Some(other.into()))
        }
        _ => (pair(SocketType::STREAM).0, None),
    }
}

// The shortest input is a sound call, with three file descriptors of the right kinds.
fuzz_target!(|input: &[u8]| {
    let [kind, count, first, second, bytes @ ..] = input else { return };
    let mut bytes = sent(*kind, bytes);
    bytes.truncate(LONGEST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("there are file descriptors");
    let (ours, theirs) = UnixStream::pair().expect("there are file descriptors");
    let kinds = u16::from_le_bytes([*first, *second]);
    let fds = (0..u16::from(count.wrapping_add(3) % 5)).map(|nth| fd(nth + (kinds >> (3 * nth))));
    let fds: Vec<_> = fds.collect();
    send(&theirs, &bytes, &fds);
    let served = runtime.block_on(async { tokio::time::timeout(PATIENCE, serve(ours)).await });
    assert!(served.is_ok(), "it waits for what does not come");
});

fn send(socket: &UnixStream, bytes: &[u8], fds: &[(OwnedFd, Option<OwnedFd>)]) {
    let fds: Vec<_> = fds.iter().map(|(fd, _)| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    socket.set_nonblocking(true).expect("it is a socket");
    // Each of two calls needs its own.
    let middle = bytes.len().min((bytes.len() + BEGUN.len()) / 2);
    for mut part in <[&[u8]; 2]>::from(bytes.split_at(middle)) {
        control.clear();
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let parts = |part| [IoSlice::new(part)];
        while let Ok(length @ 1..) =
            sendmsg(socket, &parts(part), &mut control, SendFlags::NOSIGNAL)
        {
            part = &part[length..];
            control.clear();
        }
    }
    shutdown(socket, Shutdown::Write).expect("it is connected");
}

/// As the daemon serves a client.
async fn serve(socket: UnixStream) {
    socket.set_nonblocking(true).expect("it is a socket");
    let socket = tokio::net::UnixStream::from_std(socket).expect("it is a socket");
    let guid = Guid::generate();
    let handshake = sasl::Handshake::new(guid.to_string());
    let Ok(stream) = stream::authenticate(socket, handshake).await else { return };
    let builder =
        Builder::authenticated_socket(stream, guid).p2p().serve_at(PATH, Registry::default());
    if let Ok(connection) = builder.build().await {
        connection.closed().await;
    }
}
