//! The daemon as its clients see it.

use std::collections::HashMap;
use std::pin::Pin;

use anyhow::{Context, Result};
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

pub(crate) const ROOT: &str = "/org/glassbox/Glassbox1";
const NAME: &str = "org.glassbox.Glassbox1";
const MANAGER: &str = "org.glassbox.Glassbox1.Manager";
const DOMAIN: &str = "org.glassbox.Glassbox1.Domain";

/// A row of `ListDomains`.
pub(crate) type Row = (String, String, u32, String, OwnedObjectPath);

/// An event, as the signal and `EventsSince` have it.
pub(crate) type Event = (u64, u64, String, String, String, HashMap<String, OwnedVariant>);

/// A client of the daemon.
#[derive(Clone)]
pub(crate) struct Client(Connection);

impl Client {
    pub(crate) async fn connect() -> Result<Self> {
        Ok(Self(Connection::system().await.context("the system bus")?))
    }

    pub(crate) async fn list(&self) -> zbus::Result<Vec<Row>> {
        self.call(ROOT, MANAGER, "ListDomains", &()).await?.body().deserialize()
    }

    /// The events since one, and whether others are lost between.
    pub(crate) async fn events_since(&self, sequence: u64) -> zbus::Result<(bool, Vec<Event>)> {
        self.call(ROOT, MANAGER, "EventsSince", &sequence).await?.body().deserialize()
    }

    pub(crate) async fn last_event(&self) -> zbus::Result<u64> {
        let properties = "org.freedesktop.DBus.Properties";
        let reply = self.call(ROOT, properties, "Get", &(MANAGER, "LastEvent")).await?;
        let body = reply.body();
        Ok(body.deserialize::<Variant<'_>>()?.try_into().unwrap_or_default())
    }

    pub(crate) async fn statistics(
        &self,
        path: &OwnedObjectPath,
    ) -> zbus::Result<HashMap<String, OwnedVariant>> {
        self.call(path.as_str(), DOMAIN, "GetStatistics", &()).await?.body().deserialize()
    }

    pub(crate) async fn state(&self, path: &OwnedObjectPath) -> zbus::Result<()> {
        let properties = "org.freedesktop.DBus.Properties";
        self.call(path.as_str(), properties, "Get", &(DOMAIN, "State")).await.map(drop)
    }

    /// Begins to resume a guest; what runs already goes on.
    pub(crate) async fn resume(&self, path: &OwnedObjectPath) -> zbus::Result<OwnedObjectPath> {
        self.call(path.as_str(), DOMAIN, "Resume", &()).await?.body().deserialize()
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.0.call_method(Some(NAME), path, Some(interface), method, body).await
    }

    /// The events from now on.
    pub(crate) async fn follow(&self) -> Result<Events> {
        let rule = MatchRule::builder().interface(MANAGER).member("Event").build()?;
        Ok(Events(MessageStream::for_match_rule(rule, &self.0, None).await?))
    }
}

/// The signal `Event`.
pub(crate) struct Events(MessageStream);

impl Events {
    pub(crate) async fn next(&mut self) -> Result<Event> {
        let next =
            std::future::poll_fn(|cx| futures_core::Stream::poll_next(Pin::new(&mut self.0), cx));
        let message = next.await.context("the bus is gone")??;
        Ok(message.body().deserialize()?)
    }
}
