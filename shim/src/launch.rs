//! The start of a guest, a sequence that cannot be reordered: each step consumes the one before.
//!
//! ```text
//! Identified --lock, plan--> Prepared --claim--> Claimed --start--> Running --supervise--> Fate
//! ```
//!
//! What is dropped on the way is undone: the claim with its lifeline, the runtime directory with its lock.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use domain::UnitInstance;
use nix::unistd::Pid;
use qemu::{GuestReady, LaunchPlan, ReadyAt};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::asked::{Asked, Start};
use crate::caller::{Caller, CallerError};
use crate::cli::Cli;
use crate::fate::Fate;
use crate::fds::{OpenError, Opened, Sources};
use crate::guest::{Beginning, Guest};
use crate::handed::{self, Handed};
use crate::inheritance::Inheritance;
use crate::keeper::Keeper;
use crate::live::LiveFile;
use crate::locks::Locks;
use crate::opening::Ports;
use crate::orders::{Order, before_running, to_come_in};
use crate::pidfile::Pidfile;
use crate::prepare::{self, PrepareError, Prepared, Purpose};
use crate::provide::provide;
use crate::readiness::Readiness;
use crate::runtime_dir::{RuntimeDir, RuntimeDirError, granted};
use crate::service_manager::ServiceManager;
use crate::supervise::{Running, signals, supervise};
use crate::sys::{SignalSource, Spawn};
use crate::tap::MadeLink;
use crate::thread_groups::ThreadGroups;
use crate::{actions, claiming, fds, host_files, layers, log, pinning};

/// Why no guest was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The definition, or a file that it names.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Somebody else holds the name or the UUID, or there is no daemon where one is required.
    #[error("{0}")]
    Claim(String),
    /// The caller has ended, or its end would not be noticed.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// QEMU could not be executed.
    #[error("{0}")]
    Start(String),
    /// The system refused something that no definition asks for.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

/// Starts the guest and stays beside it.
pub(crate) fn launch(
    cli: &Cli,
    asked: Asked,
    manager: ServiceManager,
) -> Result<Fate, LaunchError> {
    let signals = SignalSource::block(&signals()).context("the signals cannot be blocked")?;
    let caller = match cli.die_with_parent {
        Some(expected) => Caller::watch(expected)?,
        None => Caller::ignored(),
    };
    let manager = asked.handed.as_ref().map_or(manager, Handed::service_manager);
    let identified = prepare::identify(&asked, Purpose::Start)?;
    // Before QEMU is asked what it is, which takes a moment: who is refused, is refused at once.
    let mut locks = claiming::lock(&identified, cli)?;
    let prepared = identified.prepare(&asked, Purpose::Start)?;
    for line in &prepared.ignored {
        log::warning(line);
    }
    asked.handed.as_ref().map_or(Ok(()), |_| host_files::check_account(&prepared))?;
    host_files::check(&prepared, asked.handed.as_ref())?;
    if asked.handed.is_some() {
        layers::check(&prepared, &asked.inheritance)?;
    }
    claiming::lock_vsock(&mut locks, &prepared)?;
    pinning::check(&prepared)?;
    for line in host_files::left_out(&prepared) {
        log::warning(line);
    }
    let claimed = Claimed::claim(prepared, locks, cli, asked.handed.as_ref())?;
    let given = Given {
        start: asked.start,
        inheritance: asked.inheritance,
        handed: asked.handed,
        pidfile: cli.pidfile.as_deref(),
    };
    claimed.start(
        given,
        Circumstances {
            signals,
            caller,
            manager,
            stop_timeout: cli.stop_timeout.map(Duration::from_secs),
            start_timeout: cli
                .start_timeout
                .map(Duration::from_secs)
                .or_else(|| manager.start_timeout()),
        },
    )
}

/// What the caller gives the guest beside its definition.
struct Given<'a> {
    start: Start,
    inheritance: Inheritance,
    handed: Option<Handed>,
    pidfile: Option<&'a Path>,
}

/// What the guest's life depends on beside the guest.
struct Circumstances {
    signals: SignalSource,
    caller: Caller,
    manager: ServiceManager,
    stop_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
}

/// A guest whose name and UUID are ours.
struct Claimed {
    prepared: Prepared,
    keeper: Keeper,
    /// QEMU's end of the monitor that the daemon is handed.
    daemon_monitor: UnixStream,
    directory: RuntimeDir,
    // Freed last, when nothing of the guest is left.
    _locks: Locks,
}

impl Claimed {
    /// Claims with the daemon what is locked already: the locks' holder has its word even while the daemon does not
    /// know of it.
    fn claim(
        mut prepared: Prepared,
        locks: Locks,
        cli: &Cli,
        handed: Option<&Handed>,
    ) -> Result<Self, LaunchError> {
        let (for_daemon, daemon_monitor) = UnixStream::pair().context("socketpair")?;
        let keeper = claiming::register(&prepared, cli, for_daemon, handed)?;
        let directory =
            RuntimeDir::make(&prepared.place, &prepared.instance).map_err(|error| match error {
                RuntimeDirError::Held { .. } => LaunchError::Claim(error.to_string()),
                RuntimeDirError::Unusable { .. } => LaunchError::Internal(error.into()),
            })?;
        if let Some(running) = prepared.running.take() {
            let live = LiveFile::of_place(&prepared.place);
            let kept = live.begin(&running.write());
            kept.with_context(|| live.path().display().to_string())?;
        }
        Ok(Self { prepared, keeper, daemon_monitor, directory, _locks: locks })
    }

    fn start(self, given: Given<'_>, with: Circumstances) -> Result<Fate, LaunchError> {
        provide(&self.prepared, given.handed.as_ref())?;
        let Self { prepared, keeper, daemon_monitor, directory, _locks } = self;
        let mut equipment = Equipment::make(&prepared, daemon_monitor, given)?;
        with.caller.check()?;
        let qemu = equipment.start_qemu(&prepared.plan, &with.signals)?;
        Started { prepared, keeper, directory, _locks }.supervise(qemu, equipment, with)
    }
}

/// A guest whose QEMU is started.
struct Started {
    prepared: Prepared,
    keeper: Keeper,
    directory: RuntimeDir,
    // Freed last, when nothing of the guest is left.
    _locks: Locks,
}

impl Started {
    fn supervise(
        self,
        qemu: Pid,
        equipment: Equipment,
        with: Circumstances,
    ) -> Result<Fate, LaunchError> {
        let plan = &self.prepared.plan;
        let orders: Vec<Order> =
            before_running(plan).into_iter().chain(equipment.last_orders).collect();
        let beginning = Beginning {
            has_consoles: !plan.consoles.is_empty(),
            has_threads: equipment.groups.is_some() || !plan.threads.is_empty(),
            orders: orders.len(),
            resumes: equipment.resumes,
        };
        let running = Running {
            qemu,
            pidfd: watch(qemu)?,
            monitor: equipment.monitor,
            signals: with.signals,
            keeper: self.keeper,
            caller: with.caller,
            manager: with.manager,
            directory: &self.directory,
            ports: Ports::of(plan),
            orders: &orders,
            threads: &plan.threads,
            groups: equipment.groups,
            quotas: plan.quotas,
            file: &self.prepared.file,
            dump: &dump_path(&self.prepared.instance),
            readiness: equipment.readiness,
            stop_timeout: with.stop_timeout,
            start_timeout: with.start_timeout,
        };
        let guest = Guest::new(actions::of(&self.prepared.domain), beginning);
        Ok(supervise(running, guest).context("the guest cannot be supervised; QEMU is killed")?)
    }
}

/// What is made for a guest before its QEMU is started, and goes with the guest.
struct Equipment {
    /// QEMU's own, until it is started.
    fds: Vec<OwnedFd>,
    monitor: UnixStream,
    _links: Vec<MadeLink>,
    readiness: Option<Readiness>,
    groups: Option<ThreadGroups>,
    pidfile: Option<Pidfile>,
    /// What QEMU is told last before its guest runs, beside what the plan has.
    last_orders: Vec<Order>,
    /// Whether the guest's CPUs are started then.
    resumes: bool,
}

impl Equipment {
    fn make(
        prepared: &Prepared,
        daemon: UnixStream,
        mut given: Given<'_>,
    ) -> Result<Self, LaunchError> {
        let plan = &prepared.plan;
        let pidfile = given
            .pidfile
            .map(|path| Pidfile::stage(path).with_context(|| path.display().to_string()))
            .transpose()?;
        // Asked for before QEMU is there, which is to be the only other process in it.
        let groups = ThreadGroups::of_this_process();
        let sources =
            Sources { inheritance: &mut given.inheritance, handed: given.handed.as_mut(), daemon };
        let Opened { mut fds, monitor, links } =
            fds::open(prepared, sources).map_err(|error| unopened(error, prepared))?;
        let port = given.handed.as_mut().and_then(|handed| handed.release(handed::READY));
        let ready = plan.ready.as_ref();
        let readiness = ready.map(|ready| awaited(ready, port, prepared)).transpose()?;
        let resumes = matches!(given.start, Start::Boot);
        let (last_orders, incoming) = to_come_in(given.start, fds.len());
        fds.extend(incoming);
        Ok(Self { fds, monitor, _links: links, readiness, groups, pidfile, last_orders, resumes })
    }

    fn start_qemu(
        &mut self,
        plan: &LaunchPlan,
        signals: &SignalSource,
    ) -> Result<Pid, LaunchError> {
        let spawn = Spawn {
            program: &plan.emulator,
            arguments: &plan.arguments,
            environment: &plan.environment,
            stderr: None,
            fds: std::mem::take(&mut self.fds),
            signals,
        };
        let qemu = spawn.start().map_err(|error| {
            LaunchError::Start(format!("{} cannot be run: {error}", plan.emulator))
        })?;
        if let Some(pidfile) = &self.pidfile {
            pidfile.publish();
        }
        Ok(qemu)
    }
}

/// Where the guest's memory goes when it panics: with what else it keeps between runs.
fn dump_path(instance: &UnitInstance) -> PathBuf {
    let state =
        granted("STATE_DIRECTORY").unwrap_or_else(|| PathBuf::from("/var/lib/glassbox/guest"));
    state.join("dump").join(instance.directory())
}

/// A pidfd of QEMU.
fn watch(qemu: Pid) -> anyhow::Result<OwnedFd> {
    let raw = rustix::process::Pid::from_raw(qemu.as_raw()).context("QEMU has no process id")?;
    pidfd_open(raw, PidfdFlags::empty()).context("QEMU's process cannot be watched")
}

/// The guest's own word, where it is to give one.
fn awaited(
    ready: &GuestReady,
    port: Option<OwnedFd>,
    prepared: &Prepared,
) -> Result<Readiness, LaunchError> {
    Readiness::await_at(ready, port).map_err(|error| match &ready.at {
        ReadyAt::Port { name, .. } => anyhow::Error::new(error).context(name.clone()).into(),
        ReadyAt::Vsock { port, place, .. } => {
            let what = format!("this host cannot listen at port {port} of its vsock: {error}");
            PrepareError::HostFiles(vec![place.refused(what).in_file(&prepared.file)]).into()
        }
        ReadyAt::VsockProgram { path, place } => {
            let what = format!("the guest cannot be heard at '{path}': {error}");
            PrepareError::HostFiles(vec![place.refused(what).in_file(&prepared.file)]).into()
        }
    })
}

fn unopened(error: OpenError, prepared: &Prepared) -> LaunchError {
    match error {
        OpenError::Device(fault) => {
            PrepareError::HostFiles(vec![fault.in_file(&prepared.file)]).into()
        }
        OpenError::HandOver(told) => PrepareError::HostFiles(vec![told]).into(),
        OpenError::File(error) => error.context("the guest's sockets cannot be made").into(),
    }
}
