//! The ids of devices.

use std::collections::BTreeSet;

use domain::devices::{
    Address, ControllerKind, ControllerType, DeviceKind, DeviceRef, Disk, DiskBus, InterfaceType,
    MemoryModel, ScsiModel, Serial,
};
use domain::{Alias, Domain};

use crate::board::Board;

/// Gives each device without an alias the one that libvirt would give it.
pub(crate) fn assign(domain: &mut Domain) {
    let mut taken = aliases(domain);
    // Interfaces and devices of the host count only those without an alias of the user's.
    let (mut nets, mut hostdevs) = (0.., 0..);
    for kind in DeviceKind::ALL {
        for device in domain.devices.all(kind) {
            if domain.devices.info(device).alias.is_none() {
                let name = if is_hostdev(domain, device) {
                    hostdevs.next().map(|number: u32| format!("hostdev{number}"))
                } else if kind == DeviceKind::Interface {
                    nets.next().map(|number: u32| format!("net{number}"))
                } else {
                    Some(name(domain, device))
                };
                // A port that is seen again is one device under two elements.
                let again =
                    kind == DeviceKind::Console && port_seen_again(domain, device.index).is_some();
                let name = name.map(|name| if again { name } else { free(name, &mut taken) });
                let alias: Option<Alias> = name.and_then(|name| name.parse().ok());
                domain.devices.info_mut(device).alias = alias;
            }
        }
    }
}

/// The aliases that devices have: of the user's choice, or since the guest was started.
fn aliases(domain: &Domain) -> BTreeSet<String> {
    let devices = DeviceKind::ALL.into_iter().flat_map(|kind| domain.devices.all(kind));
    let aliases = devices.filter_map(|device| domain.devices.info(device).alias.as_ref());
    aliases.map(|alias| alias.as_str().to_owned()).collect()
}

/// The name; where another device has it, with the first number at its end that is free.
fn free(name: String, taken: &mut BTreeSet<String>) -> String {
    if taken.insert(name.clone()) {
        return name;
    }
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let mut names = (0u32..).map(|number| format!("{stem}{number}"));
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// Whether a device is one of the host, an interface perhaps.
fn is_hostdev(domain: &Domain, device: DeviceRef) -> bool {
    device.kind == DeviceKind::Hostdev
        || device.kind == DeviceKind::Interface
            && domain.devices.interfaces[device.index].kind() == InterfaceType::Hostdev
}

fn name(domain: &Domain, device: DeviceRef) -> String {
    let index = device.index;
    match device.kind {
        DeviceKind::Disk => disk(domain, &domain.devices.disks[index]),
        DeviceKind::Controller => controller(domain, index),
        DeviceKind::Filesystem => format!("fs{index}"),
        DeviceKind::Interface => format!("net{index}"),
        DeviceKind::Smartcard => format!("smartcard{index}"),
        DeviceKind::Serial => format!("serial{index}"),
        DeviceKind::Parallel => format!("parallel{index}"),
        DeviceKind::Console => console(domain, index),
        DeviceKind::Channel => format!("channel{index}"),
        DeviceKind::Input => format!("input{index}"),
        DeviceKind::Tpm => format!("tpm{index}"),
        DeviceKind::Sound => format!("sound{index}"),
        DeviceKind::Video => format!("video{index}"),
        DeviceKind::Hostdev => format!("hostdev{index}"),
        DeviceKind::Redirdev => format!("redir{index}"),
        DeviceKind::Hub => format!("hub{index}"),
        DeviceKind::Watchdog => format!("watchdog{index}"),
        DeviceKind::MemBalloon => format!("balloon{index}"),
        DeviceKind::Rng => format!("rng{index}"),
        DeviceKind::NvramDevice => format!("nvram{index}"),
        DeviceKind::Panic => format!("panic{index}"),
        DeviceKind::Shmem => format!("shmem{index}"),
        DeviceKind::MemoryDevice => memory_device(domain, index),
        DeviceKind::Iommu => format!("iommu{index}"),
        DeviceKind::Vsock => format!("vsock{index}"),
        DeviceKind::Crypto => format!("crypto{index}"),
        DeviceKind::Pstore => format!("pstore{index}"),
    }
}

/// A console that is a serial port seen again is called as that.
fn console(domain: &Domain, index: usize) -> String {
    let port = port_seen_again(domain, index).map(|port| port.info.alias().to_owned());
    port.unwrap_or_else(|| format!("console{index}"))
}

fn port_seen_again(domain: &Domain, index: usize) -> Option<&Serial> {
    let devices = &domain.devices;
    let is_port = index == 0 && devices.consoles[index].is_serial();
    devices.serials.first().filter(|_| is_port)
}

/// Modules are named after their slots, other devices counted by model.
fn memory_device(domain: &Domain, index: usize) -> String {
    let devices = &domain.devices.memories;
    let device = &devices[index];
    let before = devices[..index].iter().filter(|other| other.model == device.model).count();
    let slot = || match &device.info.address {
        Some(Address::Dimm(dimm)) => dimm.slot.unwrap_or_default(),
        Some(_) | None => 0,
    };
    match device.model {
        MemoryModel::Dimm => format!("dimm{}", slot()),
        MemoryModel::Nvdimm => format!("nvdimm{}", slot()),
        MemoryModel::VirtioMem => format!("virtiomem{before}"),
        MemoryModel::VirtioPmem => format!("virtiopmem{before}"),
        MemoryModel::SgxEpc => format!("epc{before}"),
    }
}

fn disk(domain: &Domain, disk: &Disk) -> String {
    let bus = disk.bus();
    let Some(Address::Drive(drive)) = &disk.info.address else {
        return format!("{bus}-disk{}", disk.target.index());
    };
    let (c, b, t, u) = (drive.controller, drive.bus, drive.target, drive.unit);
    if bus == DiskBus::Scsi && has_targets(domain, c) {
        return format!("scsi{c}-{b}-{t}-{u}");
    }
    format!("{bus}{c}-{b}-{u}")
}

/// Whether a SCSI controller tells targets from units; the oldest model does not.
fn has_targets(domain: &Domain, index: u32) -> bool {
    domain.devices.controllers.iter().any(|controller| {
        let model = if let ControllerKind::Scsi(model) = controller.kind { model } else { None };
        controller.number() == index && model.is_some_and(|model| model != ScsiModel::Lsilogic)
    })
}

fn controller(domain: &Domain, position: usize) -> String {
    let controller = &domain.devices.controllers[position];
    let board = Board::of_domain(domain);
    let (number, kind) = (controller.number(), controller.controller_type());
    match (kind, number) {
        (ControllerType::Pci, 0) => board.root_bus().to_owned(),
        (ControllerType::Pci, _) => format!("pci.{number}"),
        (kind, 0) if board.pci_root().is_some() && board.own_disks() == Some(kind) => {
            "ide".to_owned()
        }
        (ControllerType::Usb, 0) => "usb".to_owned(),
        (kind, _) => format!("{kind}{number}"),
    }
}
