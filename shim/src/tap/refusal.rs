//! What is said of a network device that cannot be had.

use std::io;

use domain::Fault;
use domain::devices::{Interface, InterfaceType};

use crate::host_files::own_account;

/// A network device that cannot be had, and what to do.
pub(super) fn refused(interface: &Interface, what: &str, error: &io::Error) -> Fault {
    let account = own_account();
    let denied = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    let words = if denied {
        format!("{what} is not open to {account}; {}", privilege_advice(interface))
    } else if error.raw_os_error() == Some(libc::EINVAL) {
        format!(
            "{what} cannot be used with {} for its number of queues; make it for as many, or change 'queues'",
            interface.queues()
        )
    } else {
        format!("{what} cannot be used: {error}; {}", inherit_advice(interface))
    };
    interface.place.refused(words)
}

/// A network device that cannot be brought into the state that is asked for.
pub(super) fn unchanged(interface: &Interface, name: &str, error: &io::Error) -> Fault {
    let what =
        format!("the network device '{name}' cannot be joined to its bridge and switched on");
    let advice = "do both before the start, and set its <mtu>, if there is one";
    interface.place.refused(format!("{what} by {}: {error}; {advice}", own_account()))
}

fn privilege_advice(interface: &Interface) -> String {
    let inherit = inherit_advice(interface);
    if interface.kind() == InterfaceType::Direct {
        return inherit;
    }
    let make =
        "make a tap device for this account with `ip tuntap add`, switch it on, join it to its";
    format!("{make} bridge and name it in <target dev='...'/>, or {inherit}")
}

pub(super) fn inherit_advice(interface: &Interface) -> String {
    format!("pass an open one as file descriptor '{}'", interface.info.alias())
}
