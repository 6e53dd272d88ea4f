//! Pointing at any device, whatever its kind.

use crate::fault::Place;

use super::{DeviceInfo, Devices};

/// The kinds of device that have an alias and perhaps an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Disks.
    Disk,
    /// Controllers.
    Controller,
    /// Directories of the host.
    Filesystem,
    /// Network interfaces.
    Interface,
    /// Smart cards.
    Smartcard,
    /// Serial ports.
    Serial,
    /// Parallel ports.
    Parallel,
    /// Consoles.
    Console,
    /// Channels.
    Channel,
    /// Input devices.
    Input,
    /// Trusted platform modules.
    Tpm,
    /// Sound cards.
    Sound,
    /// Video cards.
    Video,
    /// Devices of the host.
    Hostdev,
    /// USB devices of a remote client.
    Redirdev,
    /// USB hubs.
    Hub,
    /// Watchdogs.
    Watchdog,
    /// The memory balloon; more than one is refused.
    MemBalloon,
    /// Sources of randomness.
    Rng,
    /// Non-volatile memory.
    NvramDevice,
    /// Panic devices.
    Panic,
    /// Shared memory.
    Shmem,
    /// Memory that can be plugged.
    MemoryDevice,
    /// IOMMUs.
    Iommu,
    /// Sockets between guest and host.
    Vsock,
    /// Cryptographic accelerators.
    Crypto,
    /// Storage that survives a crash.
    Pstore,
}

/// One device of a domain: its kind and its place among its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceRef {
    /// The kind.
    pub kind: DeviceKind,
    /// The place in the kind's list, from 0.
    pub index: usize,
}

impl DeviceKind {
    /// All kinds, in the order in which the format writes them.
    pub const ALL: [Self; 27] = [
        Self::Disk,
        Self::Controller,
        Self::Filesystem,
        Self::Interface,
        Self::Smartcard,
        Self::Serial,
        Self::Parallel,
        Self::Console,
        Self::Channel,
        Self::Input,
        Self::Tpm,
        Self::Sound,
        Self::Video,
        Self::Hostdev,
        Self::Redirdev,
        Self::Hub,
        Self::Watchdog,
        Self::MemBalloon,
        Self::Rng,
        Self::NvramDevice,
        Self::Panic,
        Self::Shmem,
        Self::MemoryDevice,
        Self::Iommu,
        Self::Vsock,
        Self::Crypto,
        Self::Pstore,
    ];
}

impl DeviceKind {
    /// The name of the element.
    #[must_use]
    pub fn element(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Controller => "controller",
            Self::Filesystem => "filesystem",
            Self::Interface => "interface",
            Self::Smartcard => "smartcard",
            Self::Serial => "serial",
            Self::Parallel => "parallel",
            Self::Console => "console",
            Self::Channel => "channel",
            Self::Input => "input",
            Self::Tpm => "tpm",
            Self::Sound => "sound",
            Self::Video => "video",
            Self::Hostdev => "hostdev",
            Self::Redirdev => "redirdev",
            Self::Hub => "hub",
            Self::Watchdog => "watchdog",
            Self::MemBalloon => "memballoon",
            Self::Rng => "rng",
            Self::NvramDevice => "nvram",
            Self::Panic => "panic",
            Self::Shmem => "shmem",
            Self::MemoryDevice => "memory",
            Self::Iommu => "iommu",
            Self::Vsock => "vsock",
            Self::Crypto => "crypto",
            Self::Pstore => "pstore",
        }
    }
}

impl Devices {
    /// How many devices of a kind there are.
    #[must_use]
    pub fn count(&self, kind: DeviceKind) -> usize {
        match kind {
            DeviceKind::Disk => self.disks.len(),
            DeviceKind::Controller => self.controllers.len(),
            DeviceKind::Filesystem => self.filesystems.len(),
            DeviceKind::Interface => self.interfaces.len(),
            DeviceKind::Smartcard => self.smartcards.len(),
            DeviceKind::Serial => self.serials.len(),
            DeviceKind::Parallel => self.parallels.len(),
            DeviceKind::Console => self.consoles.len(),
            DeviceKind::Channel => self.channels.len(),
            DeviceKind::Input => self.inputs.len(),
            DeviceKind::Tpm => self.tpms.len(),
            DeviceKind::Sound => self.sounds.len(),
            DeviceKind::Video => self.videos.len(),
            DeviceKind::Hostdev => self.hostdevs.len(),
            DeviceKind::Redirdev => self.redirdevs.len(),
            DeviceKind::Hub => self.hubs.len(),
            DeviceKind::Watchdog => self.watchdogs.len(),
            DeviceKind::MemBalloon => self.memballoons.len(),
            DeviceKind::Rng => self.rngs.len(),
            DeviceKind::NvramDevice => self.nvrams.len(),
            DeviceKind::Panic => self.panics.len(),
            DeviceKind::Shmem => self.shmems.len(),
            DeviceKind::MemoryDevice => self.memories.len(),
            DeviceKind::Iommu => self.iommus.len(),
            DeviceKind::Vsock => self.vsocks.len(),
            DeviceKind::Crypto => self.cryptos.len(),
            DeviceKind::Pstore => self.pstores.len(),
        }
    }

    /// All devices of a kind.
    pub fn all(&self, kind: DeviceKind) -> impl Iterator<Item = DeviceRef> + use<> {
        (0..self.count(kind)).map(move |index| DeviceRef { kind, index })
    }

    /// What all devices have, of this one.
    ///
    /// # Panics
    /// When the reference is not one of [`Self::all`].
    #[must_use]
    pub fn info(&self, device: DeviceRef) -> &DeviceInfo {
        let index = device.index;
        match device.kind {
            DeviceKind::Disk => &self.disks[index].info,
            DeviceKind::Controller => &self.controllers[index].info,
            DeviceKind::Filesystem => &self.filesystems[index].info,
            DeviceKind::Interface => &self.interfaces[index].info,
            DeviceKind::Smartcard => &self.smartcards[index].info,
            DeviceKind::Serial => &self.serials[index].info,
            DeviceKind::Parallel => &self.parallels[index].info,
            DeviceKind::Console => &self.consoles[index].info,
            DeviceKind::Channel => &self.channels[index].info,
            DeviceKind::Input => &self.inputs[index].info,
            DeviceKind::Tpm => &self.tpms[index].info,
            DeviceKind::Sound => &self.sounds[index].info,
            DeviceKind::Video => &self.videos[index].info,
            DeviceKind::Hostdev => &self.hostdevs[index].info,
            DeviceKind::Redirdev => &self.redirdevs[index].info,
            DeviceKind::Hub => &self.hubs[index].info,
            DeviceKind::Watchdog => &self.watchdogs[index].info,
            DeviceKind::MemBalloon => &self.memballoons[index].info,
            DeviceKind::Rng => &self.rngs[index].info,
            DeviceKind::NvramDevice => &self.nvrams[index].info,
            DeviceKind::Panic => &self.panics[index].info,
            DeviceKind::Shmem => &self.shmems[index].info,
            DeviceKind::MemoryDevice => &self.memories[index].info,
            DeviceKind::Iommu => &self.iommus[index].info,
            DeviceKind::Vsock => &self.vsocks[index].info,
            DeviceKind::Crypto => &self.cryptos[index].info,
            DeviceKind::Pstore => &self.pstores[index].info,
        }
    }

    /// Where the element of this one stands.
    ///
    /// # Panics
    /// When the reference is not one of [`Self::all`].
    #[must_use]
    pub fn place(&self, device: DeviceRef) -> &Place {
        let index = device.index;
        match device.kind {
            DeviceKind::Disk => &self.disks[index].place,
            DeviceKind::Controller => &self.controllers[index].place,
            DeviceKind::Filesystem => &self.filesystems[index].place,
            DeviceKind::Interface => &self.interfaces[index].place,
            DeviceKind::Smartcard => &self.smartcards[index].place,
            DeviceKind::Serial => &self.serials[index].place,
            DeviceKind::Parallel => &self.parallels[index].place,
            DeviceKind::Console => &self.consoles[index].place,
            DeviceKind::Channel => &self.channels[index].place,
            DeviceKind::Input => &self.inputs[index].place,
            DeviceKind::Tpm => &self.tpms[index].place,
            DeviceKind::Sound => &self.sounds[index].place,
            DeviceKind::Video => &self.videos[index].place,
            DeviceKind::Hostdev => &self.hostdevs[index].place,
            DeviceKind::Redirdev => &self.redirdevs[index].place,
            DeviceKind::Hub => &self.hubs[index].place,
            DeviceKind::Watchdog => &self.watchdogs[index].place,
            DeviceKind::MemBalloon => &self.memballoons[index].place,
            DeviceKind::Rng => &self.rngs[index].place,
            DeviceKind::NvramDevice => &self.nvrams[index].place,
            DeviceKind::Panic => &self.panics[index].place,
            DeviceKind::Shmem => &self.shmems[index].place,
            DeviceKind::MemoryDevice => &self.memories[index].place,
            DeviceKind::Iommu => &self.iommus[index].place,
            DeviceKind::Vsock => &self.vsocks[index].place,
            DeviceKind::Crypto => &self.cryptos[index].place,
            DeviceKind::Pstore => &self.pstores[index].place,
        }
    }

    /// What all devices have, of this one, to change.
    ///
    /// # Panics
    /// When the reference is not one of [`Self::all`].
    pub fn info_mut(&mut self, device: DeviceRef) -> &mut DeviceInfo {
        let index = device.index;
        match device.kind {
            DeviceKind::Disk => &mut self.disks[index].info,
            DeviceKind::Controller => &mut self.controllers[index].info,
            DeviceKind::Filesystem => &mut self.filesystems[index].info,
            DeviceKind::Interface => &mut self.interfaces[index].info,
            DeviceKind::Smartcard => &mut self.smartcards[index].info,
            DeviceKind::Serial => &mut self.serials[index].info,
            DeviceKind::Parallel => &mut self.parallels[index].info,
            DeviceKind::Console => &mut self.consoles[index].info,
            DeviceKind::Channel => &mut self.channels[index].info,
            DeviceKind::Input => &mut self.inputs[index].info,
            DeviceKind::Tpm => &mut self.tpms[index].info,
            DeviceKind::Sound => &mut self.sounds[index].info,
            DeviceKind::Video => &mut self.videos[index].info,
            DeviceKind::Hostdev => &mut self.hostdevs[index].info,
            DeviceKind::Redirdev => &mut self.redirdevs[index].info,
            DeviceKind::Hub => &mut self.hubs[index].info,
            DeviceKind::Watchdog => &mut self.watchdogs[index].info,
            DeviceKind::MemBalloon => &mut self.memballoons[index].info,
            DeviceKind::Rng => &mut self.rngs[index].info,
            DeviceKind::NvramDevice => &mut self.nvrams[index].info,
            DeviceKind::Panic => &mut self.panics[index].info,
            DeviceKind::Shmem => &mut self.shmems[index].info,
            DeviceKind::MemoryDevice => &mut self.memories[index].info,
            DeviceKind::Iommu => &mut self.iommus[index].info,
            DeviceKind::Vsock => &mut self.vsocks[index].info,
            DeviceKind::Crypto => &mut self.cryptos[index].info,
            DeviceKind::Pstore => &mut self.pstores[index].info,
        }
    }
}
