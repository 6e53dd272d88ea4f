//! Which devices stand on PCI, and how they connect.

use std::collections::BTreeMap;

use domain::devices::{
    Address, BalloonModel, Controller, ControllerKind, DeviceKind, DeviceRef, DiskBus, DiskModel,
    FsDriverType, HostdevSource, Input, InputBus, InputModel, Interface, InterfaceType, IommuModel,
    MemoryModel, PanicModel, PciModel, ScsiModel, SerialTarget, SoundModel, UsbModel, VideoModel,
    VirtioModel, WatchdogModel,
};
use domain::{Domain, PciAddress, Place};

use crate::board::Board;
use crate::devices::controller::ich9_function;

use super::bus::Connect;

/// Whether a device has no address yet, or asks for one on PCI.
pub(super) fn wants_address(domain: &Domain, device: DeviceRef) -> bool {
    match &domain.devices.info(device).address {
        None => true,
        Some(Address::Pci(place)) => place.address.is_unassigned(),
        Some(_) => false,
    }
}

/// How a device connects to PCI; none for one that does not.
pub(super) fn connect(domain: &Domain, board: Board, device: DeviceRef) -> Option<Connect> {
    let connect = on_express(domain, device)?;
    if board.is_express() || matches!(connect, Connect::Bridge(_)) {
        return Some(connect);
    }
    Some(Connect::Conventional)
}

fn on_express(domain: &Domain, device: DeviceRef) -> Option<Connect> {
    let devices = &domain.devices;
    let index = device.index;
    match device.kind {
        DeviceKind::Controller => controller(&devices.controllers[index]),
        DeviceKind::Disk => {
            let disk = &devices.disks[index];
            (disk.bus() == DiskBus::Virtio)
                .then(|| express_unless(disk.model == Some(DiskModel::Transitional)))
        }
        DeviceKind::Interface => interface(&devices.interfaces[index]),
        DeviceKind::Input => input(&devices.inputs[index]),
        DeviceKind::Video => video(devices.videos[index].model?),
        DeviceKind::MemBalloon => {
            let model = devices.memballoons[index].model;
            let has_device = !matches!(model, BalloonModel::None | BalloonModel::Xen);
            has_device.then(|| express_unless(model == BalloonModel::Transitional))
        }
        DeviceKind::Rng => Some(virtio(devices.rngs[index].model)),
        DeviceKind::Watchdog => (devices.watchdogs[index].model == WatchdogModel::I6300esb)
            .then_some(Connect::Conventional),
        DeviceKind::Serial => (devices.serials[index].target == Some(SerialTarget::Pci))
            .then_some(Connect::Conventional),
        // Whoever reads one of these in the crate `domain` says here which of its models stand on PCI.
        DeviceKind::Hostdev => hostdev(&devices.hostdevs[index].source),
        DeviceKind::Vsock => {
            Some(virtio(devices.vsocks[index].model.unwrap_or(VirtioModel::Virtio)))
        }
        DeviceKind::Iommu => {
            (devices.iommus[index].model == IommuModel::Virtio).then_some(Connect::Integrated)
        }
        DeviceKind::Filesystem => {
            let filesystem = &devices.filesystems[index];
            let on_pci = filesystem.driver_type() != FsDriverType::Mtp;
            on_pci.then(|| virtio(filesystem.model.unwrap_or(VirtioModel::Virtio)))
        }
        DeviceKind::MemoryDevice => match devices.memories[index].model {
            MemoryModel::VirtioMem | MemoryModel::VirtioPmem => Some(Connect::Express),
            MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::SgxEpc => None,
        },
        DeviceKind::Shmem | DeviceKind::Crypto | DeviceKind::Pstore => Some(Connect::Conventional),
        DeviceKind::Sound => sound(devices.sounds[index].model),
        DeviceKind::Panic => (devices.panics[index].model == Some(PanicModel::Pvpanic))
            .then_some(Connect::Integrated),
        DeviceKind::Smartcard
        | DeviceKind::Parallel
        | DeviceKind::Console
        | DeviceKind::Channel
        | DeviceKind::Tpm
        | DeviceKind::Redirdev
        | DeviceKind::Hub
        | DeviceKind::NvramDevice => None,
    }
}

/// Devices of Express, unless they are to look like those of its predecessor.
fn express_unless(conventional: bool) -> Connect {
    if conventional { Connect::Conventional } else { Connect::Express }
}

fn virtio(model: VirtioModel) -> Connect {
    express_unless(model == VirtioModel::Transitional)
}

fn controller(controller: &Controller) -> Option<Connect> {
    match controller.kind {
        ControllerKind::Pci(Some(PciModel::PciRoot | PciModel::PcieRoot) | None) => None,
        ControllerKind::Pci(Some(model)) => Some(Connect::Bridge(model)),
        ControllerKind::Usb(Some(UsbModel::None) | None) => None,
        ControllerKind::Usb(Some(UsbModel::QemuXhci | UsbModel::NecXhci)) => Some(Connect::Express),
        ControllerKind::Usb(Some(_)) => Some(Connect::Conventional),
        ControllerKind::Scsi(Some(ScsiModel::VirtioScsi | ScsiModel::VirtioNonTransitional)) => {
            Some(Connect::Express)
        }
        ControllerKind::VirtioSerial(model) => Some(virtio(model.unwrap_or(VirtioModel::Virtio))),
        ControllerKind::Scsi(_) | ControllerKind::Ide(_) | ControllerKind::Sata => {
            Some(Connect::Conventional)
        }
        ControllerKind::Fdc | ControllerKind::Ccid => None,
    }
}

fn interface(interface: &Interface) -> Option<Connect> {
    if interface.kind() == InterfaceType::Hostdev {
        return Some(Connect::Express);
    }
    match interface.model.as_deref()? {
        "virtio" | "virtio-non-transitional" | "e1000e" | "igb" => Some(Connect::Express),
        "usb-net" => None,
        _ => Some(Connect::Conventional),
    }
}

fn hostdev(source: &HostdevSource) -> Option<Connect> {
    match source {
        HostdevSource::Pci(_) | HostdevSource::Mdev(_) => Some(Connect::Express),
        HostdevSource::ScsiHost(host) => Some(virtio(host.model.unwrap_or(VirtioModel::Virtio))),
        HostdevSource::Usb(_) | HostdevSource::Scsi(_) => None,
    }
}

fn input(input: &Input) -> Option<Connect> {
    (input.bus == Some(InputBus::Virtio))
        .then(|| express_unless(input.model == Some(InputModel::Transitional)))
}

fn sound(model: SoundModel) -> Option<Connect> {
    match model {
        SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb => None,
        SoundModel::Virtio => Some(Connect::Express),
        SoundModel::Es1370
        | SoundModel::Ac97
        | SoundModel::Ich6
        | SoundModel::Ich7
        | SoundModel::Ich9 => Some(Connect::Conventional),
    }
}

fn video(model: VideoModel) -> Option<Connect> {
    match model {
        VideoModel::None | VideoModel::Ramfb => None,
        VideoModel::Virtio | VideoModel::Bochs => Some(Connect::Express),
        VideoModel::Default
        | VideoModel::Vga
        | VideoModel::Cirrus
        | VideoModel::Vmvga
        | VideoModel::Xen
        | VideoModel::Vbox
        | VideoModel::Qxl
        | VideoModel::Parallels
        | VideoModel::Gop => Some(Connect::Conventional),
    }
}

/// The function of a slot that a device takes: 0, but for parts of an ICH9 USB controller.
pub(super) fn function(domain: &Domain, device: DeviceRef) -> u8 {
    let part = || domain.devices.controllers[device.index].usb_model().and_then(ich9_function);
    if device.kind == DeviceKind::Controller { part().unwrap_or(0) } else { 0 }
}

/// The place beside its siblings that a part of an ICH9 USB controller takes.
pub(super) fn companion(
    domain: &Domain,
    assigned: &BTreeMap<DeviceRef, PciAddress>,
    device: DeviceRef,
) -> Option<PciAddress> {
    if device.kind != DeviceKind::Controller {
        return None;
    }
    let controllers = &domain.devices.controllers;
    let own = &controllers[device.index];
    let function = ich9_function(own.usb_model()?)?;
    let sibling = domain.devices.all(DeviceKind::Controller).find_map(|other| {
        let controller = &controllers[other.index];
        let is_sibling = other != device
            && controller.number() == own.number()
            && controller.usb_model().and_then(ich9_function).is_some();
        let given = controller.info.pci().map(|place| place.address);
        let found = assigned.get(&other).copied();
        given.or(found).filter(|_| is_sibling)
    })?;
    PciAddress::new(sibling.domain(), sibling.bus(), sibling.slot(), function)
}

/// Where a device's element stands, for messages.
pub(crate) fn place(domain: &Domain, device: DeviceRef) -> Place {
    let place = domain.devices.place(device);
    // A device that defaults added stands nowhere; the message is about the whole domain then.
    if place.path.is_empty() { domain.place.clone() } else { place.clone() }
}
