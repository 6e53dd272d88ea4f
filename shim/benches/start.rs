//! What the shim costs: start to running guest, memory beside it, wake-ups, end.
//!
//! Each figure stands beside raw QEMU's with the same arguments, driven by the least QMP client there can be, taken
//! in turns in the same run. Needs `qemu-system-x86_64`. `cargo bench --package shim [-- ROUNDS]`.
// The table is this program's product.
#![allow(clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SHIM: &str = env!("CARGO_BIN_EXE_glassbox-qemu");

/// The exit status for a name or UUID that is taken.
const CLAIMED: i32 = 5;

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let guest = Guest::make()?;
    let daemon = Daemon::start(guest.directory.path());
    if let Err(why) = &daemon {
        println!("without a daemon to register with: {why}");
    }
    let mut raw = Figures::default();
    let mut shim = Figures::default();
    let mut registered = Figures::default();
    for _ in 0..rounds {
        raw.push(guest.raw()?);
        shim.push(guest.shim(&["--register=no"])?);
        if let Ok(daemon) = &daemon {
            let registry = format!("--registry={}", daemon.socket.display());
            registered.push(guest.shim(&["--register=required", &registry])?);
        }
    }
    println!("start of a guest, exec to CPUs running, medians of {rounds} rounds taken in turns");
    println!("  raw QEMU          {:7.1} ms", raw.start());
    println!("  shim              {}", shim.beside(&raw));
    if daemon.is_ok() {
        println!("  shim, registered  {}", registered.beside(&raw));
    }
    println!(
        "  A cold start is the same: nothing is asked of QEMU beforehand, so there is no cache."
    );
    println!("end of a guest, from QEMU's own exit to the shim's");
    println!("  shim              {:7.1} ms", shim.end());
    println!("a second shim for a running guest, exec to its refusal, median of {rounds}");
    println!("  shim              {:7.1} ms", guest.refused(rounds)?);
    println!("beside a running guest");
    let (rss, private, wakeups) = guest.beside()?;
    println!("  resident          {rss:7} KiB");
    println!("  private           {private:7} KiB");
    println!("  wake-ups          {wakeups:7.1} a second");
    Ok(())
}

/// Times of several rounds, in milliseconds.
#[derive(Default)]
struct Figures {
    starts: Vec<f64>,
    ends: Vec<f64>,
}

impl Figures {
    fn push(&mut self, round: Round) {
        self.starts.push(round.start.as_secs_f64() * 1e3);
        self.ends.push(round.end.as_secs_f64() * 1e3);
    }

    fn start(&self) -> f64 {
        median(&self.starts)
    }

    fn end(&self) -> f64 {
        median(&self.ends)
    }

    fn beside(&self, raw: &Self) -> String {
        let (ours, theirs) = (self.start(), raw.start());
        format!("{ours:7.1} ms   {:+.1} ms   ratio {:.3}", ours - theirs, ours / theirs)
    }
}

#[derive(Clone, Copy)]
struct Round {
    start: Duration,
    end: Duration,
}

/// A guest whose CPUs run an endless loop from a boot sector.
struct Guest {
    directory: tempfile::TempDir,
    xml: PathBuf,
}

impl Guest {
    fn make() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let image = directory.path().join("boot.img");
        let mut sector = vec![0u8; 1 << 20];
        sector[..3].copy_from_slice(&[0xf4, 0xeb, 0xfd]); // hlt; jmp -3
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&image, sector)?;
        let xml = directory.path().join("bench.xml");
        fs::write(
            &xml,
            include_str!("guest.xml").replace("@image@", &image.display().to_string()),
        )?;
        Ok(Self { directory, xml })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(SHIM);
        command.arg(&self.xml).env("XDG_RUNTIME_DIR", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn shim(&self, options: &[&str]) -> Result<Round> {
        let (mut child, _notify, start) = self.start_shim(options)?;
        let qemu = only_child(child.id())?;
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_raw(qemu).ok_or("QEMU has no process id")?,
            rustix::process::PidfdFlags::empty(),
        )?;
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
        wait_readable(pidfd.as_fd());
        let ended = Instant::now();
        child.wait()?;
        Ok(Round { start, end: ended.elapsed() })
    }

    /// The shim with a guest whose CPUs run, and how long that took.
    fn start_shim(&self, options: &[&str]) -> Result<(Child, UnixDatagram, Duration)> {
        let path = self.directory.path().join("notify");
        let _ = fs::remove_file(&path); // The first time there is none.
        let notify = UnixDatagram::bind(&path)?;
        let began = Instant::now();
        let mut command = self.command();
        let mut child =
            command.args(options).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn()?;
        notify.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut buffer = [0u8; 4096];
        loop {
            let Ok(length) = notify.recv(&mut buffer) else {
                child.kill()?;
                return Err("the shim did not say READY=1 in 20 s".into());
            };
            if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok((child, notify, began.elapsed()));
            }
        }
    }

    /// How long it takes until a second shim for a running guest is refused, in milliseconds.
    fn refused(&self, rounds: usize) -> Result<f64> {
        let (mut holder, _notify, _) = self.start_shim(&["--register=auto"])?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            let status = self.command().stderr(Stdio::null()).status()?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            if status.code() != Some(CLAIMED) {
                return Err(format!("the second shim was not refused: {status}").into());
            }
        }
        holder.kill()?;
        holder.wait()?;
        Ok(median(&times))
    }

    /// The same arguments without the shim. What the shim hands over as file descriptors is made here, too.
    fn raw(&self) -> Result<Round> {
        let printed = self.command().arg("--print-args").stdout(Stdio::piped()).output()?;
        let text = String::from_utf8(printed.stdout)?;
        let mut words = text.lines();
        let emulator = words.next().ok_or("--print-args printed nothing")?;
        let monitor = self.directory.path().join("raw-monitor");
        let _ = fs::remove_file(&monitor); // The first time there is none.
        let arguments: Vec<String> =
            words.map(|word| raw_argument(word, self.directory.path())).collect();
        let listener = UnixListener::bind(&monitor)?;
        let began = Instant::now();
        let mut child = Command::new(emulator)
            .args(arguments)
            .args(["-chardev", &format!("socket,id=raw,path={}", monitor.display())])
            .args(["-mon", "chardev=raw,mode=control"])
            .stdin(Stdio::null())
            .spawn()?;
        let (stream, _) = listener.accept()?;
        run_to_cont(stream)?;
        let start = began.elapsed();
        child.kill()?;
        child.wait()?;
        Ok(Round { start, end: Duration::ZERO })
    }

    /// Resident and private memory of the shim beside a running guest in KiB, and its wake-ups a second.
    fn beside(&self) -> Result<(u64, u64, f64)> {
        const SECONDS: u64 = 5;
        let (mut child, _notify, _) = self.start_shim(&["--register=no"])?;
        std::thread::sleep(Duration::from_secs(1));
        let before = switches(child.id())?;
        std::thread::sleep(Duration::from_secs(SECONDS));
        let woken = switches(child.id())? - before;
        let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id()))?;
        let rss = field(&memory, "Rss:")?;
        let private = field(&memory, "Private_Clean:")? + field(&memory, "Private_Dirty:")?;
        child.kill()?;
        child.wait()?;
        Ok((rss, private, f64::from(u32::try_from(woken)?) / SECONDS as f64))
    }
}

/// A daemon of a user with a bus of its own. Its machined is none: what registering there costs is on a real
/// systemd only, where it is done while QEMU starts.
struct Daemon {
    processes: [Child; 2],
    socket: PathBuf,
}

impl Daemon {
    fn start(directory: &Path) -> Result<Self> {
        let program = Path::new(SHIM).with_file_name("glassboxd");
        if !program.exists() {
            return Err(format!("{} is not built; run 'make build'", program.display()).into());
        }
        let address = format!("unix:path={}", directory.join("bus").display());
        let bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--address", &address])
            .stderr(Stdio::null())
            .spawn()?;
        wait_for(&directory.join("bus"))?;
        let socket = directory.join("registry");
        let daemon = Command::new(program)
            .args(["--user", "--registry"])
            .arg(&socket)
            .env("DBUS_SESSION_BUS_ADDRESS", address)
            .stderr(Stdio::null())
            .spawn()?;
        let started = Self { processes: [daemon, bus], socket };
        wait_for(&started.socket)?;
        Ok(started)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill(); // It may have ended by itself.
            let _ = process.wait();
        }
    }
}

/// Waits for a socket to appear, ten seconds at most.
fn wait_for(path: &Path) -> Result<()> {
    for _ in 0..1000 {
        if path.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("{} did not appear", path.display()).into())
}

/// Sockets that the shim makes and passes by number become sockets that QEMU makes itself.
fn raw_argument(word: &str, directory: &Path) -> String {
    let Some(id) = word.strip_prefix("socket,id=").and_then(|rest| rest.split(',').next()) else {
        return word.to_owned();
    };
    let path = directory.join(format!("raw-{id}"));
    let _ = fs::remove_file(&path); // The first time there is none.
    format!("socket,id={id},path={},server=on,wait=off", path.display())
}

fn run_to_cont(stream: UnixStream) -> Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    lines.next().ok_or("QEMU closed its monitor")??;
    for (command, replies) in [("qmp_capabilities", 1), ("cont", 1)] {
        writeln!(out, "{{\"execute\":\"{command}\"}}")?;
        let mut seen = 0;
        while seen < replies {
            let line = lines.next().ok_or("QEMU closed its monitor")??;
            seen += usize::from(line.contains("\"return\""));
        }
    }
    Ok(())
}

fn only_child(pid: u32) -> Result<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.split_whitespace().next().ok_or("the shim has no child")?.parse()?)
}

fn wait_readable(fd: BorrowedFd<'_>) {
    let mut polled = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    let _ = nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE); // Waiting is all that is wanted.
}

fn switches(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "voluntary_ctxt_switches:")? + field(&status, "nonvoluntary_ctxt_switches:")?)
}

fn field(text: &str, name: &str) -> Result<u64> {
    let line =
        text.lines().find(|line| line.starts_with(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
