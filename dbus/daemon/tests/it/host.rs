//! A host for one test: a directory, a bus of its own, a notify socket, and the daemon.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tempfile::TempDir;
use tests::{SecondProcess, second_process};
use zbus::connection::Builder;
use zbus::{Connection, DBusError, Fd, OwnedObjectPath, OwnedVariant};

pub(crate) const ROOT: &str = "/org/glassbox/Glassbox1";
pub(crate) const NAME: &str = "org.glassbox.Glassbox1";
pub(crate) const BROKER: &str = "org.glassbox.Broker1";
pub(crate) const REGISTRY: &str = "org.glassbox.Glassbox1.Registry";
pub(crate) const MANAGER: &str = "org.glassbox.Glassbox1.Manager";
pub(crate) const DOMAIN: &str = "org.glassbox.Glassbox1.Domain";

/// How long anything in these tests may take before it counts as broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The host; all of it goes away when it is dropped.
pub(crate) struct Host {
    pub(crate) daemon: Option<Child>,
    broker: Option<Child>,
    bus: Child,
    address: String,
    /// The stand-in for the service manager.
    pub(crate) manager: ServiceManager,
    directory: TempDir,
}

impl Host {
    /// Starts a bus and the daemon of a user.
    pub(crate) fn start() -> Self {
        let mut host = Self::without_daemon();
        host.start_daemon(&["--user"]);
        host
    }

    /// Starts a bus only, which is session bus and system bus.
    pub(crate) fn without_daemon() -> Self {
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
        let manager = ServiceManager::start(&directory.path().join("notify"));
        Self {
            daemon: None,
            broker: None,
            bus,
            address: address.trim().to_owned(),
            manager,
            directory,
        }
    }

    /// Starts the daemon with these options, and waits for its READY=1. One of the system has a broker.
    pub(crate) fn start_daemon(&mut self, options: &[&str]) {
        if !options.contains(&"--user") {
            self.start_broker();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassboxd"));
        command.arg("--registry").arg(self.socket());
        self.spawn(command, options);
    }

    /// Starts the daemon of a user with what the file descriptor store has, and with a registry socket, as
    /// systemd would start it again.
    pub(crate) fn restart_daemon(&mut self, registry: Option<OwnedFd>) {
        let mut passed = self.manager.stored();
        passed.extend(registry.map(|socket| ("registry".to_owned(), socket)));
        let names: Vec<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("bash");
        // The shell moves what it inherits to 3, 4 and so on, and knows its process id, which exec keeps.
        let script = "n=3; for fd in $FDS; do eval \"exec $n<&$fd $fd<&-\"; n=$((n + 1)); done; \
                      export LISTEN_PID=$$; exec \"$@\"";
        command
            .args(["-c", script, "bash", env!("CARGO_BIN_EXE_glassboxd")])
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let inherited: Vec<_> = passed
            .iter()
            .map(|(_, fd)| {
                // Above all that the shell writes to, so that it overwrites none.
                let high = rustix::io::fcntl_dupfd_cloexec(fd, 500).unwrap();
                rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
                high
            })
            .collect();
        let numbers: Vec<_> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        command.env("FDS", numbers.join(" "));
        if passed.iter().all(|(name, _)| name != "registry") {
            command.arg("--registry").arg(self.socket());
        }
        self.spawn(command, &["--user"]);
    }

    /// Starts the broker, for root, and waits until it is on the bus.
    fn start_broker(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox-broker"));
        command.arg("root").env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        self.broker = Some(command.stderr(self.log_file()).spawn().unwrap());
        let start = Instant::now();
        run(async {
            let bus = self.bus().await;
            let names = zbus::fdo::DBusProxy::new(&bus).await.unwrap();
            while !names.name_has_owner(BROKER.try_into().unwrap()).await.unwrap() {
                assert!(start.elapsed() < PATIENCE, "{}", self.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }

    fn log_file(&self) -> File {
        let path = self.directory.path().join("log");
        File::options().create(true).append(true).open(path).unwrap()
    }

    fn spawn(&mut self, mut command: Command, options: &[&str]) {
        let directory = self.directory.path();
        let daemon = command
            .args(options)
            .arg("--verbose")
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .env("NOTIFY_SOCKET", directory.join("notify"))
            .env("XDG_CONFIG_HOME", directory.join("config"))
            .env("XDG_RUNTIME_DIR", directory.join("run"))
            .stderr(self.log_file())
            .spawn();
        self.daemon = Some(daemon.unwrap());
        if self.manager.ready.recv_timeout(PATIENCE).is_err() {
            panic!("the daemon does not become ready; its log:\n{}", self.log());
        }
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The socket of the registry.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("glassbox/registry")
    }

    /// The directory of definitions, which may not be there yet.
    pub(crate) fn definitions(&self) -> PathBuf {
        self.directory.path().join("config/glassbox/qemu")
    }

    /// The address of the bus.
    pub(crate) fn address(&self) -> &str {
        &self.address
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
}

/// Reads the notify socket as the service manager does, and keeps what is stored.
pub(crate) struct ServiceManager {
    stored: Stored,
    ready: mpsc::Receiver<()>,
}

type Stored = Arc<Mutex<Vec<(String, OwnedFd)>>>;

impl ServiceManager {
    fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let stored = Stored::default();
        let (tell_ready, ready) = mpsc::channel();
        let thread = stored.clone();
        // It ends with the test's process; a thread that waits costs nothing until then.
        std::thread::spawn(move || {
            loop {
                let (text, fds) = receive(&socket);
                let has = |line: &str| text.lines().any(|each| each == line);
                if has("READY=1") && tell_ready.send(()).is_err() {
                    return;
                }
                let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
                let mut stored = thread.lock().unwrap();
                if has("FDSTOREREMOVE=1") {
                    stored.retain(|(stored, _)| Some(stored.as_str()) != name);
                }
                if has("FDSTORE=1") {
                    assert!(has("FDPOLL=0"), "systemd would drop what hangs up: {text}");
                    stored.extend(fds.into_iter().map(|fd| (name.unwrap().to_owned(), fd)));
                }
            }
        });
        Self { stored, ready }
    }

    /// Copies of what is stored.
    pub(crate) fn stored(&self) -> Vec<(String, OwnedFd)> {
        let stored = self.stored.lock().unwrap();
        stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect()
    }

    /// Waits until the store has just these names.
    pub(crate) fn wait_for_stored(&self, expected: &[String]) {
        let start = Instant::now();
        loop {
            let mut names: Vec<_> = self.stored().into_iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            if names == expected {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "expected {expected:?}, the store has {names:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Puts a file with other content in the place of what is stored under this name.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) {
        self.stored.lock().unwrap().retain(|(stored, _)| stored != name);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        self.store(name, file.into());
    }

    /// Puts something in the store.
    pub(crate) fn store(&self, name: &str, fd: OwnedFd) {
        self.stored.lock().unwrap().push((name.to_owned(), fd));
    }
}

fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    (String::from_utf8(buffer[..message.bytes].to_vec()).unwrap(), fds)
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain(&mut self.broker).chain([&mut self.bus]) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if std::thread::panicking() && self.daemon.is_some() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
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

/// A process that holds a claim, in a unit of this name when one is given.
pub(crate) fn other(host: &Host, name: &str, uuid: &str, unit: Option<&Cgroup>) -> SecondProcess {
    let members = unit.map(|Cgroup(path)| path.join("cgroup.procs").into_os_string());
    let held = [("HOLD_SOCKET", host.socket().into()), ("HOLD_NAME", name.into())];
    let variables = held.into_iter().chain([("HOLD_UUID", uuid.into())]);
    let variables = variables.chain(members.map(|members| ("HOLD_CGROUP", members)));
    SecondProcess::of::<_, OsString>("host::hold_a_claim", variables)
}

#[test]
#[ignore = "it is the other process of other tests"]
fn hold_a_claim() {
    let variable = |name| std::env::var(name).unwrap();
    if let Some(members) = std::env::var_os("HOLD_CGROUP") {
        std::fs::write(members, std::process::id().to_string()).unwrap();
    }
    run(async {
        let connection = peer(variable("HOLD_SOCKET").as_ref()).await;
        let (name, uuid) = (variable("HOLD_NAME"), variable("HOLD_UUID"));
        let _claim = register(&connection, &name, &uuid).await.unwrap();
        tokio::task::spawn_blocking(second_process::done).await.unwrap();
    });
}

/// A control group in the place where systemd would make one for a unit.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// The group of a unit, whose name must be unique on the host; says why when there can be none.
    pub(crate) fn of_unit(unit: &str) -> Result<Self, String> {
        let v1 = Path::new("/sys/fs/cgroup/systemd");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(unit);
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            // A test that was killed left it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self(path)),
            Err(error) => Err(format!("no control group can be made: {}: {error}", path.display())),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a killed process out of its group a moment after it was waited for.
        let start = Instant::now();
        while let Err(error) = std::fs::remove_dir(&self.0) {
            assert!(start.elapsed() < PATIENCE, "{}: {error}", self.0.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
