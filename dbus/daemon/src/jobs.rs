//! The table of jobs: what the daemon is doing for somebody, at most one thing for a guest at a time. Pure.
//!
//! ```text
//!            begin                       end(outcome)
//!   (none) ---------> running ------------------------------> (none; its outcome is told)
//!             |          |  cancel, where the kind allows it      ^
//!             |          +----------> canceling -----------------+
//!             +-- the guest has another: Busy, at once, naming it
//! ```
//!
//! Ending a guest does not wait for what else is done with it: `destroy` excludes only another `destroy`.

use std::collections::BTreeMap;
use std::fmt;

use domain::DomainName;

/// The number of a job; never used twice by one daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u32);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// Starts the guest's unit.
    Start,
    /// Defines a guest for as long as it runs, and starts its unit.
    Create,
    /// Presses the guest's power button.
    Shutdown,
    /// Has the guest shut down and starts it anew.
    Reboot,
    /// Presses the guest's reset button.
    Reset,
    /// Ends the guest, whether it agrees or not.
    Destroy,
    /// Stops its CPUs.
    Suspend,
    /// Lets its CPUs go on.
    Resume,
    /// Changes the number of its CPUs.
    SetVcpus,
    /// Changes how much memory it has.
    SetMemory,
    /// Presses keys.
    SendKey,
    /// Takes a picture of its screen.
    Screenshot,
    /// Adds a device.
    AttachDevice,
    /// Takes a device away.
    DetachDevice,
    /// Changes a device.
    UpdateDevice,
    /// Writes its definition.
    Define,
    /// Removes its definition.
    Undefine,
    /// Has it start at boot, or not.
    SetAutostart,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its number.
    pub(crate) id: JobId,
    /// What it does.
    pub(crate) kind: JobKind,
    /// The guest that it is about.
    pub(crate) domain: DomainName,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was to do.
    Done,
    /// Somebody canceled it.
    Canceled,
    /// It did not; the words say why.
    Failed(String),
}

/// The guest has a job already that excludes the new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("guest '{domain}' has the job {id} ({kind}) running; wait for its end, or cancel it", domain = .0.domain, id = .0.id, kind = .0.kind)]
pub(crate) struct Busy(pub(crate) Job);

/// The jobs that run now.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: BTreeMap<JobId, Job>,
    last: u32,
}

impl Jobs {
    /// Begins a job.
    ///
    /// # Errors
    /// [`Busy`] when the guest has one that excludes it.
    pub(crate) fn begin(&mut self, domain: &DomainName, kind: JobKind) -> Result<Job, Busy> {
        let excludes = |other: &&Job| other.domain == *domain && other.kind.excludes(kind);
        if let Some(other) = self.running.values().find(excludes) {
            return Err(Busy(other.clone()));
        }
        self.last += 1;
        let job = Job { id: JobId(self.last), kind, domain: domain.clone() };
        self.running.insert(job.id, job.clone());
        Ok(job)
    }

    /// Ends a job.
    pub(crate) fn end(&mut self, id: JobId) {
        self.running.remove(&id);
    }

    /// The jobs that run, the oldest first.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Job> {
        self.running.values()
    }
}

impl JobKind {
    /// Whether a job of this kind keeps one of the other from beginning.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Destroy, _) => true,
            (_, Self::Destroy) => false,
            (_, _) => true,
        }
    }

    /// Whether it can be canceled: what QEMU was told is not taken back.
    pub(crate) fn is_cancelable(self) -> bool {
        match self {
            Self::Start | Self::Create => true,
            Self::Shutdown
            | Self::Reboot
            | Self::Reset
            | Self::Destroy
            | Self::Suspend
            | Self::Resume
            | Self::SetVcpus
            | Self::SetMemory
            | Self::SendKey
            | Self::Screenshot
            | Self::AttachDevice
            | Self::DetachDevice
            | Self::UpdateDevice
            | Self::Define
            | Self::Undefine
            | Self::SetAutostart => false,
        }
    }

    /// Its word on the bus.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Create => "create",
            Self::Shutdown => "shutdown",
            Self::Reboot => "reboot",
            Self::Reset => "reset",
            Self::Destroy => "destroy",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::SetVcpus => "set-vcpus",
            Self::SetMemory => "set-memory",
            Self::SendKey => "send-key",
            Self::Screenshot => "screenshot",
            Self::AttachDevice => "attach-device",
            Self::DetachDevice => "detach-device",
            Self::UpdateDevice => "update-device",
            Self::Define => "define",
            Self::Undefine => "undefine",
            Self::SetAutostart => "set-autostart",
        }
    }
}

impl Outcome {
    /// Its word on the bus, those of systemd's jobs (org.freedesktop.systemd1(5), `JobRemoved`).
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it failed, or "".
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Done | Self::Canceled => "",
            Self::Failed(words) => words,
        }
    }
}

impl JobId {
    /// The number.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    /// What a second job of the same guest is told while the first one runs.
    #[test]
    fn jobs_of_one_guest_exclude_each_other_but_its_end() {
        for (first, second, allowed) in [
            (JobKind::Suspend, JobKind::Resume, false),
            (JobKind::Suspend, JobKind::Suspend, false),
            (JobKind::Start, JobKind::Start, false),
            (JobKind::Suspend, JobKind::Destroy, true),
            (JobKind::Start, JobKind::Destroy, true),
            (JobKind::Destroy, JobKind::Destroy, false),
            (JobKind::Destroy, JobKind::Start, false),
        ] {
            let mut jobs = Jobs::default();
            let web = jobs.begin(&name("web"), first).unwrap();
            jobs.begin(&name("db"), first).unwrap();
            let answer = jobs.begin(&name("web"), second);
            assert_eq!(answer.is_ok(), allowed, "{first} then {second}");
            if let Err(busy) = answer {
                assert_eq!(busy, Busy(web.clone()));
                jobs.end(web.id);
                let next = jobs.begin(&name("web"), second).unwrap();
                assert_eq!(next.id, JobId(3), "numbers are not used again");
            }
        }
    }

    #[test]
    fn who_is_refused_learns_of_the_job_in_the_way() {
        let mut jobs = Jobs::default();
        jobs.begin(&name("web"), JobKind::Suspend).unwrap();
        let busy = jobs.begin(&name("web"), JobKind::Resume).unwrap_err();
        let text = "guest 'web' has the job 1 (suspend) running; wait for its end, or cancel it";
        assert_eq!(busy.to_string(), text);
    }
}
