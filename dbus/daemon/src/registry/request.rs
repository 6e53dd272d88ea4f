//! What a call of `Register` asks for, read from its arguments. Of the daemon it needs the kinds of file descriptors only,
//! so that it is fuzzed as it is (`fuzz/fuzz_targets/registry.rs`).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use dbus_api::{
    OPTION_INTERFACES, OPTION_MONITOR, OPTION_OPENS, OPTION_TRANSIENT, OPTION_VSOCK_CID,
};
use domain::{DomainName, DomainUuid};
use zbus::{OwnedVariant, Variant};

use crate::claims::{Claim, Network};
use crate::leader::Leader;
use crate::lifeline::Lifeline;
use crate::monitor::Link;

/// What a claimant hands in.
#[derive(Debug)]
pub(crate) struct Request {
    /// What it claims.
    pub(crate) claim: Claim,
    /// The leader's pidfd.
    pub(crate) pidfd: OwnedFd,
    /// What keeps the claim.
    pub(crate) lifeline: Lifeline,
    /// The daemon's end of a monitor of the guest's QEMU, if it has one.
    pub(crate) monitor: Option<Link>,
}

/// The arguments of `Register`.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    /// The guest's name.
    pub(crate) name: &'a str,
    /// Its UUID.
    pub(crate) uuid: &'a str,
    /// The leader's pidfd.
    pub(crate) leader: OwnedFd,
    /// The daemon's end of the lifeline.
    pub(crate) lifeline: OwnedFd,
    /// What else there is to say.
    pub(crate) options: HashMap<String, OwnedVariant>,
}

/// An argument is malformed; the text names it as the introspection data do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

impl Malformed {
    /// An argument, by its name in the introspection data.
    pub(crate) fn argument(name: &str, fault: &dyn std::error::Error) -> Self {
        let mut text = format!("{name}: {fault}");
        let mut source = fault.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self(text)
    }

    fn option(key: &str, what: &str) -> Self {
        Self(format!("options: '{key}' {what}"))
    }
}

impl Request {
    /// Reads the arguments of the process `caller`, whose own the leader must be. Whose guest it is remains to be said.
    pub(crate) fn read(arguments: Arguments<'_>, caller: u32) -> Result<Self, Malformed> {
        let Arguments { name, uuid, leader: pidfd, lifeline, options } = arguments;
        let options = Options::read(options)?;
        let name = DomainName::try_from(name).map_err(|it| Malformed::argument("name", &it))?;
        let uuid = DomainUuid::try_from(uuid).map_err(|it| Malformed::argument("uuid", &it))?;
        let leader = Leader::identify(pidfd.as_fd(), caller)
            .map_err(|fault| Malformed::argument("leader", &fault))?;
        let lifeline =
            Lifeline::watch(lifeline).map_err(|fault| Malformed::argument("lifeline", &fault))?;
        let Options { transient, opens, monitor, network } = options;
        let claim = Claim { name, uuid, leader, user: None, transient, opens, network };
        Ok(Self { claim, pidfd, lifeline, monitor })
    }
}

/// What a registrant may say beside what it must.
#[derive(Debug, Default)]
struct Options {
    /// Whether the guest's definition is gone with the guest.
    transient: bool,
    /// Whether the registrant opens consoles and channels when it is asked.
    opens: bool,
    /// The daemon's end of a monitor.
    monitor: Option<Link>,
    /// What of the host's networks is the guest's.
    network: Network,
}

impl Options {
    /// Reads the options. Keys that are not known are refused by name: a newer client must learn that this daemon does
    /// not know what it asks for.
    fn read(mut options: HashMap<String, OwnedVariant>) -> Result<Self, Malformed> {
        let mut flag = |key| options.remove(key).map_or(Ok(false), |value| flag(key, value));
        let (transient, opens) = (flag(OPTION_TRANSIENT)?, flag(OPTION_OPENS)?);
        let monitor = options.remove(OPTION_MONITOR).map(|value| monitor(&value)).transpose()?;
        let network = network(&mut options)?;
        let mut unknown: Vec<String> = options.into_keys().collect();
        if unknown.is_empty() {
            return Ok(Self { transient, opens, monitor, network });
        }
        unknown.sort_unstable();
        Err(Malformed(format!(
            "options: unknown key '{}'; glassboxd {} knows '{OPTION_TRANSIENT}', '{OPTION_OPENS}', \
             '{OPTION_MONITOR}', '{OPTION_INTERFACES}' and '{OPTION_VSOCK_CID}'",
            unknown.join("', '"),
            env!("CARGO_PKG_VERSION")
        )))
    }
}

fn flag(key: &str, value: OwnedVariant) -> Result<bool, Malformed> {
    bool::try_from(value).map_err(|_| Malformed::option(key, "is of another type; give a boolean"))
}

/// Reads what machined is told of the guest's networks, in a form that it does not refuse.
fn network(options: &mut HashMap<String, OwnedVariant>) -> Result<Network, Malformed> {
    let mut network = Network::default();
    if let Some(value) = options.remove(OPTION_INTERFACES) {
        let given = Vec::<i32>::try_from(value).ok();
        network.interfaces =
            given.filter(|given| given.iter().all(|index| *index > 0)).ok_or_else(|| {
                Malformed::option(OPTION_INTERFACES, "is something else; give positive int32s")
            })?;
    }
    if let Some(value) = options.remove(OPTION_VSOCK_CID) {
        // Below are the hypervisor, this host and one that is reserved, and the largest is any (vsock(7)).
        let given = u32::try_from(value).ok().filter(|cid| (3..u32::MAX).contains(cid));
        let what = "is something else; give a uint32 from 3 on";
        network.vsock_cid = Some(given.ok_or_else(|| Malformed::option(OPTION_VSOCK_CID, what))?);
    }
    Ok(network)
}

fn monitor(value: &OwnedVariant) -> Result<Link, Malformed> {
    let Variant::Fd(socket) = &**value else {
        let what = "is of another type; give a file descriptor";
        return Err(Malformed::option(OPTION_MONITOR, what));
    };
    let refuse = |fault: &dyn std::error::Error| {
        Malformed::argument(&format!("options: '{OPTION_MONITOR}'"), fault)
    };
    let socket = socket.as_fd().try_clone_to_owned().map_err(|fault| refuse(&fault))?;
    Link::open(socket).map_err(|fault| refuse(&fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_by_name() {
        let one = OwnedVariant::from(1u32);
        let options = |pairs: &[(&str, &OwnedVariant)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone()));
            Options::read(owned.collect()).map(|options| options.transient)
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
            let Malformed(text) = options(pairs).unwrap_err();
            assert!(text.starts_with(words), "{text}");
        }
    }
}
