//! A job's own object, which is there while the job runs.

use zbus::interface;
use zbus::message::Header;

use crate::failure::Failure;
use crate::keeper::Key;
use crate::runner::RunningJob;
use crate::services::Shared;

/// A job's own object.
#[derive(Debug)]
pub(crate) struct JobObject {
    /// The job.
    pub(crate) running: RunningJob,
    /// What it works with.
    pub(crate) services: Shared,
}

#[interface(name = "org.glassbox.Glassbox1.Job", introspection_docs = false)]
impl JobObject {
    /// Cancels the job; `JobRemoved` tells when it is over, and how.
    async fn cancel(&self, #[zbus(header)] header: Header<'_>) -> Result<(), Failure> {
        let job = &self.running.job;
        // Who manages the guest; of one that is being started that is who may start guests.
        let guest = self.services.keeper.find(Key::Name(job.domain.clone())).await?;
        self.services.authority.admit(&header, guest.as_deref()).await?;
        if !job.kind.is_cancelable() {
            let text = format!("job {}: a {} cannot be canceled", job.id, job.kind);
            return Err(Failure::NotCancelable(text));
        }
        self.running.cancel.notify_one();
        Ok(())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> u32 {
        self.running.job.id.number()
    }

    /// The name of the guest.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn domain(&self) -> &str {
        self.running.job.domain.as_str()
    }

    /// What it does.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn kind(&self) -> &str {
        self.running.job.kind.word()
    }

    /// What is done, and of how much; the latter is 0 when nobody can tell.
    #[zbus(property)]
    async fn progress(&self) -> (u64, u64) {
        self.running.progress.now()
    }

    /// `running` for as long as there is an object.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn state(&self) -> &str {
        "running"
    }
}
