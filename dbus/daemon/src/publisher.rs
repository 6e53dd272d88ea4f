//! Puts on the bus what changes: objects that come and go, jobs, properties, events.
//!
//! Two tasks, one that does what the others say in their order, and one that tells of events from the ring. When the bus
//! is slow they wait for it and nobody waits for them; events that the ring has dropped meanwhile are missing in what is
//! told, which their numbers show.

use std::collections::HashMap;
use std::sync::Arc;

use dbus_api::{DOMAIN_INTERFACE, ROOT_PATH, domain_path};
use domain::DomainUuid;
use tokio::sync::{mpsc, oneshot};
use zbus::fdo::Properties;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedVariant, Variant};

use crate::event::Event;
use crate::guest::Guest;
use crate::happening::Detail;
use crate::herald::Herald;
use crate::jobs::{Job, Outcome};
use crate::monitor::{Face, Monitor};
use crate::objects::{Domain, JobObject, Manager};
use crate::runner::{self, RunningJob};
use crate::services::Shared;

/// A change that the bus learns of.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A guest is there; `done` is told when its object is.
    Added {
        /// The guest.
        guest: Arc<Guest>,
        /// Told when the object is on the bus.
        done: oneshot::Sender<()>,
    },
    /// A guest ended.
    Removed(Arc<Guest>),
    /// Properties of a guest may have changed.
    Changed {
        /// The guest's UUID.
        uuid: DomainUuid,
        /// What knows them.
        monitor: Arc<Monitor>,
    },
    /// A job began; `done` is told when its object is there.
    JobNew {
        /// The job.
        running: RunningJob,
        /// Told when the object is on the bus.
        done: oneshot::Sender<()>,
    },
    /// A job ended.
    JobRemoved {
        /// The job.
        job: Job,
        /// How.
        outcome: Outcome,
    },
}

/// Puts the changes on the bus, one after the other, for as long as the daemon runs.
///
/// It is a task of its own so that a slow bus holds up what others see, not who gets a claim.
pub(crate) async fn publish(
    mut changes: mpsc::UnboundedReceiver<Publication>,
    bus: Connection,
    services: Shared,
) {
    while let Some(change) = changes.recv().await {
        let result = match change {
            Publication::Added { guest, done } => {
                let result = add(&bus, &guest, &services).await;
                // The registrant may have gone meanwhile, as may the caller below.
                let _ = done.send(());
                result
            }
            Publication::Removed(guest) => remove(&bus, &guest).await,
            Publication::Changed { uuid, monitor } => {
                change_properties(&bus, &uuid, &monitor).await
            }
            Publication::JobNew { running, done } => {
                let result = add_job(&bus, running, &services).await;
                let _ = done.send(());
                result
            }
            Publication::JobRemoved { job, outcome } => remove_job(&bus, &job, &outcome).await,
        };
        if let Err(error) = result {
            tracing::warn!("D-Bus clients are not told of a change: {error}");
        }
    }
}

async fn add(bus: &Connection, guest: &Arc<Guest>, services: &Shared) -> zbus::Result<()> {
    let path = guest.path();
    let object = Domain { guest: guest.clone(), services: services.clone() };
    bus.object_server().at(&path, object).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_added(&emitter, guest.name().as_str(), path.as_ref()).await
}

async fn remove(bus: &Connection, guest: &Arc<Guest>) -> zbus::Result<()> {
    let path = guest.path();
    bus.object_server().remove::<Domain, _>(&path).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_removed(&emitter, guest.name().as_str(), path.as_ref()).await
}

async fn change_properties(
    bus: &Connection,
    uuid: &DomainUuid,
    monitor: &Monitor,
) -> zbus::Result<()> {
    let Some((former, now)) = monitor.take_change() else { return Ok(()) };
    let emitter = SignalEmitter::new(bus, domain_path(uuid))?;
    let interface = InterfaceName::from_static_str_unchecked(DOMAIN_INTERFACE);
    Properties::properties_changed(&emitter, interface, changed(former, now), (&[]).into()).await
}

/// The properties that differ.
fn changed(former: Option<Face>, now: Face) -> HashMap<&'static str, Variant<'static>> {
    let properties = |face: Face| -> [(&'static str, Variant<'static>); 5] {
        [
            ("State", face.state.word().into()),
            ("Reason", face.state.reason().into()),
            ("VCPUs", face.vcpus.into()),
            ("Memory", face.memory.into()),
            ("Responding", face.responding.into()),
        ]
    };
    let former: HashMap<_, _> = former.map(properties).into_iter().flatten().collect();
    let differs =
        |(name, value): &(&'static str, Variant<'static>)| former.get(name) != Some(value);
    properties(now).into_iter().filter(differs).collect()
}

async fn add_job(bus: &Connection, running: RunningJob, services: &Shared) -> zbus::Result<()> {
    let job = running.job.clone();
    let path = runner::path(&job);
    let object = JobObject { running, services: services.clone() };
    bus.object_server().at(&path, object).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    let (domain, kind) = (job.domain.as_str(), job.kind.word());
    Manager::job_new(&emitter, job.id.number(), path.as_ref(), domain, kind).await
}

async fn remove_job(bus: &Connection, job: &Job, outcome: &Outcome) -> zbus::Result<()> {
    let path = runner::path(job);
    bus.object_server().remove::<JobObject, _>(&path).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    let (id, domain) = (job.id.number(), job.domain.as_str());
    let (result, message) = (outcome.word(), outcome.message());
    Manager::job_removed(&emitter, id, path.as_ref(), domain, result, message).await
}

/// Tells the bus of events, for as long as the daemon runs.
pub(crate) async fn announce(herald: Herald, bus: Connection) {
    let mut told = herald.ring().last();
    loop {
        herald.news().await;
        // One at a time, for many may have come while the bus took one.
        while let Some(event) = next(&herald, told) {
            told = event.sequence;
            if let Err(error) = announce_one(&bus, &event).await {
                tracing::warn!("D-Bus clients are not told of event {told}: {error}");
            }
        }
    }
}

fn next(herald: &Herald, told: u64) -> Option<Event> {
    herald.ring().after(told)
}

async fn announce_one(bus: &Connection, event: &Event) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    let Event { sequence, time, domain, uuid, kind, event, details, said: _ } = event;
    let details = details.iter().map(|(name, detail)| (name.as_str(), Variant::from(detail)));
    let details = details.chain([(UUID, uuid.as_str().into())]).collect();
    Manager::event(&emitter, *sequence, *time, domain, kind, event, details).await
}

/// The detail that every event has.
const UUID: &str = "uuid";

/// An event as `EventsSince` has it: what the signal has, too.
pub(crate) type EventRow = (u64, u64, String, String, String, HashMap<String, OwnedVariant>);

/// An event as `EventsSince` has it.
pub(crate) fn row(event: Event) -> EventRow {
    let Event { sequence, time, domain, uuid, kind, event, details, said: _ } = event;
    let mut details: HashMap<_, _> =
        details.into_iter().map(|(name, detail)| (name, detail.into())).collect();
    details.insert(UUID.to_owned(), zbus::Str::from(uuid).into());
    (sequence, time, domain, kind, event, details)
}

impl<'d> From<&'d Detail> for Variant<'d> {
    fn from(detail: &'d Detail) -> Self {
        match detail {
            Detail::Text(text) => text.as_str().into(),
            Detail::Number(number) => (*number).into(),
            Detail::Flag(flag) => (*flag).into(),
        }
    }
}

impl From<Detail> for OwnedVariant {
    fn from(detail: Detail) -> Self {
        match detail {
            Detail::Text(text) => zbus::Str::from(text).into(),
            Detail::Number(number) => number.into(),
            Detail::Flag(flag) => flag.into(),
        }
    }
}
