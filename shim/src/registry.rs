//! The claim on a guest's name and UUID, held with the management daemon.
//!
//! Registration is one D-Bus call, over the registry's socket or over the system bus, that hands the daemon a
//! pidfd of this process and one end of a socket pair, the lifeline. The claim lasts as long as the lifeline:
//! when this process dies the kernel closes it. No connection is kept.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use std::collections::BTreeMap;

use domain::{DomainName, DomainUuid};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use zbus::{Connection, Fd, connection::Builder};

use crate::{host, log};

/// A claim that the daemon holds.
#[derive(Debug)]
pub(crate) struct Claim {
    lifeline: OwnedFd,
}

impl AsFd for Claim {
    /// The lifeline; it hangs up when the daemon is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }
}

/// What the daemon said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Name and UUID are this guest's.
    Held(Claim),
    /// Another guest holds the name or the UUID, or the daemon will not have this one; in its words.
    Refused(String),
    /// There is no daemon.
    Unreachable(String),
    /// There is one, or systemd holds its place, and it does not answer.
    Silent(String),
}

/// For what a claim is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A guest that is to start.
    Start,
    /// A guest that runs and has lost its claim, or has had none.
    Running,
}

impl Occasion {
    /// How long the daemon may take to answer. A guest that need not be registered then starts without, and one
    /// that runs is not supervised meanwhile.
    fn patience(self) -> Duration {
        match self {
            Self::Start => Duration::from_secs(5),
            Self::Running => Duration::from_secs(2),
        }
    }
}

/// What is claimed, and what the daemon is told with it.
#[derive(Debug)]
pub(crate) struct Registrant {
    pub(crate) name: DomainName,
    pub(crate) uuid: DomainUuid,
    /// Whether the guest's definition is gone with the guest.
    pub(crate) transient: bool,
    /// The daemon's end of a monitor of QEMU's. It is kept for the daemon that comes after one that was stopped, and
    /// what QEMU says between the two waits in it.
    pub(crate) monitor: UnixStream,
    /// The kernel's numbers of the guest's network devices on the host, as far as they were made before the claim.
    pub(crate) interfaces: Vec<i32>,
    /// The number of the guest's vsock, if that was opened before the claim.
    pub(crate) vsock_cid: Option<u32>,
}

/// What a daemon is told beside the claim. An older one refuses the options that it does not know.
#[derive(Debug, Clone, Copy)]
struct Extras {
    monitor: bool,
    opens: bool,
    transient: bool,
    network: bool,
}

/// The way to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    /// The registry's socket.
    pub(crate) socket: PathBuf,
    /// Whether the system bus is tried when there is no socket, or none for this account.
    pub(crate) bus: bool,
}

impl Registry {
    /// Claims name and UUID. Blocks until the daemon answers, for at most a few seconds.
    pub(crate) fn claim(&self, registrant: &Registrant, occasion: Occasion) -> Answer {
        let patience = occasion.patience();
        zruntime::block_on(async {
            let runtime = match zruntime::Runtime::current() {
                Ok(runtime) => runtime,
                Err(error) => return Answer::Unreachable(error.to_string()),
            };
            // The whole exchange is bounded, for zbus bounds a call but not the handshake before it.
            match runtime.timeout(patience, self.register(registrant, occasion)).await {
                Ok(answer) => answer,
                Err(_) => Answer::Silent(format!("no answer in {} s", patience.as_secs())),
            }
        })
    }

    async fn register(&self, registrant: &Registrant, occasion: Occasion) -> Answer {
        let mut extras = Extras {
            monitor: true,
            opens: true,
            transient: registrant.transient,
            network: !registrant.interfaces.is_empty() || registrant.vsock_cid.is_some(),
        };
        loop {
            let answer = self.call(registrant, extras, occasion).await;
            let Answer::Refused(words) = &answer else { return answer };
            let Some(fewer) = extras.without(words) else { return answer };
            extras = fewer;
        }
    }

    async fn call(&self, registrant: &Registrant, extras: Extras, occasion: Occasion) -> Answer {
        let (ours, theirs, leader) = match handles() {
            Ok(handles) => handles,
            Err(error) => {
                return Answer::Unreachable(format!("no file descriptor for a claim: {error}"));
            }
        };
        let (connection, destination) = match self.connect(occasion).await {
            Ok(connection) => connection,
            Err(error) => return Answer::Unreachable(error.to_string()),
        };
        let mut options: BTreeMap<&str, zbus::Variant<'_>> = BTreeMap::new();
        if extras.transient {
            options.insert(dbus_api::OPTION_TRANSIENT, true.into());
        }
        if extras.opens {
            options.insert(dbus_api::OPTION_OPENS, true.into());
        }
        if extras.monitor {
            let monitor = Fd::from(registrant.monitor.as_fd());
            options.insert(dbus_api::OPTION_MONITOR, monitor.into());
        }
        if extras.network {
            let Registrant { interfaces, vsock_cid, .. } = registrant;
            let interfaces =
                (!interfaces.is_empty()).then(|| (dbus_api::OPTION_INTERFACES, interfaces.into()));
            let vsock_cid = vsock_cid.map(|cid| (dbus_api::OPTION_VSOCK_CID, cid.into()));
            options.extend(interfaces.into_iter().chain(vsock_cid));
        }
        let body = (
            registrant.name.as_str(),
            registrant.uuid.to_string(),
            Fd::from(leader.as_fd()),
            Fd::from(theirs.as_fd()),
            options,
        );
        let reply = connection
            .call_method(
                destination.as_deref(),
                dbus_api::ROOT_PATH,
                Some(dbus_api::REGISTRY_INTERFACE),
                "Register",
                &body,
            )
            .await;
        match reply {
            Ok(_) => Answer::Held(Claim { lifeline: ours }),
            Err(error) => refusal(&error),
        }
    }

    async fn connect(&self, on: Occasion) -> Result<(Connection, Option<String>), ConnectError> {
        match UnixStream::connect(&self.socket) {
            Ok(stream) => {
                let connection = Builder::unix_stream(stream).p2p().build().await;
                Ok((connection.map_err(ConnectError::Bus)?, None))
            }
            Err(source) if self.bus && no_listener(&source) => {
                let bus = host::system_bus().build().await.map_err(ConnectError::Bus)?;
                let name = match on {
                    Occasion::Start => dbus_api::BUS_NAME.to_owned(),
                    Occasion::Running => owner(&bus).await.map_err(ConnectError::Bus)?,
                };
                Ok((bus, Some(name)))
            }
            Err(source) => Err(ConnectError::Socket { path: self.socket.clone(), source }),
        }
    }
}

/// The daemon's own name on the bus.
///
/// A call to the name that all know would start a daemon that an administrator is just stopping, for then its
/// guests lose their claims.
async fn owner(bus: &Connection) -> zbus::Result<String> {
    let name = "org.freedesktop.DBus";
    let path = "/org/freedesktop/DBus";
    let call = bus.call_method(Some(name), path, Some(name), "GetNameOwner", &dbus_api::BUS_NAME);
    call.await?.body().deserialize()
}

#[derive(Debug)]
enum ConnectError {
    Socket { path: PathBuf, source: io::Error },
    Bus(zbus::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { path, source } => write!(f, "{}: {source}", host::usual(path).display()),
            Self::Bus(error) => write!(f, "{error}"),
        }
    }
}

/// Both ends of a lifeline, and a pidfd of this process.
fn handles() -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let leader = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok((ours, theirs, leader))
}

impl Extras {
    /// What is left when a daemon refused some by these words, which name the keys that it does not know; none when it
    /// refused something else.
    fn without(self, words: &str) -> Option<Self> {
        // What it knows stands behind.
        let unknown = words.strip_prefix("options: unknown key ")?.split(';').next()?;
        let refused = |key| unknown.contains(&format!("'{key}'"));
        let monitor = self.monitor && refused(dbus_api::OPTION_MONITOR);
        let opens = self.opens && refused(dbus_api::OPTION_OPENS);
        let transient = self.transient && refused(dbus_api::OPTION_TRANSIENT);
        let network = self.network
            && (refused(dbus_api::OPTION_INTERFACES) || refused(dbus_api::OPTION_VSOCK_CID));
        if monitor {
            log::warning(
                "the management daemon is too old to take a monitor; it lists this guest and cannot manage it",
            );
        }
        if opens {
            log::info("the management daemon is too old to ask for consoles; it offers none");
        }
        if transient {
            log::warning(
                "the management daemon is too old to know a transient guest; it takes this one for a persistent one",
            );
        }
        if network {
            log::info(
                "the management daemon is too old to know of network devices; machinectl does not show them",
            );
        }
        (monitor || opens || transient || network).then_some(Self {
            monitor: self.monitor && !monitor,
            opens: self.opens && !opens,
            transient: self.transient && !transient,
            network: self.network && !network,
        })
    }
}

fn no_listener(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | ConnectionRefused | PermissionDenied)
}

/// An error of the daemon's own is its answer; one on the way to it is none.
fn refusal(error: &zbus::Error) -> Answer {
    if let zbus::Error::MethodError(name, words, _) = error
        && (name.starts_with(dbus_api::BUS_NAME) || *name == dbus_api::ERROR_INVALID_ARGS)
    {
        return Answer::Refused(words.clone().unwrap_or_else(|| name.to_string()));
    }
    Answer::Unreachable(error.to_string())
}
