//! Runs jobs: tasks of their own, so that no call waits for what it began.
//!
//! ```text
//!   method --begin--> table of jobs -- Busy --> the caller, at once
//!                        |
//!                        +--> object and JobNew --> reply with its path --> JobRemoved, when the work is over
//! ```
//!
//! A client sees these in this order: the end of a job is told after the reply that names it was sent.

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
}

impl Runner {
    /// A runner without jobs, which tells `publisher` of each that begins and ends.
    pub(crate) fn new(publisher: mpsc::UnboundedSender<Publication>) -> Self {
        Self { jobs: Arc::default(), publisher }
    }

    /// Begins a job that does `work`, which is given what tells that it is canceled.
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
        W: FnOnce(Arc<Notify>) -> F,
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
        W: FnOnce(Arc<Notify>) -> F,
    {
        let job = self.jobs().begin(domain, kind).map_err(Failure::Busy)?;
        tracing::info!("job {} for guest '{domain}': {kind}", job.id);
        let cancel = Arc::new(Notify::new());
        let work = work(cancel.clone());
        let (done, published) = oneshot::channel();
        let running = RunningJob { job: job.clone(), cancel };
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
