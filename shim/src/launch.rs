//! The start of a guest, a sequence that cannot be reordered: each step consumes the one before.
//!
//! ```text
//! Prepared --claim--> Claimed --start--> Running --supervise--> Fate
//! ```
//!
//! What is dropped on the way is undone: the claim with its lifeline, the runtime directory with its lock.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use domain::{CrashAction, Domain, LifecycleAction};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::cli::{Cli, Register};
use crate::definition::Source;
use crate::fate::Fate;
use crate::guest::{Action, Actions, Guest, Start};
use crate::keeper::Keeper;
use crate::orders::before_running;
use crate::prepare::{self, PrepareError, Prepared, Purpose};
use crate::provide::provide;
use crate::registry::{Answer, Registry};
use crate::runtime_dir::{RuntimeDir, RuntimeDirError};
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
    /// QEMU could not be executed.
    #[error("{0}")]
    Start(String),
    /// The system refused something that no definition asks for.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

/// Starts the guest and stays beside it.
pub(crate) fn launch(cli: &Cli, source: &Source) -> Result<Fate, LaunchError> {
    let signals = SignalSource::block(&signals()).context("the signals cannot be blocked")?;
    let prepared = prepare::prepare(source, Purpose::Start)?;
    for line in &prepared.ignored {
        log::warning(line);
    }
    host_files::check(&prepared)?;
    pinning::check(&prepared)?;
    let claimed = Claimed::claim(prepared, cli)?;
    claimed.start(signals, cli.stop_timeout.map(Duration::from_secs))
}

/// A guest whose name and UUID are ours.
struct Claimed {
    prepared: Prepared,
    keeper: Keeper,
    directory: RuntimeDir,
}

impl Claimed {
    fn claim(prepared: Prepared, cli: &Cli) -> Result<Self, LaunchError> {
        let keeper = register(&prepared, cli)?;
        let directory = RuntimeDir::make(&prepared.instance).map_err(|error| match error {
            RuntimeDirError::Held { .. } => LaunchError::Claim(error.to_string()),
            RuntimeDirError::Unusable { .. } => LaunchError::Internal(error.into()),
        })?;
        Ok(Self { prepared, keeper, directory })
    }

    fn start(
        self,
        signals: SignalSource,
        stop_timeout: Option<Duration>,
    ) -> Result<Fate, LaunchError> {
        provide(&self.prepared)?;
        let plan = &self.prepared.plan;
        let (fds, monitor) = fds::open(plan).context("the guest's sockets cannot be made")?;
        // Asked for before QEMU is there, which is to be the only other process in it.
        let groups = ThreadGroups::of_this_process();
        let spawn = Spawn {
            program: &plan.emulator,
            arguments: &plan.arguments,
            environment: &plan.environment,
            fds,
            signals: &signals,
        };
        let qemu = spawn.start().map_err(|error| {
            LaunchError::Start(format!("{} cannot be run: {error}", plan.emulator))
        })?;
        let raw =
            rustix::process::Pid::from_raw(qemu.as_raw()).context("QEMU has no process id")?;
        let pidfd =
            pidfd_open(raw, PidfdFlags::empty()).context("QEMU's process cannot be watched")?;
        let orders = before_running(plan);
        let start = Start {
            consoles: !plan.consoles.is_empty(),
            threads: groups.is_some() || !plan.threads.is_empty(),
            orders: orders.len(),
        };
        let guest = Guest::new(actions(&self.prepared.domain), start);
        let running = Running {
            qemu,
            pidfd,
            monitor,
            signals,
            keeper: self.keeper,
            directory: &self.directory,
            consoles: &plan.consoles,
            orders: &orders,
            threads: &plan.threads,
            groups,
            file: &self.prepared.file,
            stop_timeout,
        };
        Ok(supervise(running, guest).context("the guest cannot be supervised; QEMU is killed")?)
    }
}

fn register(prepared: &Prepared, cli: &Cli) -> Result<Keeper, LaunchError> {
    if cli.register == Register::No {
        return Ok(Keeper::off());
    }
    let registry = registry(cli);
    let (name, uuid) = (prepared.domain.name.clone(), prepared.uuid);
    match registry.claim(&name, &uuid) {
        Answer::Held(claim) => Ok(Keeper::held(registry, name, uuid, claim)),
        Answer::Refused(words) => Err(LaunchError::Claim(words)),
        Answer::Unreachable(why) if cli.register == Register::Required => Err(LaunchError::Claim(
            format!("the guest must be registered, but there is no daemon: {why}"),
        )),
        Answer::Unreachable(why) => {
            log::info(format_args!("the guest starts without a management daemon: {why}"));
            Ok(Keeper::waiting(registry, name, uuid))
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
    Actions {
        on_poweroff: lifecycle(domain.lifecycle.poweroff()),
        on_reboot: lifecycle(domain.lifecycle.reboot()),
        on_crash,
    }
}
