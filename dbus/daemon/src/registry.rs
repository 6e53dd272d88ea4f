//! The registry: the D-Bus interface by which a shim claims name and UUID of its guest.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use dbus_api::{
    OPTION_INTERFACES, OPTION_MONITOR, OPTION_OPENS, OPTION_TRANSIENT, OPTION_VSOCK_CID,
};
use domain::{DomainName, DomainUuid};
use zbus::message::Header;
use zbus::{Connection, OwnedFd, OwnedObjectPath, OwnedVariant, Variant, interface};

use crate::caller::{Admission, Caller, ask_bus};
use crate::claims::{Claim, Network};
use crate::failure::Failure;
use crate::keeper::{KeeperHandle, Request};
use crate::leader::Leader;
use crate::lifeline::Lifeline;
use crate::monitor::Link;

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
        let options = RegisterOptions::read(options)?;
        let mut request = read(name, uuid, leader, lifeline, caller)?;
        request.claim.user = self.admission.user_of(caller.uid, &request.claim);
        if request.claim.user.is_some() && request.lifeline.maker() != Some(caller.uid) {
            let what = "lifeline: another account made it; make the socket pair as the caller";
            return Err(Failure::InvalidArgs(what.to_owned()));
        }
        request.claim.transient = options.transient;
        request.claim.opens = options.opens;
        request.claim.network = options.network;
        request.monitor = options.monitor;
        let admitted = self.keeper.claim(request).await?;
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
    let network = Network::default();
    let claim = Claim { name, uuid, leader, user: None, transient: false, opens: false, network };
    Ok(Request { claim, pidfd, lifeline, monitor: None })
}

/// What a registrant may say beside what it must.
#[derive(Debug, Default)]
struct RegisterOptions {
    /// Whether the guest's definition is gone with the guest.
    transient: bool,
    /// Whether the registrant opens consoles and channels when it is asked.
    opens: bool,
    /// The daemon's end of a monitor.
    monitor: Option<Link>,
    /// What of the host's networks is the guest's.
    network: Network,
}

impl RegisterOptions {
    /// Reads the options. Keys that are not known are refused by name: a newer client must learn that this daemon does
    /// not know what it asks for.
    fn read(mut options: HashMap<String, OwnedVariant>) -> Result<Self, Failure> {
        let mut flag = |key| options.remove(key).map_or(Ok(false), |value| flag(key, value));
        let (transient, opens) = (flag(OPTION_TRANSIENT)?, flag(OPTION_OPENS)?);
        let monitor = options.remove(OPTION_MONITOR).map(|value| monitor(&value)).transpose()?;
        let network = network(&mut options)?;
        let mut unknown: Vec<String> = options.into_keys().collect();
        if unknown.is_empty() {
            return Ok(Self { transient, opens, monitor, network });
        }
        unknown.sort_unstable();
        Err(Failure::InvalidArgs(format!(
            "options: unknown key '{}'; glassboxd {} knows '{OPTION_TRANSIENT}', '{OPTION_OPENS}', \
             '{OPTION_MONITOR}', '{OPTION_INTERFACES}' and '{OPTION_VSOCK_CID}'",
            unknown.join("', '"),
            env!("CARGO_PKG_VERSION")
        )))
    }
}

fn flag(key: &str, value: OwnedVariant) -> Result<bool, Failure> {
    bool::try_from(value).map_err(|_| {
        let text = format!("options: '{key}' is of another type; give a boolean");
        Failure::InvalidArgs(text)
    })
}

/// Reads what machined is told of the guest's networks, in a form that it does not refuse.
fn network(options: &mut HashMap<String, OwnedVariant>) -> Result<Network, Failure> {
    let wrong = |key, what| Failure::InvalidArgs(format!("options: '{key}' {what}"));
    let mut network = Network::default();
    if let Some(value) = options.remove(OPTION_INTERFACES) {
        let given = Vec::<i32>::try_from(value).ok();
        network.interfaces = given
            .filter(|given| given.iter().all(|index| *index > 0))
            .ok_or_else(|| wrong(OPTION_INTERFACES, "is something else; give positive int32s"))?;
    }
    if let Some(value) = options.remove(OPTION_VSOCK_CID) {
        // Below are the hypervisor, this host and one that is reserved, and the largest is any (vsock(7)).
        let given = u32::try_from(value).ok().filter(|cid| (3..u32::MAX).contains(cid));
        let what = "is something else; give a uint32 from 3 on";
        network.vsock_cid = Some(given.ok_or_else(|| wrong(OPTION_VSOCK_CID, what))?);
    }
    Ok(network)
}

fn monitor(value: &OwnedVariant) -> Result<Link, Failure> {
    let argument = format!("options: '{OPTION_MONITOR}'");
    let Variant::Fd(socket) = &**value else {
        let what = "is of another type; give a file descriptor";
        return Err(Failure::InvalidArgs(format!("{argument} {what}")));
    };
    let socket = socket.as_fd().try_clone_to_owned();
    let socket = socket.map_err(|fault| Failure::argument(&argument, &fault))?;
    Link::open(socket).map_err(|fault| Failure::argument(&argument, &fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_by_name() {
        let one = OwnedVariant::from(1u32);
        let options = |pairs: &[(&str, &OwnedVariant)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone()));
            RegisterOptions::read(owned.collect()).map(|options| options.transient)
        };
        assert_eq!(options(&[]), Ok(false));
        assert_eq!(options(&[("transient", &OwnedVariant::from(true))]), Ok(true));
        assert_eq!(options(&[("transient", &OwnedVariant::from(false))]), Ok(false));
        for (pairs, words) in [
            (&[("b", &one), ("a", &one)][..], "options: unknown key 'a', 'b'; glassboxd "),
            (&[("monitor", &one)], "options: 'monitor' is of another type; give a file descriptor"),
            (&[("opens", &one)], "options: 'opens' is of another type; give a boolean"),
            (&[("transient", &one)], "options: 'transient' is of another type; give a boolean"),
            (&[("interfaces", &one)], "options: 'interfaces' is something else; give positive"),
            (
                &[("vsock-cid", &one)],
                "options: 'vsock-cid' is something else; give a uint32 from 3 on",
            ),
        ] {
            let Err(Failure::InvalidArgs(text)) = options(pairs) else { panic!("refused") };
            assert!(text.starts_with(words), "{text}");
        }
    }
}
