//! The registry: the D-Bus interface by which a shim claims name and UUID of its guest.

use std::collections::HashMap;
use std::time::Duration;

use domain::{DomainName, DomainUuid};
use zbus::fdo::ConnectionCredentials;
use zbus::message::Header;
use zbus::{Connection, OwnedFd, OwnedObjectPath, OwnedVariant, interface};

use crate::caller::{Admission, Caller};
use crate::claims::Claim;
use crate::failure::Failure;
use crate::keeper::{KeeperHandle, Request};
use crate::leader::Leader;
use crate::lifeline::Lifeline;

/// How long the reply waits for machined.
///
/// The reply waits at all so that `machinectl list` shows a guest right after `systemctl start`. Machined answers
/// in some milliseconds; when it does not, the guest must not suffer, and registers in the background.
const MACHINED_PATIENCE: Duration = Duration::from_secs(1);

/// The registry as one connection sees it.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Who decides.
    pub(crate) keeper: KeeperHandle,
    /// Who may ask.
    pub(crate) admission: Admission,
    /// Where calls come from.
    pub(crate) origin: Origin,
}

/// Where the calls of a connection come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// From many processes through a bus, whose daemon knows them.
    Bus,
    /// From the one process at the other end of a socket.
    Peer(Caller),
}

#[interface(name = "org.glassbox.Glassbox1.Registry", introspection_docs = false)]
impl Registry {
    /// Claims name and UUID of a guest for as long as the other end of `lifeline` is open.
    // The contract has five arguments, and the dispatcher adds two.
    #[allow(clippy::too_many_arguments)]
    #[zbus(out_args("domain_path"))]
    async fn register(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        name: &str,
        uuid: &str,
        leader: OwnedFd,
        lifeline: OwnedFd,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, Failure> {
        let caller = match self.origin {
            Origin::Bus => ask_bus(connection, &header).await?,
            Origin::Peer(caller) => caller,
        };
        self.admission.admit(caller)?;
        let transient = is_transient(&options)?;
        let mut request = read(name, uuid, leader, lifeline, caller)?;
        request.claim.transient = transient;
        let admitted = self.keeper.claim(request).await?;
        let admitted = admitted.map_err(|conflict| Failure::Claimed(conflict.to_string()))?;
        // Without a bus there is no object to wait for, and the claim holds all the same.
        drop(admitted.published.await);
        if tokio::time::timeout(MACHINED_PATIENCE, admitted.enrolled).await.is_err() {
            let name = admitted.guest.name();
            tracing::warn!(
                "guest '{name}' starts before machined answered in {MACHINED_PATIENCE:?}"
            );
        }
        Ok(admitted.guest.path())
    }
}

/// Turns the arguments into what the keeper takes.
fn read(
    name: &str,
    uuid: &str,
    leader: OwnedFd,
    lifeline: OwnedFd,
    caller: Caller,
) -> Result<Request, Failure> {
    let name = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
    let uuid = DomainUuid::try_from(uuid).map_err(|fault| Failure::argument("uuid", &fault))?;
    let pidfd = std::os::fd::OwnedFd::from(leader);
    let leader = Leader::identify(std::os::fd::AsFd::as_fd(&pidfd), caller.pid)
        .map_err(|fault| Failure::argument("leader", &fault))?;
    let lifeline =
        Lifeline::watch(lifeline.into()).map_err(|fault| Failure::argument("lifeline", &fault))?;
    Ok(Request { claim: Claim { name, uuid, leader, transient: false }, pidfd, lifeline })
}

/// Reads the options. Keys that are not known are refused by name: a newer client must learn that this daemon does
/// not know what it asks for.
fn is_transient(options: &HashMap<String, OwnedVariant>) -> Result<bool, Failure> {
    const KEY: &str = dbus_api::OPTION_TRANSIENT;
    let known = |key: &&str| *key == KEY;
    let mut unknown: Vec<_> =
        options.keys().map(String::as_str).filter(|key| !known(key)).collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        return Err(Failure::InvalidArgs(format!(
            "options: unknown key '{}'; glassboxd {} knows '{KEY}'",
            unknown.join("', '"),
            env!("CARGO_PKG_VERSION")
        )));
    }
    let Some(value) = options.get(KEY) else { return Ok(false) };
    bool::try_from(value).map_err(|_| {
        Failure::InvalidArgs(format!("options: '{KEY}' is of another type; give a boolean"))
    })
}

/// Asks the bus daemon who sent a message (D-Bus specification, `GetConnectionCredentials`).
async fn ask_bus(connection: &Connection, header: &Header<'_>) -> Result<Caller, Failure> {
    let unknown = |why: String| Failure::Refused(format!("the bus does not tell who calls: {why}"));
    let sender = header.sender().ok_or_else(|| unknown("the call has no sender".to_owned()))?;
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionCredentials",
            &sender,
        )
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let credentials: ConnectionCredentials =
        reply.body().deserialize().map_err(|error| unknown(error.to_string()))?;
    match (credentials.process_id(), credentials.unix_user_id()) {
        (Some(pid), Some(uid)) => Ok(Caller { pid, uid }),
        (None, _) => Err(unknown("its credentials lack ProcessID".to_owned())),
        (_, None) => Err(unknown("its credentials lack UnixUserID".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_by_name() {
        let one = OwnedVariant::from(1u32);
        let options = |pairs: &[(&str, &OwnedVariant)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone()));
            is_transient(&owned.collect())
        };
        assert_eq!(options(&[]), Ok(false));
        assert_eq!(options(&[("transient", &OwnedVariant::from(true))]), Ok(true));
        assert_eq!(options(&[("transient", &OwnedVariant::from(false))]), Ok(false));
        for (pairs, words) in [
            (
                &[("monitor", &one), ("a", &one), ("transient", &one)][..],
                "options: unknown key 'a', 'monitor'; glassboxd ",
            ),
            (&[("transient", &one)], "options: 'transient' is of another type; give a boolean"),
        ] {
            let Err(Failure::InvalidArgs(text)) = options(pairs) else { panic!("refused") };
            assert!(text.starts_with(words), "{text}");
        }
    }
}
