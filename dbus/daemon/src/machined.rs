//! Guests in systemd-machined, so that `machinectl list` shows them (org.freedesktop.machine1(5)).
//!
//! The registration is a courtesy to the administrator: a guest runs and its claim holds whatever machined says,
//! and what goes wrong is logged. Machined is called when a guest comes or goes; merely watching for it does not
//! start it. Whoever likes may ask it; what changes something there is done by the [`Broker`].
//!
//! ```text
//!            register                         lifeline ended
//!   absent -----------> shown by machinectl -----------------> absent
//!      ^                        |
//!      +--- machined is new ----+   (a new owner of its bus name: all guests register again)
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dbus_api::{BROKER_ERROR_NO_MACHINED, MACHINE_SERVICE, Placement};
use domain::{MachineName, NameError};
use futures_core::Stream;
use tokio::sync::watch;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::broker::{self, Broker};
use crate::claims::Claim;
use crate::control::{Control, Controls};
use crate::guest::Guest;

const BUS_NAME: &str = "org.freedesktop.machine1";
const PATH: &str = "/org/freedesktop/machine1";
const MANAGER: &str = "org.freedesktop.machine1.Manager";
const MACHINE: &str = "org.freedesktop.machine1.Machine";
const NO_SUCH_MACHINE: &str = "org.freedesktop.machine1.NoSuchMachine";

/// How often a name is tried that machined still has for an ended guest of ours.
const ATTEMPTS: u32 = 5;

/// How long to wait between attempts: machined forgets a machine in a later turn of its event loop.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// A guest as machined knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name, in machined's alphabet.
    pub(crate) name: MachineName,
    leader: u32,
}

/// Why a guest is not registered at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAMachine {
    /// The leader lives in no service or scope, so there is nothing that machined could stop.
    #[error("its leader lives in no unit; start it by a service or with systemd-run")]
    NoUnit,
    /// The leader shares a unit with a user's session.
    #[error(
        "its leader lives in {0}, and machinectl terminate would stop all of that; \
         start it by a service or with systemd-run"
    )]
    SharedUnit(String),
    /// Machined has no such long names.
    #[error("machined cannot have its name")]
    Name(#[source] NameError),
}

impl Machine {
    /// The machine for a claim.
    ///
    /// # Errors
    /// [`NotAMachine`] when the guest must not or cannot be one.
    pub(crate) fn of(claim: &Claim) -> Result<Self, NotAMachine> {
        let unit = claim.leader.system_unit.as_deref().ok_or(NotAMachine::NoUnit)?;
        if Placement::is_shared(unit) {
            return Err(NotAMachine::SharedUnit(unit.to_owned()));
        }
        let name = MachineName::try_from(&claim.name).map_err(NotAMachine::Name)?;
        Ok(Self { name, leader: claim.leader.pid })
    }
}

/// Machined refuses a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody on this host has machined.
    #[error("systemd-machined is not installed (Debian has it in systemd-container)")]
    Absent,
    /// A machine of another program has the name.
    #[error("the machine name is taken by {service}, leader {leader}; rename one of the two")]
    Taken {
        /// What made the other machine.
        service: String,
        /// The other machine's leader.
        leader: u32,
    },
    /// A machine of an ended guest does not go.
    #[error("machined does not forget the former machine of that name; see machinectl status")]
    Stale,
    /// The call on D-Bus failed.
    #[error("systemd-machined: {0}")]
    Call(zbus::Error),
    /// The broker refuses, or machined refuses it.
    #[error("systemd-machined: {0}")]
    Broker(String),
}

impl From<zbus::Error> for Refusal {
    fn from(error: zbus::Error) -> Self {
        use zbus::fdo;
        if let zbus::Error::FDO(named) = &error
            && let fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) = **named
        {
            return Self::Absent;
        }
        Self::Call(error)
    }
}

/// The machined of the system.
#[derive(Debug, Clone)]
pub(crate) struct Machined {
    bus: Connection,
    broker: Broker,
    /// Serves the machines' control sockets; none where there is no place for them.
    controls: Option<Controls>,
    /// Counts the times that machined appeared on the bus.
    arrivals: watch::Receiver<u64>,
}

/// A machine that machined has.
#[derive(Debug)]
struct Known {
    service: String,
    leader: u32,
}

impl Machined {
    /// Watches for machined on the system bus, without starting it.
    pub(crate) async fn watch(
        bus: Connection,
        broker: Broker,
        controls: Option<Controls>,
    ) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, BUS_NAME)
            .build()?;
        let changes = MessageStream::for_match_rule(rule, &bus, None).await?;
        let (counter, arrivals) = watch::channel(0);
        tokio::spawn(count_arrivals(changes, counter));
        Ok(Self { bus, broker, controls, arrivals })
    }

    /// Returns when a machined appears that does not know our guests.
    pub(crate) async fn arrived(&mut self) {
        if self.arrivals.changed().await.is_err() {
            // The bus is gone, and the daemon ends for that.
            std::future::pending::<()>().await;
        }
    }

    /// Serves the control socket of a guest, if it can have one.
    pub(crate) fn control(&self, guest: &Arc<Guest>, machine: &Machine) -> Option<Control> {
        let opened = self.controls.as_ref()?.open(guest.clone(), machine);
        opened
            .inspect_err(|error| {
                let name = guest.name();
                tracing::warn!("guest '{name}' has no control socket for machinectl: {error}");
            })
            .ok()
    }

    /// Registers a guest, or finds that it is registered already.
    pub(crate) async fn register(
        &mut self,
        guest: &Guest,
        machine: &Machine,
        control: Option<&Control>,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            if self
                .broker
                .register(guest, control.is_some())
                .await
                .map_err(|error| refusal(&error))?
            {
                // Our own call may have started machined; that arrival is not news.
                self.arrivals.mark_unchanged();
                return Ok(());
            }
            match self.look_up(machine).await? {
                Some(known) if known.is(machine) => return Ok(()),
                // The claim is ours now, so this is the machine of a guest that ended.
                Some(known) if known.service == MACHINE_SERVICE => self.forget(guest).await?,
                Some(Known { service, leader }) => return Err(Refusal::Taken { service, leader }),
                None => {}
            }
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
        }
        Err(Refusal::Stale)
    }

    /// Unregisters a guest, unless its name belongs to another machine by now.
    pub(crate) async fn unregister(&self, guest: &Guest, machine: &Machine) -> Result<(), Refusal> {
        match self.look_up(machine).await? {
            Some(known) if known.is(machine) => self.forget(guest).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn forget(&self, guest: &Guest) -> Result<(), Refusal> {
        self.broker.unregister(guest.name()).await.map_err(|error| refusal(&error))
    }

    async fn look_up(&self, machine: &Machine) -> zbus::Result<Option<Known>> {
        match self.call_look_up(machine).await {
            Ok(known) => Ok(Some(known)),
            Err(error) if is_named(&error, NO_SUCH_MACHINE) => Ok(None),
            // The machine went away between the two calls.
            Err(zbus::Error::FDO(error))
                if matches!(*error, zbus::fdo::Error::UnknownObject(_)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn call_look_up(&self, machine: &Machine) -> zbus::Result<Known> {
        let reply = self.call("GetMachine", &machine.name.as_str()).await?;
        let path: OwnedObjectPath = reply.body().deserialize()?;
        let service = self.property(&path, "Service").await?.try_into()?;
        let leader = self.property(&path, "Leader").await?.try_into()?;
        Ok(Known { service, leader })
    }

    async fn property(&self, path: &OwnedObjectPath, name: &str) -> zbus::Result<OwnedVariant> {
        let properties = Some("org.freedesktop.DBus.Properties");
        let body = (MACHINE, name);
        let reply = self.bus.call_method(Some(BUS_NAME), path, properties, "Get", &body).await?;
        reply.body().deserialize()
    }

    async fn call<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.bus.call_method(Some(BUS_NAME), PATH, Some(MANAGER), method, body).await
    }
}

impl Known {
    fn is(&self, machine: &Machine) -> bool {
        self.service == MACHINE_SERVICE && self.leader == machine.leader
    }
}

/// What the broker tells, with its own error for a host that has no machined.
fn refusal(error: &zbus::Error) -> Refusal {
    if is_named(error, BROKER_ERROR_NO_MACHINED) {
        return Refusal::Absent;
    }
    Refusal::Broker(broker::words(error))
}

fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(named, _, _) if named.as_str() == name)
}

async fn count_arrivals(mut changes: MessageStream, counter: watch::Sender<u64>) {
    while let Some(change) = std::future::poll_fn(|cx| Pin::new(&mut changes).poll_next(cx)).await {
        let owner = change.and_then(|message| {
            let (_, _, new): (String, String, String) = message.body().deserialize()?;
            Ok(new)
        });
        match owner {
            Ok(owner) if owner.is_empty() => tracing::debug!("systemd-machined left the bus"),
            Ok(_) => counter.send_modify(|count| *count += 1),
            Err(error) => tracing::debug!("the watch for systemd-machined fails: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::Leader;

    fn claim(name: &str, unit: Option<&str>) -> Claim {
        Claim {
            name: name.parse().unwrap(),
            uuid: "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap(),
            leader: Leader {
                pid: 42,
                born: 1,
                unit: Some("inner.service".to_owned()),
                system_unit: unit.map(str::to_owned),
            },
            user: None,
            transient: false,
            opens: false,
            network: crate::claims::Network::default(),
        }
    }

    #[test]
    fn a_guest_with_a_unit_of_its_own_is_a_machine() {
        for (name, machine) in [("web", "web"), ("my vm.1", "gb--my-20vm-2e1")] {
            for unit in ["qemu@web.service", "run-r1.scope", "users.service", "session.scope"] {
                let found = Machine::of(&claim(name, Some(unit))).unwrap();
                assert_eq!((found.name.as_str(), found.leader), (machine, 42));
            }
        }
    }

    #[test]
    fn what_terminate_would_stop_with_it_is_no_machine() {
        for unit in ["init.scope", "session-3.scope", "session-c12.scope", "user@1000.service"] {
            let shared = NotAMachine::SharedUnit(unit.to_owned());
            assert_eq!(Machine::of(&claim("web", Some(unit))), Err(shared));
        }
        assert_eq!(Machine::of(&claim("web", None)), Err(NotAMachine::NoUnit));
        let long = "x".repeat(65);
        let answer = Machine::of(&claim(&long, Some("qemu@x.service")));
        assert!(matches!(answer, Err(NotAMachine::Name(NameError::TooLong { .. }))), "{answer:?}");
    }
}
