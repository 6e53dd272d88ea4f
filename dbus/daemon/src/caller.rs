//! Who calls, and whether that account may register guests.

use std::ops::RangeInclusive;

use dbus_api::ACCOUNT;
use nix::unistd::{Uid, User};
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;
use zbus::message::Header;

use crate::failure::Failure;

/// The process that called, by the kernel's word (socket) or the bus daemon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its process id as the daemon sees it.
    pub(crate) pid: u32,
    /// Its user id as the daemon sees it.
    pub(crate) uid: u32,
}

/// The accounts that systemd makes for services with `DynamicUser=` (systemd's uid ranges document). Of them only guests
/// have the group that may reach the registry.
const DYNAMIC_ACCOUNTS: RangeInclusive<u32> = 61184..=65519;

/// The accounts that may register guests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Admission {
    /// Root, the account of the shim, and accounts of guests.
    System,
    /// Root and this user.
    User(Uid),
}

impl Admission {
    /// Refuses a caller whose account may not register guests.
    pub(crate) fn admit(self, caller: Caller) -> Result<(), Failure> {
        let uid = Uid::from_raw(caller.uid);
        let (admitted, who) = match self {
            // The account is looked up each time, for sysusers may create it while the daemon runs.
            Self::System => {
                let guest = is_account(uid) || DYNAMIC_ACCOUNTS.contains(&caller.uid);
                (uid.is_root() || guest, format!("root, {ACCOUNT} and guests' own accounts"))
            }
            Self::User(owner) => (uid.is_root() || uid == owner, format!("root and uid {owner}")),
        };
        if admitted {
            return Ok(());
        }
        Err(Failure::Refused(format!(
            "uid {uid} may not register guests here; only {who} may, so run the guest as one of them"
        )))
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

    #[test]
    fn only_root_and_the_owner_register() {
        let caller = |uid| Caller { pid: 1, uid };
        let user = Admission::User(Uid::from_raw(1000));
        assert_eq!(user.admit(caller(0)), Ok(()));
        assert_eq!(user.admit(caller(1000)), Ok(()));
        let refused = "uid 1001 may not register guests here; only root and uid 1000 may, \
                       so run the guest as one of them";
        assert_eq!(user.admit(caller(1001)), Err(Failure::Refused(refused.to_owned())));
        assert_eq!(Admission::System.admit(caller(0)), Ok(()));
        assert_eq!(Admission::System.admit(caller(61184)), Ok(()));
        // Debian's and systemd's range for "nobody" (systemd's uid ranges document).
        assert!(matches!(Admission::System.admit(caller(65534)), Err(Failure::Refused(_))));
    }
}
