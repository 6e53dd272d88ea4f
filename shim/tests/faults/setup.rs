//! A shim with a stand-in for QEMU, in a directory of its own.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long anything here may take before it counts as hanging. It is much, for machines are loaded.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the shim says when the guest's CPUs run.
pub(crate) const RUNNING: &str = "glassbox-qemu: the guest is running, QEMU is process ";

/// How root becomes nobody.
const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this can be done in namespaces of a new user, as which the test need not be root. When it cannot, says
/// `SKIP test: reason`.
pub(crate) fn may_unshare<const N: usize>(test: &str, words: [&str; N]) -> bool {
    let mut tried: Vec<&str> = if is_root() { AS_NOBODY.to_vec() } else { Vec::new() };
    tried.extend(["unshare", "--map-root-user"].into_iter().chain(words));
    let done = Command::new(tried[0]).args(&tried[1..]).output().unwrap();
    if done.status.success() {
        return true;
    }
    let reason = String::from_utf8_lossy(&done.stderr).into_owned();
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{test}: cannot run although CI=true: {reason}");
    eprintln!("SKIP {test}: {reason}");
    false
}

/// A shim to be started.
pub(crate) struct Setup {
    directory: TempDir,
    behaviour: &'static str,
    options: Vec<String>,
    launcher: Vec<String>,
    log: Option<&'static str>,
    program: PathBuf,
}

impl Setup {
    /// A shim whose QEMU behaves in this way, see `stand-in-qemu.pl`.
    pub(crate) fn new(behaviour: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/stand-in-qemu.pl");
        fs::copy(stand_in, path("qemu")).unwrap();
        set_mode(&path("qemu"), 0o755);
        let emulator = path("qemu").display().to_string();
        fs::write(path("guest.xml"), definition(&emulator)).unwrap();
        fs::create_dir(path("run")).unwrap();
        fs::create_dir(path("xdg")).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_glassbox-qemu"));
        let (options, launcher) = (Vec::new(), Vec::new());
        let setup = Self { directory, behaviour, options, launcher, log: None, program };
        if is_root() { setup.without_root() } else { setup }
    }

    /// Starts the shim as nobody where the test is root, whose locks and limits are those of the whole system.
    fn without_root(mut self) -> Self {
        // The folder that the program was built in may be closed to others.
        let program = self.directory().join("glassbox-qemu");
        fs::copy(&self.program, &program).unwrap();
        self.program = program;
        for path in ["", "run", "xdg"] {
            set_mode(&self.directory().join(path), 0o777);
        }
        self.launcher(AS_NOBODY)
    }

    /// Adds options of glassbox-qemu(1).
    pub(crate) fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// Starts the shim by this program, which executes what follows its own arguments.
    pub(crate) fn launcher<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.launcher.extend(words.map(str::to_owned));
        self
    }

    /// Has the shim's standard output and error go to this file, which is not read back.
    pub(crate) fn log_to(mut self, path: &'static str) -> Self {
        self.log = Some(path);
        self
    }

    /// The directory of the test.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The guest's definition.
    pub(crate) fn definition(&self) -> PathBuf {
        self.directory().join("guest.xml")
    }

    /// Starts the shim.
    pub(crate) fn start(self) -> Shim {
        let path = |name: &str| self.directory.path().join(name);
        let log = self.log.map_or_else(|| path("log"), PathBuf::from);
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut words = self.launcher.clone();
        words.push(self.program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--register", "no"]).args(&self.options);
        command.arg(self.definition());
        command.env("STAND_IN", self.behaviour).env("STAND_IN_DIRECTORY", self.directory.path());
        command.env("RUNTIME_DIRECTORY", path("run")).env("XDG_RUNTIME_DIR", path("xdg"));
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        Shim { child: RefCell::new(child), pid, directory: self.directory }
    }
}

fn definition(emulator: &str) -> String {
    format!(
        "<domain type='qemu'>
          <name>faulty</name>
          <memory unit='MiB'>64</memory>
          <os><type arch='x86_64' machine='q35'>hvm</type></os>
          <devices>
            <emulator>{emulator}</emulator>
            <serial type='pty'/>
          </devices>
        </domain>"
    )
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A shim that was started. Dropping it kills it, and so its QEMU.
pub(crate) struct Shim {
    child: RefCell<Child>,
    pid: Pid,
    directory: TempDir,
}

/// How a shim ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its exit status, 128 + N when signal N ended it.
    pub(crate) status: i32,
    /// What it and its QEMU wrote, but for the line that says that the guest runs.
    pub(crate) said: String,
}

impl Shim {
    /// What a file in the test's directory has; nothing when there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    /// Where something in the test's directory is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The shim's process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the stand-in has left this note, and gives it.
    pub(crate) fn wait_for_note(&self, name: &str) -> String {
        self.wait_for(name, || self.path(name).exists());
        self.read(name)
    }

    /// The process of the stand-in, once it is there.
    pub(crate) fn qemu(&self) -> Pid {
        Pid::from_raw(self.wait_for_note("pid").parse().unwrap())
    }

    /// Waits until the guest's CPUs run.
    pub(crate) fn wait_until_running(&self) {
        self.wait_for("the guest", || self.read("log").contains(RUNNING));
    }

    /// Waits until a condition holds.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(
                started.elapsed() < PATIENCE,
                "still no {what}; the log:\n{}",
                self.read("log")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the shim has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.child.borrow_mut().try_wait().unwrap().is_some()
    }

    /// Sends the shim a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// A number of the shim's `/proc/PID/status`, such as `VmHWM`.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits for the shim's end. Nothing may remain: no QEMU, no claim, no file in the runtime
    /// directory, no panic's words.
    pub(crate) fn end(self) -> End {
        self.wait_for("end", || self.has_ended());
        let status = self.child.borrow_mut().wait().unwrap();
        let log = self.read("log");
        assert!(!log.contains("panicked at"), "{log}");
        if let Ok(qemu) = self.read("pid").parse::<u32>() {
            // The kernel kills it when the shim is killed, which is a moment after the shim is reaped.
            self.wait_for("end of QEMU", || !Path::new(&format!("/proc/{qemu}")).exists());
        }
        let told = log.contains("the directory is left behind");
        for place in ["run", "xdg/glassbox/claim"] {
            let left: Vec<_> =
                fs::read_dir(self.path(place)).into_iter().flatten().flatten().collect();
            assert!(status.code().is_none() || told || left.is_empty(), "{left:?}");
        }
        let lines = log.lines().filter(|line| !line.starts_with(RUNNING));
        End {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
            said: lines.collect::<Vec<_>>().join("\n"),
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}
