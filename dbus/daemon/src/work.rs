//! What jobs do to a guest: a list of commands of QEMU's, or a request to systemd.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use domain::DomainName;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::broker::Order;
use crate::definitions::{Definitions, DefinitionsFault};
use crate::guest::Guest;
use crate::jobs::Outcome;
use crate::monitor::AskFault;
use crate::services::Shared;
use crate::systemd::Systemd;

pub(crate) mod devices;

impl From<Result<(), AskFault>> for Outcome {
    fn from(result: Result<(), AskFault>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(fault) => Self::Failed(fault.to_string()),
        }
    }
}

/// Starts the unit of a guest that does not run.
pub(crate) async fn start(systemd: Systemd, name: DomainName, cancel: Arc<Notify>) -> Outcome {
    systemd.start(&name, &cancel).await
}

/// Defines a guest for as long as it runs, and starts its unit.
pub(crate) async fn create(
    services: Shared,
    name: DomainName,
    xml: String,
    cancel: Arc<Notify>,
) -> Outcome {
    let key = name.clone();
    let change = move |files: &Definitions| files.define_transient(&key, &xml);
    let mut outcome = change_definitions(services.clone(), change).await;
    let written = services.definitions.is_transient(&name);
    if outcome == Outcome::Done {
        outcome = services.systemd.start(&name, &cancel).await;
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

/// Changes the files that define guests, and has systemd read them.
pub(crate) async fn change_definitions<F>(services: Shared, change: F) -> Outcome
where
    F: FnOnce(&Definitions) -> Result<(), DefinitionsFault> + Send + 'static,
{
    let definitions = services.definitions.clone();
    // Syncing takes as long as the disk takes; everyone else is served meanwhile.
    let changed = tokio::task::spawn_blocking(move || change(&definitions)).await;
    match changed {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => return Outcome::Failed(fault.to_string()),
        Err(error) => return Outcome::Failed(error.to_string()),
    }
    match services.reloader.reload().await {
        Ok(()) => Outcome::Done,
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
    signal(&guest, &systemd, Order::Quit).await
}

/// Has a guest shut down and be started anew, which is its shim's to do: who sees it shut down must not take that for
/// its end.
pub(crate) async fn reboot(guest: Arc<Guest>, systemd: Systemd) -> Outcome {
    // One that is too old to hand in a monitor is too old for the signal as well, and would end.
    if guest.monitor().socket().is_none() {
        return Err(AskFault::NoMonitor).into();
    }
    signal(&guest, &systemd, Order::Reboot).await
}

/// Signals a guest's shim, by its unit: the daemon has no right to.
async fn signal(guest: &Guest, systemd: &Systemd, order: Order) -> Outcome {
    if guest.unit().is_empty() {
        let pid = guest.leader().pid;
        return Outcome::Failed(format!("it lives in no unit; signal its process {pid} by hand"));
    }
    match systemd.signal(guest, order).await {
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

/// Gives the guest's balloon a size in bytes.
pub(crate) async fn set_memory(guest: Arc<Guest>, bytes: u64) -> Outcome {
    command(guest, "balloon", json!({ "value": bytes })).await
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
pub(crate) async fn set_vcpus(guest: Arc<Guest>, count: u32) -> Outcome {
    let outcome = change_vcpus(&guest, count).await;
    // The CPUs are there, or asked away, and everyone sees how many.
    guest.monitor().refresh_now().await;
    outcome
}

async fn change_vcpus(guest: &Guest, count: u32) -> Outcome {
    let slots = match guest.monitor().ask("query-hotpluggable-cpus", Value::Null).await {
        Ok(slots) => slots,
        Err(fault) => return Err(fault).into(),
    };
    let steps = match qmp::vcpus::steps(&slots, count) {
        Ok(steps) => steps,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    for step in steps {
        if let Err(fault) = guest.monitor().ask(step.command, step.arguments).await {
            return Err(fault).into();
        }
    }
    Outcome::Done
}
