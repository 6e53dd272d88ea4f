//! The order in which devices take addresses.

use domain::Domain;
use domain::devices::{ControllerKind, DeviceKind, DeviceRef, InterfaceType};

/// All devices that may want an address, in the order in which they take them.
pub(super) fn devices(domain: &Domain) -> Vec<DeviceRef> {
    let devices = &domain.devices;
    let all = |kind: DeviceKind| devices.all(kind);
    let is_pci = |device: &DeviceRef| {
        matches!(devices.controllers[device.index].kind, ControllerKind::Pci(_))
    };
    let is_hostdev =
        |device: &DeviceRef| devices.interfaces[device.index].kind() == InterfaceType::Hostdev;
    let mut order: Vec<DeviceRef> = Vec::new();
    order.extend(all(DeviceKind::Controller).filter(is_pci));
    order.extend(all(DeviceKind::Filesystem));
    order.extend(all(DeviceKind::Interface).filter(|device| !is_hostdev(device)));
    order.extend(all(DeviceKind::Sound));
    order.extend(all(DeviceKind::Controller).filter(|device| !is_pci(device)));
    order.extend(all(DeviceKind::Disk));
    order.extend(all(DeviceKind::Interface).filter(is_hostdev));
    for kind in [
        DeviceKind::Hostdev,
        DeviceKind::MemBalloon,
        DeviceKind::Rng,
        DeviceKind::Watchdog,
        DeviceKind::Video,
        DeviceKind::Shmem,
        DeviceKind::Input,
        DeviceKind::Serial,
        DeviceKind::Iommu,
        DeviceKind::Vsock,
        DeviceKind::MemoryDevice,
        DeviceKind::Crypto,
        DeviceKind::Panic,
        DeviceKind::Pstore,
    ] {
        order.extend(all(kind));
    }
    order
}
