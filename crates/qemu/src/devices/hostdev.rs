//! Devices of the host in the guest, `<hostdev>`, and interfaces that are such devices.

use domain::devices::{
    Address, ControllerKind, DeviceInfo, DriveAddress, GuestReset, Hostdev, HostdevPolicy,
    HostdevSource, Interface, InterfaceSource, MediatedDevice, PciSource, ScsiHost, ScsiModel,
    Teaming, UsbSource, VirtioModel,
};
use domain::{Domain, PciAddress, Place};

use crate::command::Command;
use crate::devices::{controller, placed, raw_scsi, virtio_driver};
use crate::facts::UsbDevice;
use crate::json::Object;
use crate::plan::{Access, FdKind, PassedPci};

mod check;
mod scsi;

pub(crate) use check::all as check;

/// Units of a SCSI controller's bus that devices take by themselves.
const SCSI_UNITS: u32 = 7;

/// Fills in displays.
pub(crate) fn complete(domain: &mut Domain) {
    for hostdev in &mut domain.devices.hostdevs {
        if let HostdevSource::Mdev(mdev) = &mut hostdev.source {
            mdev.display.get_or_insert(false);
        }
    }
}

/// Gives SCSI devices the lowest unit of the first controller that has one.
pub(crate) fn assign_units(domain: &mut Domain) {
    for index in 0..domain.devices.hostdevs.len() {
        let hostdev = &domain.devices.hostdevs[index];
        if hostdev.info.address.is_some() || !matches!(hostdev.source, HostdevSource::Scsi(_)) {
            continue;
        }
        let taken = scsi_places(domain);
        let places = (0..).flat_map(|c| (0..SCSI_UNITS).map(move |unit| (c, unit)));
        let free = places.into_iter().find(|(controller, unit)| {
            !taken.iter().any(|place| {
                (place.controller, place.bus, place.target, place.unit)
                    == (*controller, 0, 0, *unit)
            })
        });
        if let Some((controller, unit)) = free {
            let address = DriveAddress { controller, bus: 0, target: 0, unit };
            domain.devices.hostdevs[index].info.address = Some(Address::Drive(address));
        }
    }
}

/// Adds the SCSI controllers that SCSI devices of the host stand on, up to the highest. A new one is of the
/// model of those that have the first devices, so that all are served alike.
pub(crate) fn add_controllers(domain: &mut Domain) {
    let mut highest = None;
    let mut kind = ControllerKind::Scsi(Some(ScsiModel::Lsilogic));
    for hostdev in &domain.devices.hostdevs {
        let (HostdevSource::Scsi(_), Some(Address::Drive(drive))) =
            (&hostdev.source, &hostdev.info.address)
        else {
            continue;
        };
        if highest.is_none_or(|highest| highest < drive.controller) {
            highest = Some(drive.controller);
            let mut controllers = domain.devices.controllers.iter();
            let found = controllers.find(|controller| {
                matches!(controller.kind, ControllerKind::Scsi(_))
                    && controller.number() == drive.controller
            });
            kind = found.map_or(kind, |controller| controller.kind);
        }
    }
    if let Some(highest) = highest {
        // The number comes from the document; nobody has that many devices.
        (0..=highest.min(255)).for_each(|number| controller::add(domain, kind, number));
        controller::sort(domain);
    }
}

/// The places that disks and devices of the host have on SCSI.
fn scsi_places(domain: &Domain) -> Vec<DriveAddress> {
    use domain::devices::DiskBus;
    let devices = &domain.devices;
    let disks = devices.disks.iter().filter(|disk| disk.bus() == DiskBus::Scsi);
    let hostdevs = devices.hostdevs.iter().map(|hostdev| &hostdev.info);
    disks
        .map(|disk| &disk.info)
        .chain(hostdevs)
        .filter_map(|info| match &info.address {
            Some(Address::Drive(drive)) => Some(*drive),
            Some(_) | None => None,
        })
        .collect()
}

/// Adds all devices of the host, those that are interfaces first.
pub(crate) fn all_arguments(command: &mut Command<'_>) {
    let devices = &command.domain.devices;
    for interface in &devices.interfaces {
        if let InterfaceSource::Hostdev { address, .. } = &interface.source {
            interface_arguments(command, interface, *address);
        }
    }
    let first = super::disk::first_free_node(command);
    let mut nodes = first..;
    for hostdev in &devices.hostdevs {
        let node = match &hostdev.source {
            HostdevSource::Scsi(_) => nodes.next().unwrap_or_default(),
            HostdevSource::Pci(_)
            | HostdevSource::Usb(_)
            | HostdevSource::ScsiHost(_)
            | HostdevSource::Mdev(_) => 0,
        };
        arguments(command, hostdev, node);
    }
}

fn interface_arguments(command: &mut Command<'_>, interface: &Interface, address: PciAddress) {
    let driver = (interface.managed == Some(true)).then_some(PassedPci::USUAL_DRIVER);
    let teaming = interface.teaming.as_ref();
    pci(command, (address, driver, &interface.place), teaming, &interface.info);
}

fn arguments(command: &mut Command<'_>, hostdev: &Hostdev, node: u32) {
    raw_scsi::warn(command, &hostdev.place, hostdev.raw_io, hostdev.sgio);
    match &hostdev.source {
        HostdevSource::Pci(PciSource { address, driver, .. }) => {
            if driver.model.is_some() && !hostdev.managed {
                let what = "attribute 'model' is ignored, for the device is bound to its driver already; add \
                            managed='yes' to the <hostdev>, or remove it";
                command.ignore(&hostdev.place.child("driver"), what);
            }
            let wanted = driver.model.as_deref().unwrap_or(PassedPci::USUAL_DRIVER);
            let device = (*address, hostdev.managed.then_some(wanted), &hostdev.place);
            pci(command, device, hostdev.teaming.as_ref(), &hostdev.info);
        }
        HostdevSource::Usb(source) => usb(command, hostdev, source),
        HostdevSource::Scsi(source) => scsi::arguments(command, hostdev, source, node),
        HostdevSource::ScsiHost(host) => vhost_scsi(command, hostdev, host),
        HostdevSource::Mdev(mdev) => mediated(command, hostdev, mdev),
    }
}

fn pci(
    command: &mut Command<'_>,
    (address, driver, place): (PciAddress, Option<&str>, &Place),
    teaming: Option<&Teaming>,
    info: &DeviceInfo,
) {
    let driver = driver.map(str::to_owned);
    command.takes_pci(PassedPci { address, driver, place: place.clone() });
    // One without a place is only taken from the host, so that nobody there uses it.
    if info.address == Some(Address::Unassigned) {
        return;
    }
    let persistent = teaming.and_then(|teaming| teaming.persistent.as_ref());
    let device = Object::new("driver", "vfio-pci")
        .set("host", address.to_string())
        .some("failover_pair_id", persistent.map(domain::Alias::as_str));
    command.device(&placed(command, info, device));
}

fn usb(command: &mut Command<'_>, hostdev: &Hostdev, source: &UsbSource) {
    let place = hostdev.place.child("source");
    let device = Object::new("driver", "usb-host");
    let optional = source.policy == Some(HostdevPolicy::Optional);
    let device = match usb_address(command, source, &place) {
        Some((bus, number)) => {
            let path = format!("/dev/bus/usb/{bus:03}/{number:03}");
            command.needs_file(&path, Access::ReadWrite, &place);
            device.set("hostdevice", path)
        }
        // Such a device may come later, and QEMU takes it then.
        None => match (source.bus, source.device) {
            (Some(bus), Some(number)) if optional => {
                device.set("hostbus", bus).set("hostaddr", number)
            }
            (Some(_) | None, _) => {
                device.some("vendorid", source.vendor).some("productid", source.product)
            }
        },
    };
    let (reset, all) = match source.guest_reset {
        None => (None, None),
        Some(GuestReset::Off) => (Some(false), None),
        Some(GuestReset::Uninitialized) => (Some(true), Some(false)),
        Some(GuestReset::On) => (Some(true), Some(true)),
    };
    let device = device.some("guest-reset", reset).some("guest-resets-all", all);
    command.device(&placed(command, &hostdev.info, device));
}

/// Where on the host the device is, as far as it is known; refused when it is not there or not the only one.
fn usb_address(command: &Command<'_>, source: &UsbSource, place: &Place) -> Option<(u32, u32)> {
    let optional = source.policy == Some(HostdevPolicy::Optional);
    let devices = command.facts.usb_devices.as_deref();
    let address = |device: &UsbDevice| (device.bus, device.device);
    if let (Some(bus), Some(device)) = (source.bus, source.device) {
        let there = devices.unwrap_or_default().iter().any(|it| address(it) == (bus, device));
        return (!optional || there).then_some((bus, device));
    }
    let (vendor, product) = (source.vendor?, source.product?);
    let mut found =
        devices?.iter().filter(|device| (device.vendor, device.product) == (vendor, product));
    let what = match (found.next(), found.next()) {
        (Some(only), None) => return Some(address(only)),
        (None, _) if optional => return None,
        (None, _) => format!(
            "the host has no USB device {vendor:04x}:{product:04x}; plug it in, or add \
             startupPolicy='optional'"
        ),
        (Some(first), Some(second)) => {
            let [(bus, device), other] = [first, second].map(address);
            format!(
                "the host has several USB devices {vendor:04x}:{product:04x}, such as {bus}:{device} and {}:{}; \
                 choose one by <address bus='{bus}' device='{device}'/>",
                other.0, other.1
            )
        }
    };
    command.refuse(place, what);
    None
}

fn vhost_scsi(command: &mut Command<'_>, hostdev: &Hostdev, host: &ScsiHost) {
    let path = "/dev/vhost-scsi";
    command.needs_file(path, Access::ReadWrite, &hostdev.place);
    let fd = command.pass_fd(FdKind::device(path));
    let driver = virtio_driver("vhost-scsi", host.model.unwrap_or(VirtioModel::Virtio));
    let device =
        Object::new("driver", driver).set("wwpn", &host.wwpn).set("vhostfd", fd.to_string());
    command.device(&placed(command, &hostdev.info, device));
}

fn mediated(command: &mut Command<'_>, hostdev: &Hostdev, mdev: &MediatedDevice) {
    let path = format!("/sys/bus/mdev/devices/{}", mdev.uuid);
    command.needs_file(&path, Access::Read, &hostdev.place.child("source"));
    // A display of firmware cannot be unplugged, and QEMU has it in another device only.
    let driver = if mdev.ramfb == Some(true) { "vfio-pci-nohotplug" } else { "vfio-pci" };
    let display = mdev.display.map(|display| if display { "on" } else { "off" });
    let device = Object::new("driver", driver)
        .set("sysfsdev", path)
        .some("display", display)
        .some("ramfb", mdev.ramfb);
    command.device(&placed(command, &hostdev.info, device));
}
