//! What the bus sees of the guests: the manager, an object for each domain, and the signals.

use std::sync::Arc;

use dbus_api::ROOT_PATH;
use domain::{DomainName, DomainUuid};
use tokio::sync::{mpsc, oneshot};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

use crate::failure::Failure;
use crate::guest::Guest;
use crate::keeper::{KeeperHandle, Key};

/// A change that the bus learns of.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A guest is there; `done` is told when its object is.
    Added {
        /// The guest.
        guest: Arc<Guest>,
        /// Told when the object is on the bus.
        done: oneshot::Sender<()>,
    },
    /// A guest ended.
    Removed(Arc<Guest>),
}

/// Puts the changes on the bus, one after the other, for as long as the daemon runs.
///
/// It is a task of its own so that a slow bus holds up what others see, not who gets a claim.
pub(crate) async fn publish(mut changes: mpsc::UnboundedReceiver<Publication>, bus: Connection) {
    while let Some(change) = changes.recv().await {
        let result = match change {
            Publication::Added { guest, done } => {
                let result = add(&bus, &guest).await;
                // The registrant may have gone meanwhile.
                let _ = done.send(());
                result
            }
            Publication::Removed(guest) => remove(&bus, &guest).await,
        };
        if let Err(error) = result {
            tracing::warn!("D-Bus clients are not told of a guest that came or went: {error}");
        }
    }
}

async fn add(bus: &Connection, guest: &Arc<Guest>) -> zbus::Result<()> {
    let path = guest.path();
    bus.object_server().at(&path, Domain(guest.clone())).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_added(&emitter, guest.name().as_str(), path.as_ref()).await
}

async fn remove(bus: &Connection, guest: &Arc<Guest>) -> zbus::Result<()> {
    let path = guest.path();
    bus.object_server().remove::<Domain, _>(&path).await?;
    let emitter = SignalEmitter::new(bus, ROOT_PATH)?;
    Manager::domain_removed(&emitter, guest.name().as_str(), path.as_ref()).await
}

/// The manager: which guests there are.
#[derive(Debug)]
pub(crate) struct Manager(pub(crate) KeeperHandle);

#[interface(name = "org.glassbox.Glassbox1.Manager", introspection_docs = false)]
impl Manager {
    /// Name, UUID, leader's pid, unit or "", and path of each guest, by name.
    #[zbus(out_args("domains"))]
    async fn list_domains(
        &self,
    ) -> Result<Vec<(String, String, u32, String, OwnedObjectPath)>, Failure> {
        let guests = self.0.list().await?;
        Ok(guests.iter().map(|guest| row(guest)).collect())
    }

    /// The path of the guest with this name.
    #[zbus(out_args("domain_path"))]
    async fn get_domain(&self, name: &str) -> Result<OwnedObjectPath, Failure> {
        let key = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        let guest = self.0.find(Key::Name(key)).await?;
        let missing = || Failure::NoSuchDomain(format!("no running guest has the name '{name}'"));
        Ok(guest.ok_or_else(missing)?.path())
    }

    /// The path of the guest with this UUID.
    #[zbus(name = "GetDomainByUUID", out_args("domain_path"))]
    async fn get_domain_by_uuid(&self, uuid: &str) -> Result<OwnedObjectPath, Failure> {
        let key = DomainUuid::try_from(uuid).map_err(|fault| Failure::argument("uuid", &fault))?;
        let guest = self.0.find(Key::Uuid(key)).await?;
        let missing = || Failure::NoSuchDomain(format!("no running guest has the UUID {key}"));
        Ok(guest.ok_or_else(missing)?.path())
    }

    /// A guest claimed its name.
    #[zbus(signal)]
    async fn domain_added(
        emitter: &SignalEmitter<'_>,
        name: &str,
        path: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    /// A guest ended.
    #[zbus(signal)]
    async fn domain_removed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        path: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    /// The version of the daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

fn row(guest: &Guest) -> (String, String, u32, String, OwnedObjectPath) {
    let name = guest.name().to_string();
    (name, guest.uuid().to_string(), guest.leader().pid, guest.unit().to_owned(), guest.path())
}

/// A guest's own object. Nothing in it changes while the guest lives.
#[derive(Debug)]
struct Domain(Arc<Guest>);

#[interface(name = "org.glassbox.Glassbox1.Domain", introspection_docs = false)]
impl Domain {
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self) -> &str {
        self.0.name().as_str()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "UUID")]
    async fn uuid(&self) -> String {
        self.0.uuid().to_string()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "LeaderPID")]
    async fn leader_pid(&self) -> u32 {
        self.0.leader().pid
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn unit(&self) -> &str {
        self.0.unit()
    }

    /// Whether the guest's definition is kept when the guest has ended.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn persistent(&self) -> bool {
        !self.0.claim().transient
    }

    /// The name in machinectl; "" for a guest that is not registered with machined.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn machine_name(&self) -> &str {
        self.0.machine().map_or("", |machine| machine.name.as_str())
    }
}
