//! Runs jobs: tasks of their own, so that no call waits for what it began.
//!
//! ```text
//!   method --begin--> table of jobs -- Busy --> the caller, at once
//!                        |
//!                        +--> object and JobNew --> reply with its path --> JobRemoved, when the work is over
//! ```
//!
//! A client sees these in this order: the end of a job is told after the reply that names it was sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::DomainName;
use tokio::sync::{Notify, mpsc, oneshot};
use zbus::OwnedObjectPath;
use zbus::object_server::ResponseDispatchNotifier;

use crate::failure::Failure;
use crate::jobs::{Job, JobKind, Jobs, Outcome};
use crate::publisher::Publication;

/// The reply of a method that begins a job: the path of its object.
pub(crate) type Begun = ResponseDispatchNotifier<OwnedObjectPath>;

/// Runs jobs.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    jobs: Arc<Mutex<Jobs>>,
    publisher: mpsc::UnboundedSender<Publication>,
}

/// A job that runs, as its object has it.
#[derive(Debug, Clone)]
pub(crate) struct RunningJob {
    /// The job.
    pub(crate) job: Job,
    /// Notified when somebody cancels it.
    pub(crate) cancel: Arc<Notify>,
    /// How far it is.
    pub(crate) progress: Arc<Progress>,
}

/// What a job's work is given.
#[derive(Debug)]
pub(crate) struct Reins {
    /// Notified when somebody cancels the job.
    pub(crate) cancel: Arc<Notify>,
    /// Where it says how far it is.
    pub(crate) progress: Arc<Progress>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) struct Progress {
    done: AtomicU64,
    /// 0 while nobody can tell.
    total: AtomicU64,
    /// Whether clients are about to be told; however quick the work is, one message waits for the bus.
    queued: AtomicBool,
    path: OwnedObjectPath,
    publisher: mpsc::UnboundedSender<Publication>,
}

impl Progress {
    /// So much is done of so much.
    pub(crate) fn is(self: &Arc<Self>, done: u64, total: u64) {
        let before =
            (self.done.swap(done, Ordering::Relaxed), self.total.swap(total, Ordering::Relaxed));
        if before != (done, total) && !self.queued.swap(true, Ordering::Relaxed) {
            // Without a bus nobody is left to see it.
            drop(self.publisher.send(Publication::Progress(self.clone())));
        }
    }

    /// What is done, and of how much, which is 0 while nobody can tell.
    pub(crate) fn now(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// What clients are to be told now, and the path of the job's object.
    pub(crate) fn take_change(&self) -> (&OwnedObjectPath, (u64, u64)) {
        self.queued.store(false, Ordering::Relaxed);
        (&self.path, self.now())
    }
}

impl Runner {
    /// A runner without jobs, which tells `publisher` of each that begins and ends.
    pub(crate) fn new(publisher: mpsc::UnboundedSender<Publication>) -> Self {
        Self { jobs: Arc::default(), publisher }
    }

    /// Begins a job that does `work`, which is given what tells that it is canceled and takes how far it is.
    ///
    /// # Errors
    /// [`Failure::Busy`] when the guest has a job that excludes it.
    pub(crate) async fn begin<W, F>(
        &self,
        domain: &DomainName,
        kind: JobKind,
        work: W,
    ) -> Result<Begun, Failure>
    where
        W: FnOnce(Reins) -> F,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (job, work) = self.announce(domain, kind, work).await?;
        let (begun, replied) = ResponseDispatchNotifier::new(path(&job));
        self.spawn(job, work, replied);
        Ok(begun)
    }

    /// As [`Self::begin`], for a method whose reply has more than the path.
    ///
    /// Nothing tells when that is sent. It is before the end of the job all the same: the daemon has one thread, which
    /// sends the reply before it turns to the job.
    pub(crate) async fn begin_plainly<F>(
        &self,
        domain: &DomainName,
        kind: JobKind,
        work: F,
    ) -> Result<OwnedObjectPath, Failure>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (job, work) = self.announce(domain, kind, |_| work).await?;
        let path = path(&job);
        self.spawn(job, work, std::future::ready(()));
        Ok(path)
    }

    /// Puts a new job on the bus.
    async fn announce<W, F>(
        &self,
        domain: &DomainName,
        kind: JobKind,
        work: W,
    ) -> Result<(Job, F), Failure>
    where
        W: FnOnce(Reins) -> F,
    {
        let job = self.jobs().begin(domain, kind).map_err(Failure::Busy)?;
        tracing::info!("job {} for guest '{domain}': {kind}", job.id);
        let cancel = Arc::new(Notify::new());
        let progress = Arc::new(Progress {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            path: path(&job),
            publisher: self.publisher.clone(),
        });
        let work = work(Reins { cancel: cancel.clone(), progress: progress.clone() });
        let (done, published) = oneshot::channel();
        let running = RunningJob { job: job.clone(), cancel, progress };
        self.publish(Publication::JobNew { running, done });
        // Without a bus nobody is left to see the object.
        drop(published.await);
        Ok((job, work))
    }

    fn spawn(
        &self,
        job: Job,
        work: impl Future<Output = Outcome> + Send + 'static,
        replied: impl Future<Output = ()> + Send + 'static,
    ) {
        let runner = self.clone();
        tokio::spawn(async move {
            let (outcome, ()) = tokio::join!(work, replied);
            runner.end(job, outcome);
        });
    }

    /// The jobs that run, the oldest first.
    pub(crate) fn running(&self) -> Vec<Job> {
        self.jobs().running().cloned().collect()
    }

    fn end(&self, job: Job, outcome: Outcome) {
        let (id, word, message) = (job.id, outcome.word(), outcome.message());
        match outcome {
            Outcome::Done | Outcome::Canceled => tracing::info!("job {id}: {word}"),
            Outcome::Failed(_) => tracing::warn!("job {id}: {word}: {message}"),
        }
        self.jobs().end(job.id);
        self.publish(Publication::JobRemoved { job, outcome });
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, publication: Publication) {
        if self.publisher.send(publication).is_err() {
            tracing::debug!("the bus is gone, nothing is published");
        }
    }
}

/// The path of a job's object.
pub(crate) fn path(job: &Job) -> OwnedObjectPath {
    let path = dbus_api::job_path(job.id.number());
    path.try_into().expect("digits are an element of an object path")
}
