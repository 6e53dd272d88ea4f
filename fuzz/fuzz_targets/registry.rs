//! What a peer of the registry's socket may send: any bytes, and calls of `Register` with some bytes changed, with file
//! descriptors and without. It is answered or hung up on, without panic, and never waits for more than is there.
#![no_main]
// The daemon's own files; what the target does not use of them is used there.
#![allow(dead_code)]

#[path = "../../dbus/daemon/src/sasl.rs"]
mod sasl;
#[path = "../../dbus/daemon/src/stream.rs"]
mod stream;

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use domain::{DomainName, DomainUuid};
use libfuzzer_sys::fuzz_target;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use zbus::connection::Builder;
use zbus::{Fd, Guid, Message, OwnedFd, OwnedVariant, Variant, fdo, interface};

const PATH: &str = "/org/glassbox/Glassbox1";
const REGISTRY: &str = "org.glassbox.Glassbox1.Registry";
const BEGUN: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";

/// What one socket takes without anybody who reads.
const LONGEST: usize = 64 * 1024;

/// How long all of it may take; a thousandth is usual.
const PATIENCE: Duration = Duration::from_secs(10);

/// The registry, up to where it asks the kernel about what it was given.
struct Registry;

#[interface(name = "org.glassbox.Glassbox1.Registry")]
impl Registry {
    async fn register(
        &self,
        name: &str,
        uuid: &str,
        leader: OwnedFd,
        lifeline: OwnedFd,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<String> {
        let _kept = (leader, lifeline);
        let name =
            DomainName::try_from(name).map_err(|it| fdo::Error::InvalidArgs(it.to_string()))?;
        let uuid =
            DomainUuid::try_from(uuid).map_err(|it| fdo::Error::InvalidArgs(it.to_string()))?;
        Ok(format!("{name} {uuid} {options:?}"))
    }
}

/// A sound call, without its file descriptors.
static CALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let null =
        || Fd::from(std::os::fd::OwnedFd::from(File::open("/dev/null").expect("it is there")));
    let monitor: Variant<'_> = null().into();
    let options = HashMap::from([("transient", true.into()), ("monitor", monitor)]);
    let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    let body = ("web", uuid, null(), null(), options);
    let message = Message::method_call(PATH, "Register").interface(REGISTRY).build(&body);
    message.expect("it is sound").data().to_vec()
});

/// What is sent: the bytes themselves, behind an authentication or not, or the call with the bytes that they change.
fn sent(kind: u8, bytes: &[u8]) -> Vec<u8> {
    match kind % 3 {
        0 => bytes.to_vec(),
        1 => [BEGUN, bytes].concat(),
        _ => {
            let mut call = CALL.clone();
            for change in bytes.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % call.len();
                call[at] = change[2];
            }
            // Twice, for one that was taken leaves the peer in step.
            [BEGUN, &call, &call].concat()
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, fds, bytes @ ..] = input else { return };
    let mut bytes = sent(*kind, bytes);
    bytes.truncate(LONGEST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("there are file descriptors");
    let (ours, theirs) = UnixStream::pair().expect("there are file descriptors");
    send(&theirs, &bytes, usize::from(*fds % 5));
    let served = runtime.block_on(async { tokio::time::timeout(PATIENCE, serve(ours)).await });
    assert!(served.is_ok(), "it waits for what does not come");
});

fn send(socket: &UnixStream, bytes: &[u8], fds: usize) {
    let file = File::open("/dev/null").expect("it is there");
    let fds = vec![file.as_fd(); fds];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    let mut rest = bytes;
    socket.set_nonblocking(true).expect("it is a socket");
    while let Ok(length @ 1..) =
        sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)
    {
        rest = &rest[length..];
        control.clear();
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
    let builder = Builder::authenticated_socket(stream, guid).p2p().serve_at(PATH, Registry);
    if let Ok(connection) = builder.build().await {
        connection.closed().await;
    }
}
