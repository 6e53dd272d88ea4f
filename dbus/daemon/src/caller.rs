//! Who calls, and whether that account may register guests.

use dbus_api::{ACCOUNT, Placement};
use nix::unistd::{Uid, User};
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;
use zbus::message::Header;

use crate::claims::Claim;
use crate::failure::Failure;

/// The process that called, by the kernel's word (socket) or the bus daemon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its process id as the daemon sees it.
    pub(crate) pid: u32,
    /// Its user id as the daemon sees it.
    pub(crate) uid: u32,
}

/// Whom the kernel shows in the place of accounts that are none here (user_namespaces(7), "Unmapped user and group IDs").
const OVERFLOW: u32 = 65534;

/// The accounts that may register guests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Admission {
    /// All.
    System,
    /// Root and this user.
    User(Uid),
}

impl Admission {
    /// Refuses a caller whose account may not register guests.
    pub(crate) fn admit(self, caller: Caller) -> Result<(), Failure> {
        let uid = Uid::from_raw(caller.uid);
        let (admitted, who) = match self {
            Self::System => (caller.uid != OVERFLOW, "accounts of this host".to_owned()),
            Self::User(owner) => (uid.is_root() || uid == owner, format!("root and uid {owner}")),
        };
        if admitted {
            return Ok(());
        }
        Err(Failure::Refused(format!(
            "uid {uid} may not register guests here; only {who} may, so run the guest as one of them"
        )))
    }

    /// The user whose own guest a claim is for; none for a guest of the system, or where all are one user's.
    ///
    /// The system's are those of root and of the shim's account, and those that live in the unit of their own name, where
    /// only the service manager puts a process.
    pub(crate) fn user_of(self, uid: u32, claim: &Claim) -> Option<u32> {
        let Self::System = self else { return None };
        let unit = claim.leader.system_unit.as_deref();
        let is_in_its_unit = unit.and_then(Placement::guest_of).is_some_and(|it| it == claim.name);
        // The account is looked up each time, for sysusers may create it while the daemon runs.
        let uid = Uid::from_raw(uid);
        (!uid.is_root() && !is_in_its_unit && !is_account(uid)).then_some(uid.as_raw())
    }
}

fn is_account(uid: Uid) -> bool {
    matches!(User::from_name(ACCOUNT), Ok(Some(user)) if user.uid == uid)
}

/// Asks the bus daemon who sent a message (D-Bus specification, `GetConnectionCredentials`).
pub(crate) async fn ask_bus(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Caller, Failure> {
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
    use crate::claims::Network;
    use crate::leader::Leader;

    #[test]
    fn a_user_s_daemon_is_the_user_s() {
        let caller = |uid| Caller { pid: 1, uid };
        let user = Admission::User(Uid::from_raw(1000));
        assert_eq!(user.admit(caller(0)), Ok(()));
        assert_eq!(user.admit(caller(1000)), Ok(()));
        let refused = "uid 1001 may not register guests here; only root and uid 1000 may, \
                       so run the guest as one of them";
        assert_eq!(user.admit(caller(1001)), Err(Failure::Refused(refused.to_owned())));
        assert_eq!(Admission::System.admit(caller(0)), Ok(()));
        assert_eq!(Admission::System.admit(caller(1000)), Ok(()));
        assert!(matches!(Admission::System.admit(caller(65534)), Err(Failure::Refused(_))));
    }

    #[test]
    fn a_guest_is_a_user_s_unless_it_is_the_system_s() {
        let claim = |unit: &str| Claim {
            name: "web".parse().unwrap(),
            uuid: "c7a5fdbd-edaf-9455-926a-d65c16db1801".parse().unwrap(),
            leader: Leader {
                pid: 7,
                born: 7,
                unit: Some(unit.to_owned()),
                system_unit: Some(unit.to_owned()),
            },
            user: None,
            transient: false,
            opens: false,
            network: Network::default(),
        };
        let user = |uid, unit| Admission::System.user_of(uid, &claim(unit));
        assert_eq!(user(0, "session-1.scope"), None);
        assert_eq!(user(61184, "qemu@web.service"), None);
        assert_eq!(user(61184, "qemu@db.service"), Some(61184), "whoever broke out of that one");
        assert_eq!(user(1000, "user@1000.service"), Some(1000));
        let own = Admission::User(Uid::from_raw(1000));
        assert_eq!(own.user_of(1000, &claim("user@1000.service")), None);
    }
}
