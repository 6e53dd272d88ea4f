//! A host for one test: a directory, a bus of its own, a notify socket, and the daemon.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tempfile::TempDir;
use zbus::connection::Builder;
use zbus::{Connection, DBusError, Fd, OwnedObjectPath, OwnedVariant};

pub(crate) const ROOT: &str = "/org/glassbox/Glassbox1";
pub(crate) const NAME: &str = "org.glassbox.Glassbox1";
pub(crate) const REGISTRY: &str = "org.glassbox.Glassbox1.Registry";
pub(crate) const MANAGER: &str = "org.glassbox.Glassbox1.Manager";
pub(crate) const DOMAIN: &str = "org.glassbox.Glassbox1.Domain";

/// How long anything in these tests may take before it counts as broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The host; all of it goes away when it is dropped.
pub(crate) struct Host {
    pub(crate) daemon: Child,
    bus: Child,
    address: String,
    notify: UnixDatagram,
    directory: TempDir,
}

impl Host {
    /// Starts a bus and a daemon, and waits for the daemon's READY=1.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .arg(format!("--address=unix:path={}", directory.path().join("bus").display()))
            .stdout(Stdio::piped())
            // It complains about limits that only a privileged bus daemon may raise.
            .stderr(File::create(directory.path().join("bus.log")).unwrap())
            .spawn()
            .expect("dbus-daemon is installed (Debian's package dbus)");
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let notify = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = address.trim().to_owned();
        let daemon = command(directory.path(), &address).spawn().unwrap();
        let host = Self { daemon, bus, address, notify, directory };
        host.wait_until_ready();
        host
    }

    /// The socket of the registry.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("glassbox/registry")
    }

    /// What the daemon wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// A connection to the bus.
    pub(crate) async fn bus(&self) -> Connection {
        let builder = Builder::address(self.address.as_str()).method_timeout(PATIENCE);
        builder.build().await.unwrap()
    }

    /// A connection to the registry's socket.
    pub(crate) async fn peer(&self) -> Connection {
        peer(&self.socket()).await
    }

    fn wait_until_ready(&self) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notify.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("the daemon does not become ready ({error}); its log:\n{}", self.log())
            });
            if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.bus] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn command(directory: &Path, address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glassboxd"));
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    command
        .args(["--user", "--verbose"])
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("XDG_RUNTIME_DIR", directory)
        .env("NOTIFY_SOCKET", directory.join("notify"))
        .stderr(log);
    command
}

/// A connection to the registry's socket at `path`.
pub(crate) async fn peer(path: &Path) -> Connection {
    let stream = UnixStream::connect(path).unwrap();
    Builder::unix_stream(stream).p2p().method_timeout(PATIENCE).build().await.unwrap()
}

/// Runs a test's future on a runtime of its own.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A lifeline: the end that is kept, and the end that is handed in.
pub(crate) fn lifeline() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

/// A pidfd of this process.
pub(crate) fn pidfd() -> OwnedFd {
    pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
}

/// `c7a5fdbd-edaf-9455-926a-d65c16db` and the number in eight digits.
pub(crate) fn uuid(number: u32) -> String {
    format!("c7a5fdbd-edaf-9455-926a-d65c{number:08x}")
}

/// Claims a name and UUID with a sound pidfd and lifeline; gives the kept end, or the error's name and text.
pub(crate) async fn register(
    connection: &Connection,
    name: &str,
    uuid: &str,
) -> Result<(OwnedFd, OwnedObjectPath), (String, String)> {
    let (kept, handed) = lifeline();
    let path = register_with(connection, name, uuid, pidfd(), handed, HashMap::new()).await?;
    Ok((kept, path))
}

/// Calls `Register` with these very arguments.
pub(crate) async fn register_with(
    connection: &Connection,
    name: &str,
    uuid: &str,
    leader: OwnedFd,
    lifeline: OwnedFd,
    options: HashMap<&str, OwnedVariant>,
) -> Result<OwnedObjectPath, (String, String)> {
    let destination = connection.is_bus().then_some(NAME);
    let body = (name, uuid, Fd::from(leader), Fd::from(lifeline), options);
    let reply = connection.call_method(destination, ROOT, Some(REGISTRY), "Register", &body).await;
    match reply {
        Ok(reply) => Ok(reply.body().deserialize().unwrap()),
        Err(error) => Err(error_parts(&error)),
    }
}

/// The D-Bus name and text of a failed call.
pub(crate) fn error_parts(error: &zbus::Error) -> (String, String) {
    if let zbus::Error::MethodError(name, text, _) = error {
        return (name.to_string(), text.clone().unwrap_or_default());
    }
    if let zbus::Error::FDO(error) = error {
        return (error.name().to_string(), error.description().unwrap_or_default().to_owned());
    }
    panic!("the call failed without an answer: {error}")
}

/// Ends a claim at once.
///
/// Closing alone would not do here: another test's thread may be between fork and exec, and its child then has
/// a copy of every file descriptor of this process for a moment.
pub(crate) fn end(kept: &OwnedFd) {
    shutdown(kept.as_raw_fd(), Shutdown::Both).unwrap();
}
