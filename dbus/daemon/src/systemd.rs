//! The service manager, asked over D-Bus (org.freedesktop.systemd1(5)): the only way in which this daemon starts,
//! signals or ends anything. A user's own takes orders from the user's daemon; the system's is given them by the
//! [`Broker`], and tells what it knows to everyone.

use std::pin::Pin;

use dbus_api::{GuestSignal, Placement};
use domain::{DomainName, UnitInstance};
use futures_core::Stream;
use tokio::sync::Notify;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::broker::{Broker, words};
use crate::guest::Guest;
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
    /// Who gives the orders; none where the daemon may.
    broker: Option<Broker>,
}

/// The unit of a guest that is defined by a file: `qemu@web.service`.
pub(crate) fn unit_of(name: &DomainName) -> String {
    format!("qemu@{}.service", UnitInstance::from(name).as_str())
}

impl Systemd {
    /// The service manager on this bus, and who orders it about if this daemon may not.
    pub(crate) fn new(bus: Connection, broker: Option<Broker>) -> Self {
        Self { bus, broker }
    }

    /// Starts the unit of a guest that a file defines as `systemctl start` does, and waits for the end of its job;
    /// `cancel` cancels that.
    pub(crate) async fn start(&self, name: &DomainName, cancel: &Notify) -> Outcome {
        let unit = unit_of(name);
        match self.try_start(name, &unit, cancel).await {
            Ok(result) => self.outcome(&unit, &result).await,
            Err(error) => Outcome::Failed(words(&error)),
        }
    }

    /// The `result` of systemd's own job.
    async fn try_start(
        &self,
        name: &DomainName,
        unit: &str,
        cancel: &Notify,
    ) -> zbus::Result<String> {
        // Watched first, or a job that ends at once is missed.
        let mut removed = self.watch_jobs(unit).await?;
        let job: OwnedObjectPath = match &self.broker {
            Some(broker) => broker.start(name).await?,
            None => self.call("StartUnit", &(unit, "replace")).await?.body().deserialize()?,
        };
        let end = job_end(&mut removed, &job);
        tokio::pin!(end);
        tokio::select! {
            result = &mut end => return result,
            () = cancel.notified() => {}
        }
        match &self.broker {
            Some(broker) => broker.cancel(&job).await?,
            None => {
                self.bus.call_method(Some(BUS_NAME), &job, Some(JOB), "Cancel", &()).await?;
            }
        }
        end.await
    }

    async fn watch_jobs(&self, unit: &str) -> zbus::Result<MessageStream> {
        // Who does not begin a job is told of its end only after this. That it is the second time is an error.
        if self.broker.is_some()
            && let Err(error) = self.call("Subscribe", &()).await
        {
            tracing::debug!("systemd: {}", words(&error));
        }
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
        let reloaded = match &self.broker {
            Some(broker) => broker.reload().await,
            None => self.call("Reload", &()).await.map(drop),
        };
        reloaded.map_err(|error| words(&error))
    }

    /// Reloads the unit of a guest as `systemctl reload` does; the result is that of systemd's job.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn reload_guest(&self, guest: &Guest) -> Result<String, String> {
        let reload = async {
            // Watched first, or a job that ends at once is missed.
            let mut removed = self.watch_jobs(guest.unit()).await?;
            let job: OwnedObjectPath = match &self.broker {
                Some(broker) => broker.reload_guest(guest).await?,
                None => {
                    let body = (guest.unit(), "replace");
                    self.call("ReloadUnit", &body).await?.body().deserialize()?
                }
            };
            job_end(&mut removed, &job).await
        };
        reload.await.map_err(|error| words(&error))
    }

    /// Begins to stop the unit of a guest as `systemctl stop` does.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn stop(&self, guest: &Guest) -> Result<(), String> {
        let begun = match &self.broker {
            Some(broker) => broker.stop(guest).await,
            None => self.call("StopUnit", &(guest.unit(), "replace")).await.map(drop),
        };
        begun.map_err(|error| words(&error))
    }

    /// Signals the main process of a guest's unit, which is its shim: the daemon has no right to.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn signal(&self, guest: &Guest, signal: GuestSignal) -> Result<(), String> {
        let sent = match &self.broker {
            Some(broker) => broker.signal(guest, signal).await,
            None => {
                let body = (guest.unit(), "main", signal.number());
                self.call("KillUnit", &body).await.map(drop)
            }
        };
        sent.map_err(|error| words(&error))
    }

    /// Whether a guest lives in a unit of this service manager's that is its own.
    pub(crate) fn knows_unit_of(&self, guest: &Guest) -> bool {
        let leader = guest.leader();
        let unit = if self.broker.is_some() { &leader.system_unit } else { &leader.unit };
        unit.as_deref().is_some_and(|unit| !Placement::is_shared(unit))
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
        let unit: OwnedObjectPath = self.call("GetUnit", &unit).await?.body().deserialize()?;
        let interface = Some("org.freedesktop.DBus.Properties");
        let body = (SERVICE, property);
        let reply = self.bus.call_method(Some(BUS_NAME), &unit, interface, "Get", &body).await?;
        reply.body().deserialize()
    }

    async fn call<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.bus.call_method(Some(BUS_NAME), PATH, Some(MANAGER), method, body).await
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
