//! `glassbox-broker`, which does for the daemon of the system what takes privilege (see its `main.rs`).
//!
//! What is about a guest that runs takes the guest's lifeline: the broker believes the kernel about whose it is, and not
//! this daemon.

use std::os::fd::AsFd;
use std::sync::Arc;

use dbus_api::{BROKER_INTERFACE, BROKER_NAME, BROKER_PATH, GuestSignal};
use domain::DomainName;
use zbus::{Connection, Fd, Message, OwnedObjectPath};

use crate::guest::Guest;
use crate::lifeline::Lifeline;

/// Calls the broker.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    bus: Connection,
}

impl Broker {
    /// The broker on this bus; the first call starts it.
    pub(crate) fn new(bus: Connection) -> Self {
        Self { bus }
    }

    /// Registers a guest with machined; false when there is a machine of its name.
    pub(crate) async fn register(&self, guest: &Guest, control: bool) -> zbus::Result<bool> {
        let lifeline = lifeline(guest)?;
        let claim = guest.claim();
        let network = &claim.network;
        let body = (
            Fd::from(lifeline.as_fd()),
            claim.name.as_str(),
            claim.uuid.to_string(),
            network.interfaces.as_slice(),
            network.vsock_cid.unwrap_or_default(),
            control,
        );
        self.call("RegisterMachine", &body).await?.body().deserialize()
    }

    /// Takes a guest out of machined.
    pub(crate) async fn unregister(&self, name: &DomainName) -> zbus::Result<()> {
        self.call("UnregisterMachine", &name.as_str()).await.map(drop)
    }

    /// Starts the unit of a guest that a file defines; gives systemd's job.
    pub(crate) async fn start(&self, name: &DomainName) -> zbus::Result<OwnedObjectPath> {
        self.call("StartGuest", &name.as_str()).await?.body().deserialize()
    }

    /// Cancels such a job.
    pub(crate) async fn cancel(&self, job: &OwnedObjectPath) -> zbus::Result<()> {
        self.call("CancelJob", job).await.map(drop)
    }

    /// Begins to stop the unit that a guest lives in.
    pub(crate) async fn stop(&self, guest: &Guest) -> zbus::Result<()> {
        self.call("StopGuest", &Fd::from(lifeline(guest)?.as_fd())).await.map(drop)
    }

    /// Reloads the unit of a guest, which makes the guest what it is to be; gives systemd's job.
    pub(crate) async fn reload_guest(&self, guest: &Guest) -> zbus::Result<OwnedObjectPath> {
        let lifeline = lifeline(guest)?;
        self.call("ReloadGuest", &Fd::from(lifeline.as_fd())).await?.body().deserialize()
    }

    /// Signals the main process of the unit that a guest lives in.
    pub(crate) async fn signal(&self, guest: &Guest, signal: GuestSignal) -> zbus::Result<()> {
        let lifeline = lifeline(guest)?;
        let body = (Fd::from(lifeline.as_fd()), signal.word());
        self.call("SignalGuest", &body).await.map(drop)
    }

    /// Has systemd read its units anew.
    pub(crate) async fn reload(&self) -> zbus::Result<()> {
        self.call("Reload", &()).await.map(drop)
    }

    async fn call<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let interface = Some(BROKER_INTERFACE);
        self.bus.call_method(Some(BROKER_NAME), BROKER_PATH, interface, method, body).await
    }
}

/// What proves to the broker which process is meant.
fn lifeline(guest: &Guest) -> zbus::Result<Arc<Lifeline>> {
    let ended = || zbus::Error::Failure(format!("guest '{}' has ended", guest.name()));
    guest.lifeline().get().ok_or_else(ended)
}

/// The text of an error, without its name on the bus where it has a text.
pub(crate) fn words(error: &zbus::Error) -> String {
    if let zbus::Error::MethodError(_, Some(text), _) = error {
        return text.clone();
    }
    error.to_string()
}
