//! A guest's monitor: what is known of the guest, and the task that talks to its QEMU.
//!
//! Whoever asks about a guest is answered from what is known, with its age; nobody waits for a QEMU that may hang.
//! QEMU is asked when somebody wants to know, and when it says that something changed; there is no timer while
//! nothing is asked.
//!
//! ```text
//!   properties, statistics <-- Known <--+
//!                                       |  answers, events
//!   ask, refresh --orders (bounded)--> task <--Link--> QEMU
//!                                       |
//!                                       +--> Herald: changed properties, events; Feed: QEMU's own words
//! ```

mod feed;
mod known;
mod link;
mod task;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qmp::CommandError;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use feed::Following;
pub(crate) use known::{Face, Figure, Known};
pub(crate) use link::Link;

use crate::herald::Subject;
use crate::ring::Told;
use feed::Feed;
use task::Order;

/// How many commands may wait to be sent. More means that QEMU takes none.
const QUEUE: usize = 32;

/// How long a caller waits for the answer to a command.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// What is younger is told without asking QEMU.
const FRESH: Duration = Duration::from_secs(1);

/// How long who asks for statistics waits for new ones. A QEMU that is well answers in a millisecond or two.
const REFRESH: Duration = Duration::from_millis(100);

/// One guest's monitor. The same one serves a guest whose claim is renewed.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    known: Mutex<Known>,
    /// None for a guest whose shim handed in no monitor.
    task: Mutex<Option<Task>>,
    /// What clients were last told of.
    told: Mutex<Option<Face>>,
    /// Whether they are about to be told.
    queued: AtomicBool,
    feed: Feed,
}

#[derive(Debug)]
struct Task {
    orders: mpsc::Sender<Order>,
    handle: JoinHandle<()>,
    /// For the file descriptor store.
    socket: Arc<UnixStream>,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskFault {
    /// The guest has no monitor of the daemon's.
    #[error("its glassbox-qemu handed in no monitor, as one does that is older than this daemon")]
    NoMonitor,
    /// QEMU does not answer.
    #[error("its QEMU does not answer")]
    Silent,
    /// QEMU has ended.
    #[error("its QEMU has ended")]
    Ended,
    /// QEMU refuses.
    #[error("QEMU: {}", .0.desc)]
    Refused(CommandError),
}

impl Monitor {
    /// Talks to QEMU over this link from now on, unless there is a task that does. The link begins with what the former
    /// daemon may have told before it was killed.
    pub(crate) fn attach(self: &Arc<Self>, link: Link, subject: Subject, told: Arc<Told>) {
        let mut task = lock(&self.task);
        if task.as_ref().is_some_and(|task| !task.handle.is_finished()) {
            return;
        }
        let (orders, inbox) = mpsc::channel(QUEUE);
        let socket = link.socket();
        let handle = tokio::spawn(task::attend(link, inbox, self.clone(), subject, told));
        *task = Some(Task { orders, handle, socket });
    }

    /// The socket, for the file descriptor store.
    pub(crate) fn socket(&self) -> Option<Arc<UnixStream>> {
        lock(&self.task).as_ref().map(|task| task.socket.clone())
    }

    /// Ends the task; its guest has ended.
    pub(crate) fn detach(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.handle.abort();
        }
    }

    /// Follows what QEMU tells from now on.
    pub(crate) fn follow(&self) -> Following {
        self.feed.follow()
    }

    /// What properties show.
    pub(crate) fn face(&self) -> Face {
        lock(&self.known).face()
    }

    /// How old what is known is; none when nothing is.
    pub(crate) fn age(&self) -> Option<Duration> {
        Some(Instant::now().saturating_duration_since(lock(&self.known).since()?))
    }

    /// The figures that are known.
    pub(crate) fn statistics(&self) -> BTreeMap<String, Figure> {
        lock(&self.known).statistics()
    }

    /// Whether clients are to be told of a change, and nobody is about to do so. However often QEMU changes its mind
    /// meanwhile, one message waits for the bus.
    pub(crate) fn has_news(&self) -> bool {
        *lock(&self.told) != Some(self.face()) && !self.queued.swap(true, Ordering::Relaxed)
    }

    /// What changed since this was last called, as the face before, if there was one, and now.
    pub(crate) fn take_change(&self) -> Option<(Option<Face>, Face)> {
        self.queued.store(false, Ordering::Relaxed);
        let face = self.face();
        let former = lock(&self.told).replace(face);
        (former != Some(face)).then_some((former, face))
    }

    /// Has QEMU asked for what is known, unless that is fresh, and waits a moment for it.
    ///
    /// A QEMU that is known not to answer is asked all the same, and not waited for: so it is seen to answer again.
    pub(crate) async fn refresh(&self) {
        if self.age().is_some_and(|age| age < FRESH) {
            return;
        }
        match self.face().responding {
            // When it is late, old figures with their age are the answer.
            true => self.refresh_now().await,
            false => self.refresh_later(),
        }
    }

    /// Has QEMU asked for what is known, which a command has just changed, and waits a moment for it.
    pub(crate) async fn refresh_now(&self) {
        let (done, refreshed) = oneshot::channel();
        if self.order(Order::Refresh(done)).is_ok() {
            drop(tokio::time::timeout(REFRESH, refreshed).await);
        }
    }

    /// Has QEMU asked for what is known, unless that is fresh, and waits for nothing.
    pub(crate) fn refresh_later(&self) {
        if self.age().is_none_or(|age| age >= FRESH) {
            let (done, _) = oneshot::channel();
            // Who cannot be asked is seen by the age of what is known.
            drop(self.order(Order::Refresh(done)));
        }
    }

    /// Has QEMU carry out a command, whose answer is `return`'s value.
    ///
    /// # Errors
    /// [`AskFault`]; at once when QEMU owes another answer for too long, after [`LONGEST_ANSWER`] otherwise.
    pub(crate) async fn ask(&self, command: &str, arguments: Value) -> Result<Value, AskFault> {
        self.ask_with(command, arguments, None).await
    }

    /// As [`Self::ask`], with a file descriptor for the command (`add-fd`, `getfd`).
    pub(crate) async fn ask_with(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
    ) -> Result<Value, AskFault> {
        if !self.face().responding {
            self.refresh_later();
            return Err(AskFault::Silent);
        }
        let (reply, answer) = oneshot::channel();
        self.order(Order::Ask { command: command.to_owned(), arguments, fd, reply })?;
        match tokio::time::timeout(LONGEST_ANSWER, answer).await {
            Ok(Ok(result)) => result.map_err(AskFault::Refused),
            Ok(Err(_)) => Err(AskFault::Ended),
            Err(_) => Err(AskFault::Silent),
        }
    }

    fn order(&self, order: Order) -> Result<(), AskFault> {
        let task = lock(&self.task);
        let task = task.as_ref().ok_or(AskFault::NoMonitor)?;
        task.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskFault::Silent,
            mpsc::error::TrySendError::Closed(_) => AskFault::Ended,
        })
    }
}

/// The daemon has one thread, and whoever panicked in it left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
