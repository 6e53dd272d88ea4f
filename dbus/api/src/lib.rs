//! The D-Bus contract of Glassbox: names, paths and errors, as plain text.
//!
//! `glassboxd` serves what is named here; the shim and any other client call it. The crate knows no D-Bus
//! library, for the shim speaks the protocol with a small client of its own, and it does no I/O.
//!
//! The one object [`ROOT_PATH`] has two interfaces. [`REGISTRY_INTERFACE`] is served on the bus and, peer to
//! peer and without `Hello`, on the socket [`SYSTEM_REGISTRY`]. [`MANAGER_INTERFACE`] and the objects of the
//! domains are served on the bus only. All of it:
//!
//! ```text
//! /org/glassbox/Glassbox1
//!   org.glassbox.Glassbox1.Registry
//!     Register(s name, s uuid, h leader, h lifeline, a{sv} options) -> o domain_path
//!   org.glassbox.Glassbox1.Manager
//!     ListDomains() -> a(ssuso)       name, UUID, leader's pid, unit or "", path
//!     GetDomain(s name) -> o
//!     GetDomainByUUID(s uuid) -> o
//!     signal DomainAdded(s name, o path)
//!     signal DomainRemoved(s name, o path)
//!     property s Version
//! /org/glassbox/Glassbox1/domain/c7a5fdbd_edaf_9455_926a_d65c16db1809
//!   org.glassbox.Glassbox1.Domain
//!     properties s Name, s UUID, u LeaderPID, s Unit, s MachineName, b Persistent
//! ```
//!
//! `leader` is a pidfd of the calling process. `lifeline` is one end of a socket pair (`SOCK_SEQPACKET` or
//! `SOCK_STREAM`) whose other end the caller keeps: the claim on name and UUID lasts until that end is closed.
//! `options` may have `transient`, a boolean: the guest's definition is not kept once the guest has ended. Any
//! other key is refused by name, so that a newer client learns of an older daemon.

mod holder;

use domain::DomainUuid;

pub use holder::{Holder, Placement};

/// The well-known name on the bus, and the prefix of all interfaces and errors.
pub const BUS_NAME: &str = "org.glassbox.Glassbox1";

/// The object with the registry and the manager.
pub const ROOT_PATH: &str = "/org/glassbox/Glassbox1";

/// The interface by which a shim claims name and UUID of its guest.
pub const REGISTRY_INTERFACE: &str = "org.glassbox.Glassbox1.Registry";

/// Key of the options of `Register`: whether the guest's definition is gone with the guest.
pub const OPTION_TRANSIENT: &str = "transient";

/// The interface by which anyone reads what guests there are.
pub const MANAGER_INTERFACE: &str = "org.glassbox.Glassbox1.Manager";

/// The interface of each domain's own object.
pub const DOMAIN_INTERFACE: &str = "org.glassbox.Glassbox1.Domain";

/// Error of `Register`: a live guest holds the name or the UUID; the message names the holder.
pub const ERROR_CLAIMED: &str = "org.glassbox.Glassbox1.Error.Claimed";

/// Error of `Register`: the caller's account may not register guests.
pub const ERROR_REFUSED: &str = "org.glassbox.Glassbox1.Error.Refused";

/// Error of `GetDomain` and `GetDomainByUUID`: no live guest has that name or UUID.
pub const ERROR_NO_SUCH_DOMAIN: &str = "org.glassbox.Glassbox1.Error.NoSuchDomain";

/// Error of any method: an argument is malformed; the message says which (D-Bus specification, "Errors").
pub const ERROR_INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// The socket of the system's registry.
pub const SYSTEM_REGISTRY: &str = "/run/glassbox/registry";

/// The socket of a user's registry, below `$XDG_RUNTIME_DIR`.
pub const USER_REGISTRY: &str = "glassbox/registry";

/// The system account of shim and QEMU, which may register guests beside root.
pub const ACCOUNT: &str = "glassbox-qemu";

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
