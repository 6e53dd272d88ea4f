//! The start of a guest, a sequence that cannot be reordered: each step consumes the one before.
//!
//! ```text
//! Prepared --claim--> Claimed --start--> Running --supervise--> Fate
//! ```
//!
//! What is dropped on the way is undone: the claim with its lifeline, the runtime directory with its lock.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use domain::{CrashAction, Domain, LifecycleAction, UnitInstance};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::asked::{Asked, Start};
use crate::caller::{Caller, CallerError};
use crate::cli::{Cli, Register};
use crate::fate::Fate;
use crate::fds::{OpenError, Opened};
use crate::guest::{Action, Actions, Beginning, Guest};
use crate::inheritance::Inheritance;
use crate::keeper::Keeper;
use crate::locks::Locks;
use crate::orders::{Order, before_running, to_come_in};
use crate::pidfile::Pidfile;
use crate::prepare::{self, PrepareError, Prepared, Purpose};
use crate::provide::provide;
use crate::readiness::Readiness;
use crate::registry::{Answer, Occasion, Registrant, Registry};
use crate::runtime_dir::{RuntimeDir, RuntimeDirError, granted};
use crate::service_manager::ServiceManager;
use crate::supervise::{Running, signals, supervise};
use crate::sys::{SignalSource, Spawn};
use crate::thread_groups::ThreadGroups;
use crate::{fds, host_files, log, pinning};

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
    let prepared = prepare::prepare(&asked, Purpose::Start)?;
    for line in &prepared.ignored {
        log::warning(line);
    }
    host_files::check(&prepared)?;
    pinning::check(&prepared)?;
    for line in host_files::left_out(&prepared) {
        log::warning(line);
    }
    let claimed = Claimed::claim(prepared, cli)?;
    claimed.start(Circumstances {
        start: asked.start,
        inheritance: asked.inheritance,
        signals,
        caller,
        manager,
        stop_timeout: cli.stop_timeout.map(Duration::from_secs),
        start_timeout: cli
            .start_timeout
            .map(Duration::from_secs)
            .or_else(|| manager.start_timeout()),
        pidfile: cli.pidfile.as_deref(),
    })
}

/// What a start depends on beside the guest.
struct Circumstances<'a> {
    start: Start,
    inheritance: Inheritance,
    signals: SignalSource,
    caller: Caller,
    manager: ServiceManager,
    stop_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    pidfile: Option<&'a Path>,
}

/// A guest whose name and UUID are ours.
struct Claimed {
    prepared: Prepared,
    keeper: Keeper,
    directory: RuntimeDir,
    // Freed last, when nothing of the guest is left.
    _locks: Locks,
}

impl Claimed {
    fn claim(prepared: Prepared, cli: &Cli) -> Result<Self, LaunchError> {
        // Before the daemon is asked: the locks' holder has its word even while the daemon does not know of it.
        let locks = lock(&prepared, cli)?;
        let keeper = register(&prepared, cli)?;
        let directory =
            RuntimeDir::make(&prepared.place, &prepared.instance).map_err(|error| match error {
                RuntimeDirError::Held { .. } => LaunchError::Claim(error.to_string()),
                RuntimeDirError::Unusable { .. } => LaunchError::Internal(error.into()),
            })?;
        Ok(Self { prepared, keeper, directory, _locks: locks })
    }

    fn start(self, mut with: Circumstances<'_>) -> Result<Fate, LaunchError> {
        provide(&self.prepared)?;
        let plan = &self.prepared.plan;
        let pidfile = with
            .pidfile
            .map(|path| Pidfile::stage(path).with_context(|| path.display().to_string()))
            .transpose()?;
        // Asked for before QEMU is there, which is to be the only other process in it.
        let groups = ThreadGroups::of_this_process();
        // What was made for the guest goes when this function ends, and with it the guest.
        let Opened { mut fds, monitor, links: _links } = fds::open(plan, &mut with.inheritance)
            .map_err(|error| unopened(error, &self.prepared))?;
        let readiness = plan.ready.as_ref().map(Readiness::await_at).transpose();
        let readiness = readiness.context("the port by which the guest says that it is ready")?;
        let resumes = matches!(with.start, Start::Boot);
        let (last, incoming) = to_come_in(with.start, fds.len());
        fds.extend(incoming);
        let spawn = Spawn {
            program: &plan.emulator,
            arguments: &plan.arguments,
            environment: &plan.environment,
            fds,
            signals: &with.signals,
        };
        with.caller.check()?;
        let qemu = spawn.start().map_err(|error| {
            LaunchError::Start(format!("{} cannot be run: {error}", plan.emulator))
        })?;
        if let Some(pidfile) = &pidfile {
            pidfile.publish();
        }
        let orders: Vec<Order> = before_running(plan).into_iter().chain(last).collect();
        let beginning = Beginning {
            has_consoles: !plan.consoles.is_empty(),
            has_threads: groups.is_some() || !plan.threads.is_empty(),
            orders: orders.len(),
            resumes,
        };
        let guest = Guest::new(actions(&self.prepared.domain), beginning);
        let running = Running {
            qemu,
            pidfd: watch(qemu)?,
            monitor,
            signals: with.signals,
            keeper: self.keeper,
            caller: with.caller,
            manager: with.manager,
            directory: &self.directory,
            consoles: &plan.consoles,
            orders: &orders,
            threads: &plan.threads,
            groups,
            file: &self.prepared.file,
            dump: &dump_path(&self.prepared.instance),
            readiness,
            stop_timeout: with.stop_timeout,
            start_timeout: with.start_timeout,
        };
        Ok(supervise(running, guest).context("the guest cannot be supervised; QEMU is killed")?)
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

fn lock(prepared: &Prepared, cli: &Cli) -> Result<Locks, LaunchError> {
    if cli.standalone || cli.register == Register::No {
        return Ok(Locks::default());
    }
    Locks::take(&prepared.domain.name, &prepared.instance, &prepared.uuid)
        .map_err(|held| LaunchError::Claim(held.to_string()))
}

fn unopened(error: OpenError, prepared: &Prepared) -> LaunchError {
    match error {
        OpenError::Device(fault) => {
            PrepareError::HostFiles(vec![fault.in_file(&prepared.file)]).into()
        }
        OpenError::File(error) => error.context("the guest's sockets cannot be made").into(),
    }
}

fn register(prepared: &Prepared, cli: &Cli) -> Result<Keeper, LaunchError> {
    if cli.standalone || cli.register == Register::No {
        return Ok(Keeper::off());
    }
    let registry = registry(cli);
    let registrant = Registrant {
        name: prepared.domain.name.clone(),
        uuid: prepared.uuid,
        transient: cli.transient,
    };
    match registry.claim(&registrant, Occasion::Start) {
        Answer::Held(claim) => Ok(Keeper::held(registry, registrant, claim)),
        Answer::Refused(words) => Err(LaunchError::Claim(words)),
        Answer::Unreachable(why) | Answer::Silent(why) if cli.register == Register::Required => {
            Err(LaunchError::Claim(format!(
                "the guest must be registered, but there is no daemon: {why}"
            )))
        }
        Answer::Unreachable(why) | Answer::Silent(why) => {
            log::info(format_args!("the guest starts without a management daemon: {why}"));
            Ok(Keeper::waiting(registry, registrant))
        }
    }
}

fn registry(cli: &Cli) -> Registry {
    if let Some(socket) = &cli.registry {
        return Registry { socket: socket.clone(), bus: false };
    }
    if !cli.user {
        return Registry { socket: PathBuf::from(dbus_api::SYSTEM_REGISTRY), bus: true };
    }
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    Registry { socket: runtime.join(dbus_api::USER_REGISTRY), bus: false }
}

fn actions(domain: &Domain) -> Actions {
    let lifecycle = |action| match action {
        LifecycleAction::Destroy => Action::Destroy,
        LifecycleAction::Restart | LifecycleAction::RenameRestart => Action::Restart,
        LifecycleAction::Preserve => Action::Preserve,
    };
    let on_crash = match domain.lifecycle.crash() {
        CrashAction::Destroy | CrashAction::CoredumpDestroy => Action::Destroy,
        CrashAction::Restart | CrashAction::RenameRestart | CrashAction::CoredumpRestart => {
            Action::Restart
        }
        CrashAction::Preserve => Action::Preserve,
    };
    let dumps = match domain.lifecycle.crash() {
        CrashAction::CoredumpDestroy | CrashAction::CoredumpRestart => true,
        CrashAction::Destroy
        | CrashAction::Restart
        | CrashAction::RenameRestart
        | CrashAction::Preserve => false,
    };
    Actions {
        on_poweroff: lifecycle(domain.lifecycle.poweroff()),
        on_reboot: lifecycle(domain.lifecycle.reboot()),
        on_crash,
        dumps,
    }
}
