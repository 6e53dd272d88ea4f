//! What QEMU is told over QMP before its guest runs, for it has no arguments for these.

use std::os::fd::OwnedFd;

use qemu::{DisplayPassword, LaunchPlan, UnpluggedLink};
use serde_json::{Value, json};

use crate::asked::{Incoming, Start};
use crate::sys::FIRST_FD;

/// A QMP command whose success the guest's start depends on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    /// QMP's name of the command.
    pub(crate) name: &'static str,
    /// Its arguments, a JSON object.
    pub(crate) arguments: Value,
}

/// The orders of a plan. QEMU carries them out in this sequence, so that no guest runs with a display that is
/// open to all, or with a cable that should be unplugged.
pub(crate) fn before_running(plan: &LaunchPlan) -> Vec<Order> {
    let passwords = plan.passwords.iter().flat_map(password);
    passwords.chain(plan.unplugged.iter().map(unplug)).chain(plan.balloon.map(balloon)).collect()
}

/// The guest gives memory back as soon as its driver runs.
fn balloon(bytes: u64) -> Order {
    Order { name: "balloon", arguments: json!({ "value": bytes }) }
}

/// The last orders, which have QEMU take a migration in, and the file descriptor that QEMU is to inherit for it
/// after `before` others.
///
/// QEMU could listen from its start on, but then a guest might run before it is prepared.
pub(crate) fn to_come_in(start: Start, before: usize) -> (Vec<Order>, Option<OwnedFd>) {
    let (address, fd) = match start {
        Start::Boot | Start::Paused => return (Vec::new(), None),
        Start::Incoming(Incoming::Deferred) => (None, None),
        Start::Incoming(Incoming::Address(address)) => (Some(address), None),
        Start::Incoming(Incoming::Descriptor(fd)) => {
            (Some(format!("fd:{}", FIRST_FD as usize + before)), Some(fd))
        }
    };
    // Without it QEMU would not tell of a guest that came in paused (qapi/migration.json, `events`).
    let told = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    let mut orders = vec![Order { name: "migrate-set-capabilities", arguments: told }];
    orders.extend(
        address.map(|uri| Order { name: "migrate-incoming", arguments: json!({ "uri": uri }) }),
    );
    (orders, fd)
}

fn unplug(link: &UnpluggedLink) -> Order {
    Order { name: "set_link", arguments: json!({ "name": link.device, "up": false }) }
}

fn password(display: &DisplayPassword) -> [Order; 2] {
    let protocol = display.protocol.as_str();
    let mut set = json!({ "protocol": protocol, "password": display.password });
    if let Some(connected) = display.connected {
        set["connected"] = connected.into();
    }
    let time = display.valid_to.map_or_else(|| "never".to_owned(), |time| time.to_string());
    let expire = json!({ "protocol": protocol, "time": time });
    [
        Order { name: "set_password", arguments: set },
        Order { name: "expire_password", arguments: expire },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use qemu::PasswordProtocol;

    #[test]
    fn a_balloon_is_told_in_bytes() {
        let order = balloon(512 << 20);
        assert_eq!((order.name, &order.arguments["value"]), ("balloon", &json!(536_870_912)));
    }

    #[test]
    fn a_password_is_set_and_given_its_end() {
        let display = |valid_to, connected| DisplayPassword {
            protocol: PasswordProtocol::Vnc,
            password: "x".to_owned(),
            valid_to,
            connected,
        };
        let [set, expire] = password(&display(None, None));
        assert_eq!(set.arguments, json!({ "protocol": "vnc", "password": "x" }));
        assert_eq!(expire.arguments, json!({ "protocol": "vnc", "time": "never" }));
        let [set, expire] = password(&display(Some(5), Some("keep")));
        assert_eq!(set.arguments["connected"], "keep");
        assert_eq!(expire.arguments["time"], "5");
    }
}
