//! The order in which firmware tries devices, and its menu.

use domain::devices::DiskDevice;
use domain::{BootDevice, Domain, Faults};

use crate::argv::Options;
use crate::command::Command;
use crate::rules::refuse_broken;

/// Boots from a hard disk when the domain says nothing else.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let ordered = domain.devices.disks.iter().any(|disk| disk.info.boot_order.is_some())
        || domain.devices.filesystems.iter().any(|fs| fs.info.boot_order.is_some())
        || domain.devices.interfaces.iter().any(|net| net.info.boot_order.is_some())
        || domain.devices.hostdevs.iter().any(|hostdev| hostdev.info.boot_order.is_some())
        || domain.devices.redirdevs.iter().any(|redirdev| redirdev.info.boot_order.is_some());
    let os = &domain.os;
    let ports = &domain.devices.serials;
    // A console is a serial port, too, unless it says otherwise.
    let serial = !ports.is_empty() || !domain.devices.consoles.is_empty();
    let timeout = os.bios.reboot_timeout;
    let kernel = os.kernel.is_some();
    let rules = [
        (
            ordered && !os.boot.is_empty(),
            "<boot> stands here and in devices; remove it here or there",
        ),
        (
            timeout.is_some_and(|timeout| !(-1..=65_535).contains(&timeout)),
            "'rebootTimeout' is a number of -1 to 65535; give one of these",
        ),
        (
            os.bios.use_serial == Some(true) && !serial,
            "useserial='yes' needs a serial port; add <serial type='pty'/>",
        ),
        (
            !kernel && (os.initrd.is_some() || os.cmdline.is_some() || os.shim.is_some()),
            "<initrd>, <cmdline> and <shim> are for a <kernel>; add it",
        ),
    ];
    refuse_broken(faults, &os.place, rules);
    if domain.os.boot.is_empty() && !ordered {
        domain.os.boot.push(BootDevice::HardDisk);
    }
}

/// Turns the list of kinds of `<os>` into an order of devices: the first device of each kind takes its place.
pub(crate) fn assign(domain: &mut Domain) {
    for (order, kind) in (1..).zip(&domain.os.boot) {
        let devices = &mut domain.devices;
        let info = if *kind == BootDevice::Network {
            devices.interfaces.first_mut().map(|interface| &mut interface.info)
        } else {
            let mut disks = devices.disks.iter_mut();
            disks.find(|disk| boots(*kind, disk.device())).map(|disk| &mut disk.info)
        };
        if let Some(info) = info {
            info.boot_order.get_or_insert(order);
        }
    }
}

fn boots(kind: BootDevice, device: DiskDevice) -> bool {
    match device {
        DiskDevice::Disk | DiskDevice::Lun => kind == BootDevice::HardDisk,
        DiskDevice::Cdrom => kind == BootDevice::Cdrom,
        DiskDevice::Floppy => kind == BootDevice::Floppy,
    }
}

/// Adds `-boot`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let os = &command.domain.os;
    let strict = ("strict", "on".to_owned());
    let mut pairs = Vec::new();
    if let Some(enable) = os.boot_menu.enable {
        pairs.push(("menu", if enable { "on" } else { "off" }.to_owned()));
    }
    if let Some(timeout) = os.boot_menu.timeout.filter(|_| os.boot_menu.enable == Some(true)) {
        pairs.push(("splash-time", timeout.to_string()));
    }
    if let Some(timeout) = os.bios.reboot_timeout {
        pairs.push(("reboot-timeout", timeout.to_string()));
    }
    pairs.push(strict);
    let mut pairs = pairs.into_iter();
    if let Some((key, value)) = pairs.next() {
        let options = pairs.fold(Options::pair(key, value), |o, (key, value)| o.set(key, value));
        command.argv.options("-boot", options);
    }
}
