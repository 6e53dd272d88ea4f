//! The guest's devices, `<devices>`: one file for each element.
//!
//! Each file has the model of its element, `parse` and `write`. What an element shares with others stands in
//! `address`, `info`, `virtio` and `chardev`. A new device gets a file, a field of [`Devices`], a line in
//! [`Devices::parse_one`], one in [`Devices::write`], and a kind in `reference`.

use crate::reader::Reader;
use crate::writer::Writer;

mod address;
mod audio;
mod channel;
mod chardev;
mod console;
mod controller;
mod crypto;
mod disk;
mod filesystem;
mod graphics;
mod hostdev;
mod hub;
mod info;
mod input;
mod interface;
mod iommu;
mod lease;
mod memballoon;
mod memory_device;
mod nvram_device;
mod panic;
mod parallel;
mod pstore;
mod redirdev;
mod redirfilter;
mod reference;
mod rng;
mod serial;
mod sgio;
mod shmem;
mod smartcard;
mod sound;
mod tpm;
mod video;
mod virtio;
mod vsock;
mod watchdog;

pub use address::{
    Address, AddressType, CcidAddress, DimmAddress, DriveAddress, IsaAddress, PciPlace, UsbAddress,
    VirtioSerialAddress,
};
pub use audio::{
    Audio, AudioDirection, AudioIo, AudioOptions, AudioSettings, AudioType, SampleFormat,
    SdlAudioDriver,
};
pub use channel::{Channel, ChannelPort, ChannelTarget};
pub use chardev::{
    Chardev, ChardevSource, ChardevType, Log, Reconnect, SocketMode, TcpProtocol, TcpSocket,
    UdpEnd, UdpSocket, UnixSocket, Vdagent,
};
pub use console::{Console, ConsoleTarget};
pub use controller::{
    Controller, ControllerDriver, ControllerKind, ControllerType, IdeModel, PciModel, PciModelName,
    PciTarget, ScsiModel, UsbModel, VirtioModel,
};
pub use crypto::{Crypto, CryptoBackend};
pub use disk::{
    Auth, AuthType, Backing, BackingImage, BlockIo, CacheMode, DetectZeroes, DiscardMode, Disk,
    DiskBus, DiskDevice, DiskDriver, DiskFormat, DiskModel, DiskSource, DiskThread, Encryption,
    EncryptionEngine, EncryptionFormat, ErrorPolicy, Geometry, IoMode, NetworkHost,
    NetworkIdentity, NetworkProtocol, NetworkSource, NetworkTransport, NvmeSource, Reservations,
    SecretKey, Slice, SnapshotMode, SourceKind, SourceType, StartupPolicy, Translation, Tray,
    VhostUserSource, VolumeMode, VolumeSource,
};
pub use filesystem::{
    AccessMode, Filesystem, FsBinary, FsCache, FsDriver, FsDriverType, FsIdRange, FsLock, FsType,
    MultiDevices, SandboxMode, WritePolicy,
};
pub use graphics::{
    ChannelMode, Connected, DbusDisplay, EglHeadless, Gl, Graphics, GraphicsType, ImageCompression,
    Listen, ListenType, MouseMode, Password, Rdp, Sdl, SharePolicy, Spice, SpiceChannel,
    SpiceChannelName, Streaming, Vnc, WanCompression,
};
pub use hostdev::{
    GuestReset, HostDriver, HostDriverName, Hostdev, HostdevMode, HostdevPolicy, HostdevSource,
    HostdevType, MediatedDevice, MediatedModel, PciSource, ScsiAdapter, ScsiHost, ScsiIscsi,
    ScsiSource, UsbSource,
};
pub use hub::{Hub, HubType};
pub use info::{DeviceInfo, Rom};
pub use input::{GrabToggle, Input, InputBus, InputGrab, InputModel, InputSource, InputType};
pub use interface::{
    BackendType, Bandwidth, DirectMode, FilterRef, ForwardProtocol, GuestOffloads, HostOffloads,
    Interface, InterfaceBackend, InterfaceDriver, InterfaceIp, InterfaceSource, InterfaceTarget,
    InterfaceType, IpFamily, IpSettings, LinkState, Mac, MacType, NativeMode, NetDriver,
    NetOptions, PortForward, PortRange, Rate, Route, SocketAddress, Teaming, TeamingType, TxMode,
    VhostUserMode, VirtualPort, VirtualPortParameters, VirtualPortType, Vlan, VlanTag,
};
pub use iommu::{Iommu, IommuDriver, IommuModel};
pub use lease::{Lease, LeaseTarget};
pub use memballoon::{BalloonModel, MemBalloon};
pub use memory_device::{MemoryDevice, MemoryDeviceSource, MemoryDeviceTarget, MemoryModel};
pub use nvram_device::NvramDevice;
pub use panic::{Panic, PanicModel};
pub use parallel::Parallel;
pub use pstore::{Pstore, PstoreBackend};
pub use redirdev::Redirdev;
pub use redirfilter::{RedirRule, Redirfilter};
pub use reference::{DeviceKind, DeviceRef};
pub use rng::{Rng, RngBackend, RngRate};
pub use serial::{Serial, SerialModel, SerialTarget};
pub use sgio::Sgio;
pub use shmem::{Shmem, ShmemModel, ShmemMsi, ShmemRole, ShmemServer};
pub use smartcard::{Smartcard, SmartcardMode, SmartcardSource};
pub use sound::{Sound, SoundCodec, SoundModel};
pub use tpm::{
    PcrBank, Tpm, TpmBackend, TpmEmulator, TpmModel, TpmProfile, TpmRemoveDisabled, TpmStorage,
    TpmStorageType, TpmVersion,
};
pub use video::{Acceleration, Resolution, Video, VideoBackend, VideoMemory, VideoModel};
pub use virtio::VirtioOptions;
pub use vsock::{GuestCid, Vsock};
pub use watchdog::{Watchdog, WatchdogAction, WatchdogModel};

/// The guest's devices, those of a kind in document order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// The path of the QEMU binary.
    pub emulator: Option<String>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Controllers.
    pub controllers: Vec<Controller>,
    /// Locks of a lock manager.
    pub leases: Vec<Lease>,
    /// Directories of the host.
    pub filesystems: Vec<Filesystem>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Smart cards.
    pub smartcards: Vec<Smartcard>,
    /// Serial ports.
    pub serials: Vec<Serial>,
    /// Parallel ports.
    pub parallels: Vec<Parallel>,
    /// Consoles.
    pub consoles: Vec<Console>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// Input devices.
    pub inputs: Vec<Input>,
    /// Trusted platform modules.
    pub tpms: Vec<Tpm>,
    /// Displays.
    pub graphics: Vec<Graphics>,
    /// Sound cards.
    pub sounds: Vec<Sound>,
    /// Where sound goes.
    pub audios: Vec<Audio>,
    /// Video cards.
    pub videos: Vec<Video>,
    /// Devices of the host.
    pub hostdevs: Vec<Hostdev>,
    /// USB devices of a remote client.
    pub redirdevs: Vec<Redirdev>,
    /// Rules for redirected devices.
    pub redirfilters: Vec<Redirfilter>,
    /// USB hubs.
    pub hubs: Vec<Hub>,
    /// Watchdogs.
    pub watchdogs: Vec<Watchdog>,
    /// The memory balloon; more than one is refused.
    pub memballoons: Vec<MemBalloon>,
    /// Sources of randomness.
    pub rngs: Vec<Rng>,
    /// Non-volatile memory.
    pub nvrams: Vec<NvramDevice>,
    /// Panic devices.
    pub panics: Vec<Panic>,
    /// Shared memory.
    pub shmems: Vec<Shmem>,
    /// Memory that can be plugged.
    pub memories: Vec<MemoryDevice>,
    /// IOMMUs.
    pub iommus: Vec<Iommu>,
    /// Sockets between guest and host.
    pub vsocks: Vec<Vsock>,
    /// Cryptographic accelerators.
    pub cryptos: Vec<Crypto>,
    /// Storage that survives a crash.
    pub pstores: Vec<Pstore>,
}

impl Devices {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let mut devices = Self::default();
        for child in reader.unread_children() {
            devices.parse_one(&child);
        }
        devices
    }

    fn parse_one(&mut self, child: &Reader<'_>) {
        match child.name() {
            "emulator" => self.emulator = Some(child.text().into_owned()),
            "disk" => self.disks.extend(Disk::parse(child)),
            "controller" => self.controllers.extend(Controller::parse(child)),
            "lease" => self.leases.extend(Lease::parse(child)),
            "filesystem" => self.filesystems.extend(Filesystem::parse(child)),
            "interface" => self.interfaces.extend(Interface::parse(child)),
            "smartcard" => self.smartcards.extend(Smartcard::parse(child)),
            "serial" => self.serials.extend(Serial::parse(child)),
            "parallel" => self.parallels.extend(Parallel::parse(child)),
            "console" => self.consoles.extend(Console::parse(child)),
            "channel" => self.channels.extend(Channel::parse(child)),
            "input" => self.inputs.extend(Input::parse(child)),
            "tpm" => self.tpms.extend(Tpm::parse(child)),
            "graphics" => self.graphics.extend(Graphics::parse(child)),
            "sound" => self.sounds.extend(Sound::parse(child)),
            "audio" => self.audios.extend(Audio::parse(child)),
            "video" => self.videos.extend(Video::parse(child)),
            "hostdev" => self.hostdevs.extend(Hostdev::parse(child)),
            "redirdev" => self.redirdevs.extend(Redirdev::parse(child)),
            "redirfilter" => self.redirfilters.extend(Redirfilter::parse(child)),
            "hub" => self.hubs.extend(Hub::parse(child)),
            "watchdog" => self.watchdogs.extend(Watchdog::parse(child)),
            "memballoon" => self.memballoons.extend(MemBalloon::parse(child)),
            "rng" => self.rngs.extend(Rng::parse(child)),
            "nvram" => self.nvrams.extend(NvramDevice::parse(child)),
            "panic" => self.panics.extend(Panic::parse(child)),
            "shmem" => self.shmems.extend(Shmem::parse(child)),
            "memory" => self.memories.extend(MemoryDevice::parse(child)),
            "iommu" => self.iommus.extend(Iommu::parse(child)),
            "vsock" => self.vsocks.extend(Vsock::parse(child)),
            "crypto" => self.cryptos.extend(Crypto::parse(child)),
            "pstore" => self.pstores.extend(Pstore::parse(child)),
            _ => child.ignore("the element is not known here and is ignored; remove it"),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("devices").children(|w| {
            if let Some(emulator) = &self.emulator {
                w.element("emulator").text(emulator);
            }
            self.disks.iter().for_each(|device| device.write(w));
            self.controllers.iter().for_each(|device| device.write(w));
            self.leases.iter().for_each(|device| device.write(w));
            self.filesystems.iter().for_each(|device| device.write(w));
            self.interfaces.iter().for_each(|device| device.write(w));
            self.smartcards.iter().for_each(|device| device.write(w));
            self.serials.iter().for_each(|device| device.write(w));
            self.parallels.iter().for_each(|device| device.write(w));
            self.consoles.iter().for_each(|device| device.write(w));
            self.channels.iter().for_each(|device| device.write(w));
            self.inputs.iter().for_each(|device| device.write(w));
            self.tpms.iter().for_each(|device| device.write(w));
            self.graphics.iter().for_each(|device| device.write(w));
            self.sounds.iter().for_each(|device| device.write(w));
            self.audios.iter().for_each(|device| device.write(w));
            self.videos.iter().for_each(|device| device.write(w));
            self.hostdevs.iter().for_each(|device| device.write(w));
            self.redirdevs.iter().for_each(|device| device.write(w));
            self.redirfilters.iter().for_each(|device| device.write(w));
            self.hubs.iter().for_each(|device| device.write(w));
            self.watchdogs.iter().for_each(|device| device.write(w));
            self.memballoons.iter().for_each(|device| device.write(w));
            self.rngs.iter().for_each(|device| device.write(w));
            self.nvrams.iter().for_each(|device| device.write(w));
            self.panics.iter().for_each(|device| device.write(w));
            self.shmems.iter().for_each(|device| device.write(w));
            self.memories.iter().for_each(|device| device.write(w));
            self.iommus.iter().for_each(|device| device.write(w));
            self.vsocks.iter().for_each(|device| device.write(w));
            self.cryptos.iter().for_each(|device| device.write(w));
            self.pstores.iter().for_each(|device| device.write(w));
        });
    }
}
