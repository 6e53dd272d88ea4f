//! Puts on the bus what changes: objects that come and go, jobs, properties, events.
//!
//! Two tasks, one that does what the others say in their order, and one that tells of events from the ring. When the bus
//! is slow they wait for it and nobody waits for them; events that the ring has dropped meanwhile are missing in what is
//! told, which their numbers show.

use std::collections::HashMap;
use std::sync::Arc;

use dbus_api::{DOMAIN_INTERFACE, JOB_INTERFACE, ROOT_PATH, domain_path};
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
use crate::inventory::{Change, Listing, Standing};
use crate::jobs::{Job, Outcome};
use crate::monitor::{Face, Monitor};
use crate::objects::{Domain, JobObject, Manager, properties};
use crate::runner::{self, Progress, RunningJob};
use crate::services::Shared;

/// A change that the bus learns of.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A guest runs, or its claim was renewed; `done` is told when its object is there.
    Runs {
        /// The guest.
        guest: Arc<Guest>,
        /// Told when the object is on the bus.
        done: oneshot::Sender<()>,
    },
    /// A guest ended.
    Ended(Arc<Guest>),
    /// The files define these guests and no others.
    Defined {
        /// The guests.
        listing: Listing,
        /// Told when their objects are on the bus.
        done: oneshot::Sender<()>,
    },
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
    /// A job is further than before.
    Progress(Arc<Progress>),
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
            Publication::Runs { guest, done } => {
                let changes = services.inventory.runs(guest);
                let result = carry_out(&bus, changes, &services).await;
                // The registrant may have gone meanwhile, as may the callers below.
                let _ = done.send(());
                result
            }
            Publication::Ended(guest) => {
                carry_out(&bus, services.inventory.ended(&guest), &services).await
            }
            Publication::Defined { listing, done } => {
                let changes = services.inventory.redefined(listing);
                let result = carry_out(&bus, changes, &services).await;
                let _ = done.send(());
                result
            }
            Publication::Changed { uuid, monitor } => {
                let standing = services.inventory.numbered(&uuid);
                match standing.filter(|standing| standing.is_known_by(&monitor)) {
                    Some(_) => change_properties(&bus, &uuid, &monitor).await,
                    // It ended meanwhile.
                    None => Ok(()),
                }
            }
            Publication::JobNew { running, done } => {
                let result = add_job(&bus, running, &services).await;
                let _ = done.send(());
                result
            }
            Publication::Progress(progress) => tell_progress(&bus, &progress).await,
            Publication::JobRemoved { job, outcome } => remove_job(&bus, &job, &outcome).await,
        };
        if let Err(error) = result {
            tracing::warn!("D-Bus clients are not told of a change: {error}");
        }
    }
}

async fn carry_out(bus: &Connection, changes: Vec<Change>, services: &Shared) -> zbus::Result<()> {
    let mut result = Ok(());
    for change in changes {
        let carried_out = match change {
            Change::Added(standing) => add(bus, standing, services).await,
            Change::Removed(standing) => remove(bus, &standing).await,
            Change::Altered(standing) => alter(bus, standing, services).await,
        };
        // What fails for one object may work for the next.
        result = result.and(carried_out);
    }
    result
}

async fn add(bus: &Connection, standing: Arc<Standing>, services: &Shared) -> zbus::Result<()> {
    let path = standing.path();
    let name = standing.name().clone();
    let object = Domain { standing, services: services.clone() };
    bus.object_server().at(&path, object).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_added(&emitter, name.as_str(), path.as_ref()).await
}

async fn remove(bus: &Connection, standing: &Standing) -> zbus::Result<()> {
    let path = standing.path();
    bus.object_server().remove::<Domain, _>(&path).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_removed(&emitter, standing.name().as_str(), path.as_ref()).await
}

/// Tells that a guest runs now, or does not any more, or that its definition came or went.
async fn alter(bus: &Connection, standing: Arc<Standing>, services: &Shared) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(bus, standing.path())?;
    let object = Domain { standing, services: services.clone() };
    tell(&emitter, DOMAIN_INTERFACE, object.of_its_life().await).await
}

async fn tell(
    emitter: &SignalEmitter<'_>,
    interface: &'static str,
    properties: HashMap<&str, Variant<'_>>,
) -> zbus::Result<()> {
    let interface = InterfaceName::from_static_str_unchecked(interface);
    Properties::properties_changed(emitter, interface, properties, (&[]).into()).await
}

async fn change_properties(
    bus: &Connection,
    uuid: &DomainUuid,
    monitor: &Monitor,
) -> zbus::Result<()> {
    let Some((former, now)) = monitor.take_change() else { return Ok(()) };
    let emitter = SignalEmitter::new(bus, domain_path(uuid))?;
    tell(&emitter, DOMAIN_INTERFACE, changed(former, now)).await
}

/// The properties that differ.
fn changed(former: Option<Face>, now: Face) -> HashMap<&'static str, Variant<'static>> {
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

async fn tell_progress(bus: &Connection, progress: &Progress) -> zbus::Result<()> {
    let (path, now) = progress.take_change();
    let emitter = SignalEmitter::new(bus, path)?;
    tell(&emitter, JOB_INTERFACE, HashMap::from([("Progress", now.into())])).await
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
