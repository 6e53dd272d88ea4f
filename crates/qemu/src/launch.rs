//! How one start of a guest differs from another.

use crate::inherited::Inherited;

/// How the guest comes to life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StartMode {
    /// From its firmware. QEMU waits paused until the shim lets it go.
    #[default]
    Boot,
    /// From its firmware, and the user lets it go.
    Paused,
    /// From another QEMU, whose state comes in at this migration address, such as `unix:/run/x` or `defer`.
    Incoming(String),
}

/// How one start of a guest differs from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// How the guest comes to life.
    pub start: StartMode,
    /// Whether QEMU offers a second monitor on a descriptor for the shim.
    pub shim_monitor: bool,
    /// Whether QEMU offers a further monitor on a descriptor for the management daemon.
    pub daemon_monitor: bool,
    /// File descriptors that the caller opened for devices.
    pub inherited: Inherited,
}
