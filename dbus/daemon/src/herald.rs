//! Tells the bus what happens to guests: events into the ring, changed properties to the publisher.
//!
//! Nothing here waits, and nothing grows with what a guest does: the ring has its bound, and of each guest's
//! properties one change at most waits for the bus.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{DomainName, DomainUuid};
use tokio::sync::{Notify, mpsc};

use crate::clock;
use crate::digest::digest;
use crate::happening::Happening;
use crate::monitor::Monitor;
use crate::publisher::Publication;
use crate::ring::Ring;

/// Who is told.
#[derive(Debug, Clone)]
pub(crate) struct Herald {
    ring: Arc<Mutex<Ring>>,
    /// Rung when the ring has a new event.
    bell: Arc<Notify>,
    publisher: mpsc::UnboundedSender<Publication>,
}

/// The guest that something is told of.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    herald: Herald,
    name: DomainName,
    uuid: DomainUuid,
}

impl Herald {
    /// A herald whose events go to `ring`, and changes of properties to `publisher`.
    pub(crate) fn new(ring: Ring, publisher: mpsc::UnboundedSender<Publication>) -> Self {
        Self { ring: Arc::new(Mutex::new(ring)), bell: Arc::new(Notify::new()), publisher }
    }

    /// What tells of this guest.
    pub(crate) fn of(&self, name: &DomainName, uuid: &DomainUuid) -> Subject {
        Subject { herald: self.clone(), name: name.clone(), uuid: *uuid }
    }

    /// The last events.
    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there may be new events.
    pub(crate) async fn news(&self) {
        self.bell.notified().await;
    }
}

impl Subject {
    /// Something happened to the guest.
    pub(crate) fn happened(&self, what: Happening) {
        self.push(clock::realtime(), what, None);
    }

    /// QEMU said that something happened to the guest; `digest` is [`Self::digest`] of its words.
    pub(crate) fn qemu_said(&self, event: &qmp::Event, what: Happening, digest: u64) {
        self.push(event.time.unwrap_or_else(clock::realtime), what, Some(digest));
    }

    /// By what the next daemon knows that this was told already.
    pub(crate) fn digest(&self, event: &qmp::Event) -> u64 {
        let (time, data) = (event.time.unwrap_or_default(), event.data.to_string());
        let said = [event.name.as_bytes(), &time.to_le_bytes(), data.as_bytes()];
        digest([self.uuid.to_string().as_bytes()].into_iter().chain(said))
    }

    fn push(&self, time: u64, what: Happening, said: Option<u64>) {
        self.herald.ring().push(time, (&self.name, &self.uuid), what, said);
        self.herald.bell.notify_one();
    }

    /// Something happened to a guest that has too much happen to it: it is counted and not told.
    pub(crate) fn too_much_happened(&self) {
        self.herald.ring().skip();
    }

    /// Something may have changed that clients see of the guest.
    pub(crate) fn changed(&self, monitor: &Arc<Monitor>) {
        if !monitor.has_news() {
            return;
        }
        let publication = Publication::Changed { uuid: self.uuid, monitor: monitor.clone() };
        if self.herald.publisher.send(publication).is_err() {
            tracing::debug!("the bus is gone, nothing is published");
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest '{}'", self.name)
    }
}
