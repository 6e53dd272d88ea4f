//! What jobs do to a guest: a list of commands of QEMU's, or a request to systemd.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use dbus_api::GuestSignal;
use domain::DomainName;
use serde_json::{Value, json};
use tokio::time::Instant;
use zbus::message::Header;

use crate::definitions::{Definitions, DefinitionsFault};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::jobs::{JobKind, Outcome};
use crate::keeper::Key;
use crate::lifeline::OpenFault;
use crate::monitor::AskFault;
use crate::runner::{Begun, Progress, Reins};
use crate::services::Shared;
use crate::systemd::Systemd;

pub(crate) mod amounts;
pub(crate) mod devices;
mod redefinition;
pub(crate) mod volumes;

/// What the balloon moves by, the page of virtio's (`VIRTIO_BALLOON_PFN_SHIFT`).
const BALLOON_PAGE: u64 = 4096;

/// How often a balloon that moves is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A balloon that has not moved for so long will not.
const STANDSTILL: Duration = Duration::from_secs(5);

/// A guest may move its balloon as slowly as it likes, and is not waited for longer.
const LONGEST_WAY: Duration = Duration::from_secs(60);

impl From<Result<(), AskFault>> for Outcome {
    fn from(result: Result<(), AskFault>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(fault) => Self::Failed(fault.to_string()),
        }
    }
}

/// Begins to start a guest that does not run, if the caller may.
pub(crate) async fn begin_start(
    services: &Shared,
    header: &Header<'_>,
    name: &DomainName,
) -> Result<Begun, Failure> {
    services.authority.admit(header, None).await?;
    is_not_running(services, name).await?;
    let (systemd, key) = (services.systemd.clone(), name.clone());
    let work = |reins: Reins| async move { systemd.start(&key, &reins.cancel).await };
    services.runner.begin(name, JobKind::Start, work).await
}

/// Refuses a guest that runs.
pub(crate) async fn is_not_running(services: &Shared, name: &DomainName) -> Result<(), Failure> {
    match services.keeper.find(Key::Name(name.clone())).await? {
        // A user's own of that name gives way.
        Some(guest) if guest.claim().user.is_some() => Ok(()),
        Some(_) => Err(Failure::Running(format!("guest '{name}' runs already"))),
        None => Ok(()),
    }
}

/// Defines a guest for as long as it runs, and starts its unit.
pub(crate) async fn create(
    services: Shared,
    name: DomainName,
    xml: String,
    reins: Reins,
) -> Outcome {
    let key = name.clone();
    let change = move |files: &Definitions| files.define_transient(&key, &xml);
    let steps = Steps { progress: Some(reins.progress), total: 3 };
    let mut outcome = change_definitions(services.clone(), change, &steps).await;
    let written = services.definitions.is_transient(&name);
    if outcome == Outcome::Done {
        outcome = services.systemd.start(&name, &reins.cancel).await;
    }
    if outcome == Outcome::Done {
        steps.done(3);
    }
    // Of one that runs it goes with the claim.
    if outcome != Outcome::Done
        && written
        && let Err(fault) = services.definitions.forget(&name)
    {
        tracing::warn!("the definition of guest '{name}', which did not start, stays: {fault}");
    }
    outcome
}

/// The steps of a job; by default nobody is told of them.
#[derive(Debug, Default)]
struct Steps {
    progress: Option<Arc<Progress>>,
    total: u64,
}

impl Steps {
    /// So many are done.
    fn done(&self, count: u64) {
        if let Some(progress) = &self.progress {
            progress.is(count, self.total);
        }
    }
}

/// Changes the files that define guests, and has systemd read them.
pub(crate) async fn redefine<F>(services: Shared, change: F, reins: Reins) -> Outcome
where
    F: FnOnce(&Definitions) -> Result<(), DefinitionsFault> + Send + 'static,
{
    change_definitions(services, change, &Steps { progress: Some(reins.progress), total: 2 }).await
}

/// The first two steps: the files, and systemd.
async fn change_definitions<F>(services: Shared, change: F, steps: &Steps) -> Outcome
where
    F: FnOnce(&Definitions) -> Result<(), DefinitionsFault> + Send + 'static,
{
    let definitions = services.definitions.clone();
    steps.done(0);
    // Syncing takes as long as the disk takes; everyone else is served meanwhile.
    let changed = tokio::task::spawn_blocking(move || change(&definitions)).await;
    match changed {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => return Outcome::Failed(fault.to_string()),
        Err(error) => return Outcome::Failed(error.to_string()),
    }
    steps.done(1);
    let reloaded = services.reloader.reload().await;
    // Who sees the job's end sees the guest's object, too.
    services.rereading.done().await;
    match reloaded {
        Ok(()) => {
            steps.done(2);
            Outcome::Done
        }
        Err(words) => Outcome::Failed(format!("systemd does not read the change: {words}")),
    }
}

/// Carries out one command, such as `stop`, that tells nothing but whether it was carried out.
pub(crate) async fn command(guest: Arc<Guest>, command: &'static str, arguments: Value) -> Outcome {
    guest.monitor().ask(command, arguments).await.map(drop).into()
}

/// Ends a guest whether it agrees or not, also one whose QEMU does not answer.
///
/// Its shim does it, so that the unit ends well and not as one that failed.
///
/// Of one that shares a unit, as a user's in a session, that unit's main process is another: QEMU itself is told.
pub(crate) async fn destroy(guest: Arc<Guest>, systemd: Systemd) -> Outcome {
    if !systemd.knows_unit_of(&guest) {
        return command(guest, "quit", Value::Null).await;
    }
    signal(&guest, &systemd, GuestSignal::Quit).await
}

/// Has a guest shut down and be started anew, which is its shim's to do: who sees it shut down must not take that for
/// its end.
pub(crate) async fn reboot(guest: Arc<Guest>, systemd: Systemd) -> Outcome {
    // One that is too old to hand in a monitor is too old for the signal as well, and would end.
    if guest.monitor().socket().is_none() {
        return Err(AskFault::NoMonitor).into();
    }
    if systemd.knows_unit_of(&guest) {
        return signal(&guest, &systemd, GuestSignal::Reboot).await;
    }
    // Nobody could be asked to signal the one process among others that it is.
    match guest.reboot().await {
        Ok(()) => Outcome::Done,
        Err(OpenFault::Refused(words)) => Outcome::Failed(words),
        Err(OpenFault::Unable | OpenFault::Silent) => {
            let pid = guest.leader().pid;
            Outcome::Failed(format!(
                "its glassbox-qemu does not say that it does it, as one does not that is older than this daemon; \
                 send its process {pid} SIGRTMIN+5"
            ))
        }
    }
}

/// Signals a guest's shim, by its unit: the daemon has no right to.
async fn signal(guest: &Guest, systemd: &Systemd, signal: GuestSignal) -> Outcome {
    match systemd.signal(guest, signal).await {
        Ok(()) => Outcome::Done,
        Err(words) => Outcome::Failed(format!("{}: {words}", guest.unit())),
    }
}

/// Begins to stop the unit of a guest that is a machine, which presses its power button first.
pub(crate) async fn stop_unit(guest: Arc<Guest>, systemd: Systemd) -> Outcome {
    let unit = guest.leader().system_unit.as_deref().unwrap_or_default();
    match systemd.stop(&guest).await {
        Ok(()) => Outcome::Done,
        Err(words) => Outcome::Failed(format!("{unit}: {words}")),
    }
}

/// Gives the guest's balloon a size in bytes, and waits until the guest has it.
async fn set_memory(guest: Arc<Guest>, bytes: u64, reins: Reins) -> Outcome {
    let monitor = guest.monitor();
    monitor.refresh_now().await;
    let from = monitor.face().memory;
    let asked = command(guest.clone(), "balloon", json!({ "value": bytes })).await;
    if asked != Outcome::Done {
        return asked;
    }
    let begun = Instant::now();
    let (mut last, mut moved) = (from, begun);
    loop {
        let now = monitor.face().memory;
        reins.progress.is(now.abs_diff(from).min(bytes.abs_diff(from)), bytes.abs_diff(from));
        if now.abs_diff(bytes) < BALLOON_PAGE {
            return Outcome::Done;
        }
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STANDSTILL || begun.elapsed() > LONGEST_WAY {
            return Outcome::Failed(format!(
                "the guest was asked, and its balloon leaves it {now} bytes and not {bytes}"
            ));
        }
        tokio::time::sleep(LOOK).await;
        monitor.refresh_now().await;
    }
}

/// Writes a picture of the guest's screen, as PNG, to an open file.
///
/// QEMU is given the file and not a path: it sees other files than the daemon, and has other rights.
pub(crate) async fn screenshot(guest: Arc<Guest>, file: OwnedFd) -> Outcome {
    take_picture(&guest, file).await.into()
}

async fn take_picture(guest: &Guest, file: OwnedFd) -> Result<(), AskFault> {
    let monitor = guest.monitor();
    let added = monitor.ask_with("add-fd", Value::Null, Some(file)).await?;
    let set = added.get("fdset-id").and_then(Value::as_u64).unwrap_or_default();
    let name = format!("/dev/fdset/{set}");
    let taken = monitor.ask("screendump", json!({ "filename": name, "format": "png" })).await;
    // Also after a failure, or QEMU would keep the file for as long as the guest lives.
    let removed = monitor.ask("remove-fd", json!({ "fdset-id": set })).await;
    taken.and(removed).map(drop)
}

/// Adds CPUs, or takes some away, until there are so many.
async fn set_vcpus(guest: Arc<Guest>, count: u32, reins: Reins) -> Outcome {
    let outcome = change_vcpus(&guest, count, &reins.progress).await;
    // The CPUs are there, or asked away, and everyone sees how many.
    guest.monitor().refresh_now().await;
    outcome
}

async fn change_vcpus(guest: &Guest, count: u32, progress: &Arc<Progress>) -> Outcome {
    let slots = match guest.monitor().ask("query-hotpluggable-cpus", Value::Null).await {
        Ok(slots) => slots,
        Err(fault) => return Err(fault).into(),
    };
    let steps = match qmp::vcpus::steps(&slots, count) {
        Ok(steps) => steps,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    let total = u64::try_from(steps.len()).unwrap_or(u64::MAX);
    for (done, step) in (0..).zip(steps) {
        progress.is(done, total);
        if let Err(fault) = guest.monitor().ask(step.command, step.arguments).await {
            return Err(fault).into();
        }
    }
    progress.is(total, total);
    Outcome::Done
}
