//! Devices of the host that cannot be.

use domain::devices::{
    Address, AddressType, HostDriver, HostDriverName, Hostdev, HostdevSource, InterfaceSource,
    MediatedDevice, MediatedModel, PciSource, Teaming, TeamingType,
};
use domain::{Domain, Faults, PciAddress};

/// Refuses devices that the host or the guest cannot have, and those that stand here twice.
pub(crate) fn all(domain: &Domain, faults: &Faults) {
    let mut pci: Vec<PciAddress> = Vec::new();
    for interface in &domain.devices.interfaces {
        if let InterfaceSource::Hostdev { driver, address } = &interface.source {
            for what in [driver_fault(driver), twice(&mut pci, *address)].into_iter().flatten() {
                faults.push(interface.place.refused(what));
            }
        }
    }
    let hostdevs = &domain.devices.hostdevs;
    for (index, hostdev) in hostdevs.iter().enumerate() {
        let mut found: Vec<String> = one(domain, hostdev).into_iter().flatten().collect();
        if let HostdevSource::Pci(PciSource { driver, address, .. }) = &hostdev.source {
            found.extend(driver_fault(driver));
            found.extend(twice(&mut pci, *address));
        } else if hostdevs[..index].iter().any(|other| same(other, hostdev)) {
            found.push("the device stands here a second time; remove this one".to_owned());
        }
        for what in found {
            faults.push(hostdev.place.refused(what));
        }
    }
}

fn twice(seen: &mut Vec<PciAddress>, address: PciAddress) -> Option<String> {
    let again = seen.contains(&address);
    seen.push(address);
    again.then(|| format!("the device {address} stands here a second time; remove this one"))
}

fn same(one: &Hostdev, other: &Hostdev) -> bool {
    match (&one.source, &other.source) {
        (HostdevSource::Usb(one), HostdevSource::Usb(other)) => {
            one.bus.is_some() && (one.bus, one.device) == (other.bus, other.device)
        }
        (HostdevSource::Mdev(one), HostdevSource::Mdev(other)) => one.uuid == other.uuid,
        (HostdevSource::ScsiHost(one), HostdevSource::ScsiHost(other)) => one.wwpn == other.wwpn,
        (one, other) => one == other,
    }
}

fn driver_fault(driver: &HostDriver) -> Option<String> {
    match driver.name? {
        HostDriverName::Vfio => None,
        name @ (HostDriverName::Kvm | HostDriverName::Xen) => {
            Some(format!("driver '{name}' passes no device to QEMU; use <driver name='vfio'/>"))
        }
    }
}

fn one(domain: &Domain, hostdev: &Hostdev) -> [Option<String>; 5] {
    let kind = hostdev.source.kind();
    let boots = hostdev.info.boot_order.is_some();
    let scsi_host = matches!(hostdev.source, HostdevSource::ScsiHost(_));
    let team = hostdev.teaming.is_some() && !matches!(hostdev.source, HostdevSource::Pci(_));
    let mediated = match &hostdev.source {
        HostdevSource::Mdev(mdev) => display(domain, mdev),
        HostdevSource::Pci(_)
        | HostdevSource::Usb(_)
        | HostdevSource::Scsi(_)
        | HostdevSource::ScsiHost(_) => None,
    };
    [
        address(hostdev),
        (boots && scsi_host)
            .then(|| format!("type '{kind}': no guest boots from it; remove <boot>")),
        team.then(|| format!("type '{kind}': only a PCI device is in a team; remove <teaming>")),
        mediated,
        hostdev.teaming.as_ref().and_then(stays),
    ]
}

/// Of a team, the device of the host is the one that goes.
fn stays(teaming: &Teaming) -> Option<String> {
    let goes = teaming.kind == TeamingType::Transient && teaming.persistent.is_some();
    (!goes).then(|| {
        "the device goes when the guest moves; use <teaming type='transient' persistent='ua-...'/>"
            .to_owned()
    })
}

/// Each type of device stands on its own type of bus.
fn address(hostdev: &Hostdev) -> Option<String> {
    let given = hostdev.info.address.as_ref().map(Address::kind)?;
    let fits = match &hostdev.source {
        HostdevSource::Pci(_) => {
            matches!(given, AddressType::Pci | AddressType::Unassigned)
        }
        HostdevSource::ScsiHost(_) | HostdevSource::Mdev(_) => given == AddressType::Pci,
        HostdevSource::Usb(_) => given == AddressType::Usb,
        HostdevSource::Scsi(_) => given == AddressType::Drive,
    };
    let kind = hostdev.source.kind();
    (!fits)
        .then(|| format!("a device of type '{kind}' has no address of type '{given}'; remove it"))
}

fn display(domain: &Domain, mdev: &MediatedDevice) -> Option<String> {
    if mdev.model != MediatedModel::VfioPci {
        return Some(format!(
            "no supported guest has model '{}'; use model='vfio-pci'",
            mdev.model
        ));
    }
    if mdev.display == Some(true) && domain.devices.graphics.is_empty() {
        return Some("there is nothing to show its display on; add <graphics>".to_owned());
    }
    let without = mdev.ramfb == Some(true) && mdev.display != Some(true);
    without.then(|| "'ramfb' is a part of the display; add display='on'".to_owned())
}
