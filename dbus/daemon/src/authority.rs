//! Who may manage which guest.
//!
//! Root may, and the user whose daemon it is; everyone may manage a guest that runs as them. Anyone else is asked about
//! at polkit (org.freedesktop.PolicyKit1.Authority), where that is installed. Reading is free.

use std::collections::HashMap;

use nix::unistd::Uid;
use zbus::Connection;
use zbus::message::{Flags, Header};

use crate::caller::{Caller, ask_bus};
use crate::failure::Failure;
use crate::guest::Guest;

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const POLKIT_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const POLKIT_INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

/// What polkit knows the right by; see `org.glassbox.policy`.
const ACTION: &str = "org.glassbox.manage";

/// polkit's `AllowUserInteraction`: it may ask for a password.
const INTERACTIVE: u32 = 1;

/// Decides who may manage guests.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    bus: Connection,
    /// The account that the daemon runs as.
    own: Uid,
}

impl Authority {
    /// The authority for callers on this bus.
    pub(crate) fn new(bus: Connection, own: Uid) -> Self {
        Self { bus, own }
    }

    /// Refuses a caller that may not manage this guest, or, without one, guests that are not there yet.
    pub(crate) async fn admit(
        &self,
        header: &Header<'_>,
        guest: Option<&Guest>,
    ) -> Result<(), Failure> {
        let caller = ask_bus(&self.bus, header).await?;
        let uid = Uid::from_raw(caller.uid);
        let its_own = guest.and_then(|guest| guest.leader().uid()) == Some(caller.uid);
        if uid.is_root() || uid == self.own || its_own || self.polkit_allows(header, caller).await?
        {
            return Ok(());
        }
        let whose = match guest {
            Some(guest) => format!("guest '{}'", guest.name()),
            None => "guests".to_owned(),
        };
        Err(Failure::Refused(format!(
            "uid {uid} may not manage {whose}; root may, and whom polkit grants {ACTION}"
        )))
    }

    /// Asks polkit; where there is none, nobody is granted anything.
    async fn polkit_allows(&self, header: &Header<'_>, caller: Caller) -> Result<bool, Failure> {
        let Some(sender) = header.sender() else { return Ok(false) };
        let name = zbus::Variant::from(sender.as_str());
        let subject = ("system-bus-name", HashMap::from([("name", name)]));
        let flags = match header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH) {
            true => INTERACTIVE,
            false => 0,
        };
        let details: HashMap<&str, &str> = HashMap::new();
        let body = (subject, ACTION, details, flags, "");
        let reply = self
            .bus
            .call_method(
                Some(POLKIT),
                POLKIT_PATH,
                Some(POLKIT_INTERFACE),
                "CheckAuthorization",
                &body,
            )
            .await;
        let answer = reply.and_then(|reply| {
            let (allowed, _, _): (bool, bool, HashMap<String, String>) =
                reply.body().deserialize()?;
            Ok(allowed)
        });
        Ok(answer.unwrap_or_else(|error| {
            tracing::debug!("polkit does not decide about uid {}: {error}", caller.uid);
            false
        }))
    }
}
