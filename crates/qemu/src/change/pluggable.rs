//! The kinds of device that come and go while a guest runs.

use domain::devices::DeviceKind;

/// A kind of device that comes and goes while a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pluggable {
    Disk,
    Interface,
    Memory,
    Rng,
    Input,
    Controller,
}

const KINDS: [(DeviceKind, Pluggable); 6] = [
    (DeviceKind::Disk, Pluggable::Disk),
    (DeviceKind::Interface, Pluggable::Interface),
    (DeviceKind::MemoryDevice, Pluggable::Memory),
    (DeviceKind::Rng, Pluggable::Rng),
    (DeviceKind::Input, Pluggable::Input),
    (DeviceKind::Controller, Pluggable::Controller),
];

impl Pluggable {
    /// The kind, if it is one of these.
    pub(super) fn of(kind: DeviceKind) -> Option<Self> {
        KINDS.iter().find(|(of, _)| *of == kind).map(|(_, pluggable)| *pluggable)
    }
}
