//! The D-Bus contract of Glassbox: names, paths and errors, as plain text.
//!
//! `glassboxd` serves what is named here; the shim and any other client call it. The crate knows no D-Bus
//! library, for the shim speaks the protocol with a small client of its own, and it does no I/O.
//!
//! The one object [`ROOT_PATH`] has [`REGISTRY_INTERFACE`] and [`MANAGER_INTERFACE`]; each guest that runs or is defined has an
//! object with [`DOMAIN_INTERFACE`] below it ([`domain_path`]), and each running job one with [`JOB_INTERFACE`]
//! ([`job_path`]). The registry is served on the bus and, peer to peer and without `Hello`, on the socket
//! [`SYSTEM_REGISTRY`]; all others on the bus only. The man page org.glassbox.Glassbox1(5) has all methods, signals
//! and properties, and a test compares what the daemon serves with a copy.

mod guest_signal;
mod holder;
pub mod opening;

use domain::DomainUuid;

pub use guest_signal::GuestSignal;
pub use holder::{Holder, Placement};

/// The well-known name on the bus, and the prefix of all interfaces and errors.
pub const BUS_NAME: &str = "org.glassbox.Glassbox1";

/// The object with the registry and the manager.
pub const ROOT_PATH: &str = "/org/glassbox/Glassbox1";

/// The interface by which a shim claims name and UUID of its guest.
pub const REGISTRY_INTERFACE: &str = "org.glassbox.Glassbox1.Registry";

/// Key of the options of `Register`: whether the guest's definition is gone with the guest.
pub const OPTION_TRANSIENT: &str = "transient";

/// The interface with which guests, jobs and events are listed, and guests started.
pub const MANAGER_INTERFACE: &str = "org.glassbox.Glassbox1.Manager";

/// The interface of each domain's own object.
pub const DOMAIN_INTERFACE: &str = "org.glassbox.Glassbox1.Domain";

/// Error of `Register`: a live guest holds the name or the UUID; the message names the holder.
pub const ERROR_CLAIMED: &str = "org.glassbox.Glassbox1.Error.Claimed";

/// Error of `Register` and of methods that manage guests: the caller's account may not.
pub const ERROR_REFUSED: &str = "org.glassbox.Glassbox1.Error.Refused";

/// Error of `GetDomain` and `GetDomainByUUID`: no guest has that name or UUID.
pub const ERROR_NO_SUCH_DOMAIN: &str = "org.glassbox.Glassbox1.Error.NoSuchDomain";

/// Key of the options of `Register`: the daemon's end of a socket pair whose other end is a monitor of QEMU's.
pub const OPTION_MONITOR: &str = "monitor";

/// Key of the options of `Register`: the guest's network devices on the host, as an array of the kernel's numbers (`ai`).
pub const OPTION_INTERFACES: &str = "interfaces";

/// Key of the options of `Register`: the number of the guest's vsock (`u`).
pub const OPTION_VSOCK_CID: &str = "vsock-cid";

/// Key of the options of `Register`: whether the caller opens consoles and channels when it is asked over the lifeline
/// (`b`), see [`opening`].
pub const OPTION_OPENS: &str = "opens";

/// The interface of each job's own object.
pub const JOB_INTERFACE: &str = "org.glassbox.Glassbox1.Job";

/// Error of methods that begin a job: the guest has one that excludes it; the message names it.
pub const ERROR_BUSY: &str = "org.glassbox.Glassbox1.Error.Busy";

/// Error of `Cancel`: what the job does is not taken back.
pub const ERROR_NOT_CANCELABLE: &str = "org.glassbox.Glassbox1.Error.NotCancelable";

/// Error of `StartDomain`: the guest runs already.
pub const ERROR_RUNNING: &str = "org.glassbox.Glassbox1.Error.Running";

/// Error of methods of a domain that need its QEMU: the guest does not run.
pub const ERROR_NOT_RUNNING: &str = "org.glassbox.Glassbox1.Error.NotRunning";

/// Error of methods that ask QEMU: it does not answer, or has ended.
pub const ERROR_NOT_RESPONDING: &str = "org.glassbox.Glassbox1.Error.NotResponding";

/// Error of methods that ask QEMU or the system: it refuses, in the message's words.
pub const ERROR_FAILED: &str = "org.glassbox.Glassbox1.Error.Failed";

/// Error of any method: an argument is malformed; the message says which (D-Bus specification, "Errors").
pub const ERROR_INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// The socket of the system's registry.
pub const SYSTEM_REGISTRY: &str = "/run/glassbox/registry";

/// The socket of a user's registry, below `$XDG_RUNTIME_DIR`.
pub const USER_REGISTRY: &str = "glassbox/registry";

/// The system account of shim and QEMU, which may register guests beside root.
pub const ACCOUNT: &str = "glassbox-qemu";

/// The system account of the daemon that serves the system bus.
pub const DAEMON_ACCOUNT: &str = "glassboxd";

/// The name on the system bus of what does for the daemon the few things that take privilege.
pub const BROKER_NAME: &str = "org.glassbox.Broker1";

/// Its one object.
pub const BROKER_PATH: &str = "/org/glassbox/Broker1";

/// Its interface, which only the daemon may call.
pub const BROKER_INTERFACE: &str = "org.glassbox.Broker1";

/// Its error for a host without systemd-machined.
pub const BROKER_ERROR_NO_MACHINED: &str = "org.glassbox.Broker1.Error.NoMachined";

/// What machinectl shows as SERVICE. It also tells our machines from those of others.
pub const MACHINE_SERVICE: &str = "glassbox";

/// Where the guests of the system have their control sockets, each named like the machine.
pub const CONTROL_SOCKETS: &str = "/run/glassbox/machine";

/// The path of a job's object: `/org/glassbox/Glassbox1/job/7`.
#[must_use]
pub fn job_path(number: u32) -> String {
    format!("{ROOT_PATH}/job/{number}")
}

/// The path of a domain's object.
///
/// ```
/// let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap();
/// assert_eq!(
///     dbus_api::domain_path(&uuid),
///     "/org/glassbox/Glassbox1/domain/c7a5fdbd_edaf_9455_926a_d65c16db1809"
/// );
/// ```
#[must_use]
pub fn domain_path(uuid: &DomainUuid) -> String {
    // An element of an object path has only letters, digits and underscores (D-Bus specification).
    format!("{ROOT_PATH}/domain/{}", uuid.to_string().replace('-', "_"))
}
