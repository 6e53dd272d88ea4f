//! The service manager, asked over D-Bus (org.freedesktop.systemd1(5)): the only way in which this daemon starts,
//! signals or ends anything.

use std::pin::Pin;

use domain::{DomainName, UnitInstance};
use futures_core::Stream;
use tokio::sync::Notify;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::jobs::Outcome;

const BUS_NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB: &str = "org.freedesktop.systemd1.Job";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// The service manager on the bus that the daemon serves: the system's, or the user's own.
#[derive(Debug, Clone)]
pub(crate) struct Systemd {
    bus: Connection,
}

/// The unit of a guest that is defined by a file: `qemu@web.service`.
pub(crate) fn unit_of(name: &DomainName) -> String {
    format!("qemu@{}.service", UnitInstance::from(name).as_str())
}

impl Systemd {
    /// The service manager on this bus.
    pub(crate) fn new(bus: Connection) -> Self {
        Self { bus }
    }

    /// Starts a unit as `systemctl start` does, and waits for the end of its job; `cancel` cancels that.
    pub(crate) async fn start(&self, unit: &str, cancel: &Notify) -> Outcome {
        match self.try_start(unit, cancel).await {
            Ok(result) => self.outcome(unit, &result).await,
            Err(error) => Outcome::Failed(words(&error)),
        }
    }

    /// The `result` of systemd's own job.
    async fn try_start(&self, unit: &str, cancel: &Notify) -> zbus::Result<String> {
        // Watched first, or a job that ends at once is missed.
        let mut removed = self.watch_jobs(unit).await?;
        let job: OwnedObjectPath =
            self.call(MANAGER, "StartUnit", &(unit, "replace")).await?.body().deserialize()?;
        let end = job_end(&mut removed, &job);
        tokio::pin!(end);
        tokio::select! {
            result = &mut end => return result,
            () = cancel.notified() => {}
        }
        self.bus.call_method(Some(BUS_NAME), &job, Some(JOB), "Cancel", &()).await?;
        end.await
    }

    async fn watch_jobs(&self, unit: &str) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(BUS_NAME)
            .interface(MANAGER)
            .member("JobRemoved")
            .arg(2, unit)
            .build()?;
        MessageStream::for_match_rule(rule, &self.bus, None).await
    }

    async fn outcome(&self, unit: &str, result: &str) -> Outcome {
        match result {
            "done" => Outcome::Done,
            "canceled" => Outcome::Canceled,
            _ => {
                // The first fault of a definition, or QEMU's end: what `systemctl status` shows.
                let said = self.text_property(unit, "StatusText").await.unwrap_or_default();
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                Outcome::Failed(format!("{unit} was not started ({result}){said}"))
            }
        }
    }

    /// Has it run its generators and read all units anew; returns when it has.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let reloaded = self.call(MANAGER, "Reload", &()).await;
        reloaded.map(drop).map_err(|error| words(&error))
    }

    /// Reloads a unit as `systemctl reload` does; the result is that of systemd's job.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn reload_unit(&self, unit: &str) -> Result<String, String> {
        let reload = async {
            // Watched first, or a job that ends at once is missed.
            let mut removed = self.watch_jobs(unit).await?;
            let job: OwnedObjectPath =
                self.call(MANAGER, "ReloadUnit", &(unit, "replace")).await?.body().deserialize()?;
            job_end(&mut removed, &job).await
        };
        reload.await.map_err(|error| words(&error))
    }

    /// Begins to stop a unit as `systemctl stop` does.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn stop(&self, unit: &str) -> Result<(), String> {
        let begun = self.call(MANAGER, "StopUnit", &(unit, "replace")).await;
        begun.map(drop).map_err(|error| words(&error))
    }

    /// Sends a signal to a unit's main process.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn signal(&self, unit: &str, signal: i32) -> Result<(), String> {
        let sent = self.call(MANAGER, "KillUnit", &(unit, "main", signal)).await;
        sent.map(drop).map_err(|error| words(&error))
    }

    /// A number among the properties of a service, such as `CPUUsageNSec`; none when systemd does not count it.
    pub(crate) async fn count(&self, unit: &str, property: &str) -> Option<u64> {
        let value = u64::try_from(self.property(unit, property).await.ok()?).ok()?;
        // What is not counted, org.freedesktop.systemd1(5).
        (value != u64::MAX).then_some(value)
    }

    async fn text_property(&self, unit: &str, property: &str) -> zbus::Result<String> {
        self.property(unit, property).await?.try_into()
    }

    async fn property(&self, unit: &str, property: &str) -> zbus::Result<OwnedVariant> {
        let unit: OwnedObjectPath =
            self.call(MANAGER, "GetUnit", &unit).await?.body().deserialize()?;
        let interface = Some("org.freedesktop.DBus.Properties");
        let body = (SERVICE, property);
        let reply = self.bus.call_method(Some(BUS_NAME), &unit, interface, "Get", &body).await?;
        reply.body().deserialize()
    }

    async fn call<B>(&self, interface: &str, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.bus.call_method(Some(BUS_NAME), PATH, Some(interface), method, body).await
    }
}

/// The `result` of systemd's job, once it is removed.
async fn job_end(removed: &mut MessageStream, job: &OwnedObjectPath) -> zbus::Result<String> {
    while let Some(message) = std::future::poll_fn(|cx| Pin::new(&mut *removed).poll_next(cx)).await
    {
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
            message?.body().deserialize()?;
        if path == *job {
            return Ok(result);
        }
    }
    Err(zbus::Error::Failure("the bus closed the connection".to_owned()))
}

/// The text of an error, without its name on the bus where it has a text.
fn words(error: &zbus::Error) -> String {
    if let zbus::Error::MethodError(_, Some(text), _) = error {
        return text.clone();
    }
    error.to_string()
}
