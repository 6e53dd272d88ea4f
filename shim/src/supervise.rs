//! Beside a running QEMU: waits for what happens and carries out what [`Guest`] decides.
//!
//! One thread, one poll(2), no timer but the guest's deadline and a watchdog's, if there is one: beside an idle guest the process never wakes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use dbus_api::GuestSignal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use qemu::{ThreadQuotas, TunedThread};
use qmp::{CommandId, Message, Session};
use sd_notify::NotifyState;

use crate::caller::Caller;
use crate::fate::Fate;
use crate::guest::{Command, Effect, Ended, Guest, Input, Request, Standing};
use crate::keeper::Keeper;
use crate::opening::Ports;
use crate::orders::Order;
use crate::pinning::Threads;
use crate::readiness::{Heard, Readiness};
use crate::runtime_dir::RuntimeDir;
use crate::service_manager::ServiceManager;
use crate::sys::{Arrived, SignalSource};
use crate::thread_groups::ThreadGroups;
use crate::watchdog::Watchdog;
use crate::{caller, consoles, dump, log, pinning};

/// Longest QMP message that is taken from QEMU, in bytes. Those that the shim asks for have a few hundred; a
/// QEMU that sends more than this is not to take the shim's memory with it.
const LONGEST_MESSAGE: usize = 1 << 20;

/// How much of the monitor is read before signals and deadlines have their turn, so that a QEMU that never stops
/// talking keeps nobody from stopping it.
const READ_AT_ONCE: usize = 64 << 10;

/// How much is read of what a QEMU that has ended left in its monitor. The kernel holds less than this
/// (`net.core.wmem_max`), and whoever else has the other end could go on for ever.
const READ_AT_END: usize = 1 << 20;

/// What the service manager gives the guest beyond the time in which it must be ready, so that it is the shim
/// that says what was awaited in vain.
const MANAGER_GRACE: Duration = Duration::from_secs(30);

/// The signals that ask something of the shim, or tell it something.
pub(crate) fn signals() -> [i32; 9] {
    let machined_poweroff = libc::SIGRTMIN() + 4; // machinectl(1), poweroff
    let watchdog = libc::SIGABRT; // systemd.service(5), WatchdogSignal=
    [
        libc::SIGTERM,
        libc::SIGINT,
        GuestSignal::Quit.number(),
        libc::SIGHUP,
        libc::SIGCHLD,
        caller::LOST as i32,
        watchdog,
        machined_poweroff,
        GuestSignal::Reboot.number(),
    ]
}

/// A QEMU that was just started, with all that its supervision needs.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    /// QEMU's process.
    pub(crate) qemu: Pid,
    /// A pidfd of it.
    pub(crate) pidfd: OwnedFd,
    /// The shim's monitor.
    pub(crate) monitor: UnixStream,
    pub(crate) signals: SignalSource,
    pub(crate) keeper: Keeper,
    pub(crate) caller: Caller,
    pub(crate) manager: ServiceManager,
    pub(crate) directory: &'a RuntimeDir,
    pub(crate) ports: Ports<'a>,
    /// What [`Command::Order`] stands for, by its index.
    pub(crate) orders: &'a [Order],
    /// The threads to pin before the guest runs.
    pub(crate) threads: &'a [TunedThread],
    /// Where threads get control groups of their own.
    pub(crate) groups: Option<ThreadGroups>,
    /// What each of these groups may use of the CPUs.
    pub(crate) quotas: ThreadQuotas,
    /// How messages call the definition's file.
    pub(crate) file: &'a str,
    /// Where the guest's memory is written to when it panics, without the time and the ending.
    pub(crate) dump: &'a Path,
    /// Awaited before the service manager is told that the guest is ready; none when nothing is, or no more.
    pub(crate) readiness: Option<Readiness>,
    /// How long a stop may take; `None` asks the service manager each time.
    pub(crate) stop_timeout: Option<Duration>,
    /// How long QEMU may take until its guest runs; `None` is for ever.
    pub(crate) start_timeout: Option<Duration>,
}

/// Waits until QEMU has ended and says how.
///
/// # Errors
/// When the kernel refuses poll(2) or a read: nothing can be supervised then. QEMU dies with this process.
pub(crate) fn supervise(running: Running<'_>, guest: Guest) -> io::Result<Fate> {
    running.monitor.set_nonblocking(true)?;
    let session = Session::new(LONGEST_MESSAGE);
    let deadline = running.start_timeout.map(|time| Instant::now() + time);
    let mut supervisor = Supervisor {
        running,
        guest,
        session,
        sent: Vec::new(),
        monitor_open: true,
        deadline,
        watchdog: None,
        places: Vec::new(),
        status: None,
    };
    loop {
        let ready = supervisor.wait()?;
        let fate = supervisor.turn(ready)?;
        if let Some(status) = supervisor.status.take() {
            supervisor.running.manager.notify(&[NotifyState::Status(&status)]);
        }
        if let Some(fate) = fate {
            return Ok(fate);
        }
    }
}

struct Supervisor<'a> {
    running: Running<'a>,
    guest: Guest,
    session: Session,
    /// Commands whose replies are awaited.
    sent: Vec<(CommandId, Command)>,
    monitor_open: bool,
    deadline: Option<Instant>,
    /// While the guest is neither starting nor going down.
    watchdog: Option<Watchdog>,
    /// Where the consoles are, for the status line.
    places: Vec<String>,
    /// What the service manager is to be told at the end of this turn: the last of a flood of states.
    status: Option<String>,
}

/// What poll(2) found.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    ended: bool,
    signal: bool,
    monitor: bool,
    registry: bool,
    caller: bool,
    guest: bool,
}

impl Supervisor<'_> {
    /// Waits until something happens or a time has come.
    fn wait(&self) -> io::Result<Ready> {
        let monitor = self.monitor_open.then(|| self.running.monitor.as_fd());
        let sources = [
            Some(self.running.pidfd.as_fd()),
            Some(self.running.signals.file().as_fd()),
            monitor,
            self.running.keeper.fd(),
            self.running.caller.fd(),
            self.running.readiness.as_ref().and_then(Readiness::fd),
        ];
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, self.timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let [ended, signal, monitor, registry, caller, guest] =
            sources.map(|source| source.is_some() && happened.next().unwrap_or_default());
        Ok(Ready { ended, signal, monitor, registry, caller, guest })
    }

    /// Time until the next deadline; none when there is none.
    fn timeout(&self) -> PollTimeout {
        let watchdog = self.watchdog.as_ref().and_then(Watchdog::deadline);
        let readiness = self.running.readiness.as_ref().and_then(Readiness::deadline);
        let deadlines = [self.deadline, self.running.keeper.deadline(), watchdog, readiness];
        let earliest = deadlines.into_iter().flatten().min();
        let Some(at) = earliest else { return PollTimeout::NONE };
        // Rounded up: waking a moment early would turn the wait's last millisecond into a busy loop.
        let milliseconds = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    }

    /// Handles what was found. What QEMU still said is read before its end is looked at.
    fn turn(&mut self, ready: Ready) -> io::Result<Option<Fate>> {
        if ready.monitor || ready.ended {
            self.read_monitor(if ready.ended { READ_AT_END } else { READ_AT_ONCE })?;
        }
        if ready.ended {
            let ended = reap(self.running.qemu)?;
            return self.feed(Input::Ended(ended));
        }
        if ready.caller {
            self.running.caller.forget();
            self.feed(Input::Request(Request::CallerLost))?;
        }
        if ready.signal {
            while let Some(arrived) = self.running.signals.next()? {
                if arrived.number == libc::SIGCHLD {
                    reap_others(self.running.qemu);
                }
                if let Some(request) = self.request(arrived) {
                    self.obey(request)?;
                }
            }
        }
        let now = Instant::now();
        if ready.guest {
            self.listen_to_guest()?;
        }
        if let Some(readiness) = &self.running.readiness
            && readiness.deadline().is_some_and(|at| at <= now)
        {
            self.feed(Input::NotReady(readiness.overdue()))?;
        }
        if (ready.registry || self.running.keeper.deadline().is_some_and(|at| at <= now))
            && let Some(request) = self.running.keeper.turn(&self.running.ports)
        {
            self.obey(request)?;
        }
        if self.watchdog.as_ref().and_then(Watchdog::deadline).is_some_and(|at| at <= now) {
            self.ask_for_life()?;
        }
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.feed(Input::DeadlinePassed)?;
        }
        Ok(None)
    }

    /// Does what somebody asks of the guest, whose own word is not waited for any more.
    fn obey(&mut self, request: Request) -> io::Result<()> {
        if request != Request::Reset {
            self.running.readiness = None;
        }
        self.feed(Input::Request(request)).map(drop)
    }

    fn request(&self, arrived: Arrived) -> Option<Request> {
        let timeout = || self.running.stop_timeout.or_else(|| self.running.manager.stop_timeout());
        match arrived.number {
            libc::SIGTERM | libc::SIGHUP => Some(Request::Stop { timeout: timeout() }),
            // A terminal's Ctrl-C; machinectl reboot sends the same signal, but as a process does.
            libc::SIGINT if arrived.from_kernel => Some(Request::Interrupt { timeout: timeout() }),
            libc::SIGINT => Some(Request::Reset),
            number if number == GuestSignal::Quit.number() => Some(Request::Quit),
            libc::SIGABRT => Some(Request::Abort),
            number if number == libc::SIGRTMIN() + 4 => Some(Request::Poweroff),
            number if number == GuestSignal::Reboot.number() => Some(Request::Reboot),
            number if self.running.caller.is_lost_by(number) => Some(Request::CallerLost),
            _ => None,
        }
    }

    /// Reads what there is, up to this many bytes.
    fn read_monitor(&mut self, limit: usize) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        let mut read = 0;
        while self.monitor_open && read < limit {
            match self.running.monitor.read(&mut buffer) {
                Ok(0) => self.lose_monitor("QEMU closed its monitor")?,
                Ok(count) => {
                    read += count;
                    self.session.receive(&buffer[..count]);
                    self.take_messages()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.lose_monitor(&format!("the monitor cannot be read: {error}"))?,
            }
        }
        Ok(())
    }

    fn take_messages(&mut self) -> io::Result<()> {
        loop {
            let input = match self.session.next_message() {
                Ok(None) => return Ok(()),
                Ok(Some(Message::Greeting(_))) => Input::Greeting,
                Ok(Some(Message::Event(event))) => Input::Event(event),
                Ok(Some(Message::Reply { id, result })) => {
                    self.feed_watchdog(id);
                    let Some(at) = self.sent.iter().position(|(sent, _)| *sent == id) else {
                        continue;
                    };
                    Input::Reply(self.sent.swap_remove(at).1, result)
                }
                Err(error) => return self.lose_monitor(&error.to_string()),
            };
            self.feed(input)?;
        }
    }

    fn lose_monitor(&mut self, why: &str) -> io::Result<()> {
        self.monitor_open = false;
        self.watchdog = None;
        // QEMU would keep what nobody reads. That it may have closed its end before is no matter.
        let _ = self.running.monitor.shutdown(std::net::Shutdown::Both);
        self.session = Session::new(LONGEST_MESSAGE);
        self.feed(Input::MonitorLost(why.to_owned())).map(|_| ())
    }

    /// Lets the guest decide and does what it says. A fate comes out only of QEMU's end.
    fn feed(&mut self, input: Input) -> io::Result<Option<Fate>> {
        let mut fate = None;
        for effect in self.guest.handle(input) {
            match effect {
                Effect::Send(command) => self.send(command)?,
                Effect::Consoles(opened) => {
                    self.places = consoles::link(
                        self.running.directory.path(),
                        self.running.ports.consoles,
                        &opened,
                    );
                    self.running.ports.ptys = opened;
                }
                Effect::Pin(threads) => {
                    let done = self.pin(&threads);
                    fate = self.feed(Input::Pinned(done))?;
                }
                Effect::Ready(standing) => self.ready(standing),
                Effect::Stopping => {
                    // From here on the service manager has a limit of its own, and QEMU one of the guest's.
                    self.watchdog = None;
                    self.running.readiness.iter_mut().for_each(Readiness::give_up);
                    self.running.manager.notify(&[NotifyState::Stopping]);
                }
                Effect::Status(status) => self.status = Some(status),
                Effect::Warn(message) => log::warning(message),
                Effect::Deadline(time) => self.deadline = time.map(|time| Instant::now() + time),
                Effect::Terminate => self.signal_qemu(Signal::SIGTERM),
                Effect::Kill => self.signal_qemu(Signal::SIGKILL),
                Effect::Finish(end) => fate = Some(self.judge(end)),
            }
        }
        Ok(fate)
    }

    /// Groups come first: a kernel before 6.2 forgets a thread's CPUs when it gets into another group.
    fn pin(&mut self, threads: &Threads) -> Result<(), String> {
        let running = &mut self.running;
        let quotas = running.quotas;
        let placed = running.groups.as_mut().map(|groups| groups.place(threads, quotas));
        if let Some(Err(error)) = placed {
            log::warning(format_args!(
                "the unit's control group is delegated but cannot be divided: {error}; threads stay in it"
            ));
        }
        pinning::apply(running.threads, threads, running.qemu, running.file)
    }

    /// QEMU and its guest stand as they were to. A guest that does not run yet can say nothing.
    fn ready(&mut self, standing: Standing) {
        self.deadline = None;
        if standing != Standing::Running {
            self.running.readiness = None;
        }
        let Some(readiness) = &mut self.running.readiness else { return self.announce(standing) };
        let patience = readiness.begin(Instant::now()) + MANAGER_GRACE;
        let status = format!("running, waiting for the guest to say {readiness}");
        log::info(format_args!("the guest is {status}"));
        let extend = format!("EXTEND_TIMEOUT_USEC={}", patience.as_micros());
        self.running.manager.notify(&[NotifyState::Custom(&extend), NotifyState::Status(&status)]);
    }

    /// Takes what the guest says of itself.
    fn listen_to_guest(&mut self) -> io::Result<()> {
        let Some(readiness) = &mut self.running.readiness else { return Ok(()) };
        match readiness.listen() {
            Heard::Nothing | Heard::Something => {}
            Heard::Ready => {
                self.running.readiness = None;
                self.announce(Standing::Running);
            }
            Heard::Closed => {
                readiness.give_up();
                let words = format!("QEMU closed the port before it said {readiness}");
                self.feed(Input::NotReady(words))?;
            }
        }
        Ok(())
    }

    /// A guest that was awaited and did not come is one that was not started.
    fn judge(&self, end: Fate) -> Fate {
        match &self.running.readiness {
            Some(readiness) if end == Fate::Stopped => {
                Fate::StartFailed(format!("it shut down before it said {readiness}"))
            }
            Some(_) | None => end,
        }
    }

    /// Tells the service manager that the guest is ready.
    fn announce(&mut self, standing: Standing) {
        let what = match standing {
            Standing::Running => "running",
            Standing::Paused => "paused until somebody resumes it",
            Standing::Incoming => "waiting for a migration to come in",
        };
        let mut status = format!("{what}, QEMU is process {}", self.running.qemu);
        for place in &self.places {
            status.push_str("; console ");
            status.push_str(place);
        }
        log::info(format_args!("the guest is {status}"));
        self.running.manager.notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let limit = self.running.manager.watchdog();
        self.watchdog = limit.map(|limit| Watchdog::new(limit, Instant::now()));
        footprint::give_back();
    }

    /// Asks QEMU for a sign of life. Its answer says more than it asks for, and changes nothing.
    fn ask_for_life(&mut self) -> io::Result<()> {
        let id = self.session.execute("query-status", serde_json::Value::Null);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.asked(id);
        }
        self.write_out()
    }

    /// Tells the service manager that QEMU is well, if this is the sign of life that was asked for.
    fn feed_watchdog(&mut self, id: CommandId) {
        let now = Instant::now();
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_answer(id, now)) {
            self.running.manager.notify(&[NotifyState::Watchdog]);
        }
    }

    fn send(&mut self, command: Command) -> io::Result<()> {
        if !self.monitor_open {
            log::warning(format_args!(
                "QEMU cannot be told {}: its monitor is lost",
                command.name()
            ));
            return Ok(());
        }
        let id = match command {
            Command::Order(index) => {
                let order = &self.running.orders[index];
                self.session.execute(order.name, order.arguments.clone())
            }
            Command::Dump => {
                self.session.execute(command.name(), dump::arguments(self.running.dump))
            }
            Command::Capabilities
            | Command::QueryChardev
            | Command::QueryCpus
            | Command::QueryIothreads
            | Command::RebootShutsDown
            | Command::RebootResets
            | Command::Cont
            | Command::QueryStatus
            | Command::Powerdown
            | Command::Reset
            | Command::Quit => self.session.execute(command.name(), command.arguments()),
        };
        self.sent.push((id, command));
        self.write_out()
    }

    fn write_out(&mut self) -> io::Result<()> {
        // Commands have a few dozen bytes and QEMU reads them at once, so they fit the socket's buffer.
        match self.running.monitor.write(self.session.output()) {
            Ok(count) if count == self.session.output().len() => {
                self.session.sent(count);
                Ok(())
            }
            Ok(_) => self.lose_monitor("QEMU does not read its monitor"),
            Err(error) => self.lose_monitor(&format!("the monitor cannot be written to: {error}")),
        }
    }

    fn signal_qemu(&self, signal: Signal) {
        if let Err(error) = kill(self.running.qemu, signal) {
            log::warning(format_args!("QEMU cannot be sent {signal}: {error}"));
        }
    }
}

/// Takes in the ended children that are not QEMU: as the first process of a container this one is given those that
/// lost their parents, and one that was started by exec may have children of before.
fn reap_others(qemu: Pid) {
    let ended =
        || waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
    // QEMU's own end is left for its pidfd to tell, and with it this process ends.
    while let Some(pid) = ended().ok().and_then(|status| status.pid()).filter(|pid| *pid != qemu) {
        if waitpid(pid, None).is_err() {
            return;
        }
    }
}

fn reap(qemu: Pid) -> io::Result<Ended> {
    let status = waitpid(qemu, None)?;
    if let WaitStatus::Exited(_, status) = status {
        return Ok(Ended::Exited(status));
    }
    if let WaitStatus::Signaled(_, signal, _) = status {
        return Ok(Ended::Signalled(signal as i32));
    }
    Err(io::Error::other(format!("QEMU's process is in a state that is no end: {status:?}")))
}
