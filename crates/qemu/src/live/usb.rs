//! Ports of USB devices.
//!
//! Ports are assigned at each start and are no part of the definition; see section "USB" of libvirt's
//! documentation of `<hub>`. Where ports are scarce hubs are added, as a person would plug one in.

use std::collections::BTreeMap;

use domain::devices::{
    Address, Controller, ControllerKind, DeviceKind, DeviceRef, Devices, DiskBus, FsDriverType,
    HostdevSource, Hub, InputBus, SerialTarget, UsbAddress, UsbModel,
};
use domain::{Domain, Faults};

/// Ports of a hub, as QEMU has them.
const HUB_PORTS: u32 = 8;

/// The longest way through hubs, in ports (QEMU's `usb_claim_port` and the standard's five hubs).
const LONGEST_PATH: usize = 4;

/// Gives each USB device without a port the lowest one that is free.
pub(crate) fn assign(domain: &mut Domain, faults: &Faults) {
    let mut buses = Buses::of(&domain.devices);
    let hubs: Vec<DeviceRef> = domain.devices.all(DeviceKind::Hub).collect();
    let devices = usb_devices(&domain.devices);
    if hubs.is_empty() && devices.is_empty() {
        return;
    }
    reserve(domain, &mut buses, &hubs, faults);
    reserve(domain, &mut buses, &devices, faults);
    add_hubs(domain, &buses, hubs.len() + devices.len());
    let hubs: Vec<DeviceRef> = domain.devices.all(DeviceKind::Hub).collect();
    for device in hubs.into_iter().chain(devices) {
        let wish = match &domain.devices.info(device).address {
            Some(Address::Usb(address)) if !address.port.is_empty() => continue,
            Some(Address::Usb(address)) => Some(address.bus),
            Some(_) | None => None,
        };
        let Some(address) = buses.free_port(wish) else {
            let what = match wish {
                Some(bus) => format!("USB bus {bus} has no free port; give another bus or none"),
                None => "the guest has no USB; add <controller type='usb' model='qemu-xhci'/>"
                    .to_owned(),
            };
            faults.push(place(domain, device).refused(what));
            continue;
        };
        buses.occupy(&address, device.kind == DeviceKind::Hub);
        domain.devices.info_mut(device).address = Some(Address::Usb(address));
    }
}

/// Takes the ports that the document gives.
fn reserve(domain: &Domain, buses: &mut Buses, devices: &[DeviceRef], faults: &Faults) {
    for device in devices {
        if let Some(Address::Usb(address)) = &domain.devices.info(*device).address
            && !address.port.is_empty()
        {
            let path = address.port_path();
            let what = match buses.state(address) {
                None => format!("USB bus {} has no port {path}; give another or none", address.bus),
                Some(true) => {
                    format!(
                        "another device has port {path} of USB bus {}; give another",
                        address.bus
                    )
                }
                Some(false) => {
                    buses.occupy(address, device.kind == DeviceKind::Hub);
                    continue;
                }
            };
            faults.push(place(domain, *device).refused(what));
        }
    }
}

/// Adds the hubs without which there are more devices than ports.
fn add_hubs(domain: &mut Domain, buses: &Buses, devices: usize) {
    let hubs = domain.devices.hubs.len();
    let ports: u32 = buses.0.values().flatten().map(|(_, hub)| hub.ports).sum();
    // Hubs that have no port yet will bring theirs.
    let placed = buses.0.values().map(BTreeMap::len).sum::<usize>() - buses.0.len();
    let coming = u32::try_from(hubs.saturating_sub(placed)).unwrap_or(u32::MAX);
    let ports = ports.saturating_add(coming.saturating_mul(HUB_PORTS));
    let devices = u32::try_from(devices).unwrap_or(u32::MAX);
    if ports == 0 || devices <= ports {
        return;
    }
    // Each hub takes a port itself.
    let missing = (devices - ports + 1).div_ceil(HUB_PORTS - 1);
    // The count comes from the document; nobody has that many devices.
    domain.devices.hubs.extend((0..missing.min(1000)).map(|_| Hub::default()));
}

/// Ports below a controller or a hub.
#[derive(Debug, Clone, Default)]
struct Ports {
    ports: u32,
    taken: Vec<u32>,
}

/// The ports of all buses: of the controller, whose path is empty, and of the hubs.
#[derive(Debug, Default)]
struct Buses(BTreeMap<u32, BTreeMap<Vec<u32>, Ports>>);

impl Buses {
    fn of(devices: &Devices) -> Self {
        let mut buses = Self::default();
        for controller in &devices.controllers {
            if let Some(ports) = ports(controller) {
                let ports = Ports { ports, taken: Vec::new() };
                buses.0.entry(controller.number()).or_default().insert(Vec::new(), ports);
            }
        }
        buses
    }

    /// Whether a port is taken; none where there is no such port.
    fn state(&self, address: &UsbAddress) -> Option<bool> {
        let (port, path) = address.port.split_last()?;
        let hub = self.0.get(&address.bus)?.get(path)?;
        (*port <= hub.ports).then(|| hub.taken.contains(port))
    }

    fn occupy(&mut self, address: &UsbAddress, is_hub: bool) {
        let Some((port, path)) = address.port.split_last() else { return };
        let Some(bus) = self.0.get_mut(&address.bus) else { return };
        if let Some(hub) = bus.get_mut(path) {
            hub.taken.push(*port);
        }
        if is_hub {
            let ports = Ports { ports: HUB_PORTS, taken: Vec::new() };
            bus.insert(address.port.clone(), ports);
        }
    }

    fn free_port(&self, wish: Option<u32>) -> Option<UsbAddress> {
        self.0
            .iter()
            .filter(|(bus, _)| wish.is_none_or(|wish| wish == **bus))
            .find_map(|(bus, hubs)| Some(UsbAddress { bus: *bus, port: free_below(hubs, &[])? }))
    }
}

/// The lowest free port of a hub, else one below its hubs.
fn free_below(hubs: &BTreeMap<Vec<u32>, Ports>, path: &[u32]) -> Option<Vec<u32>> {
    let hub = hubs.get(path)?;
    if path.len() >= LONGEST_PATH {
        return None;
    }
    let below = |port: u32| [path, &[port]].concat();
    match (1..=hub.ports).find(|port| !hub.taken.contains(port)) {
        Some(port) => Some(below(port)),
        None => (1..=hub.ports).find_map(|port| free_below(hubs, &below(port))),
    }
}

/// Devices on USB but hubs, in the order in which they take ports.
fn usb_devices(devices: &Devices) -> Vec<DeviceRef> {
    let order = [
        DeviceKind::Disk,
        DeviceKind::Interface,
        DeviceKind::Sound,
        DeviceKind::Hostdev,
        DeviceKind::Controller,
        DeviceKind::Serial,
        DeviceKind::Input,
        DeviceKind::Filesystem,
        DeviceKind::Redirdev,
    ];
    order
        .into_iter()
        .flat_map(|kind| devices.all(kind))
        .filter(|device| is_usb(devices, *device))
        .collect()
}

fn is_usb(devices: &Devices, device: DeviceRef) -> bool {
    let index = device.index;
    match device.kind {
        DeviceKind::Disk => devices.disks[index].bus() == DiskBus::Usb,
        DeviceKind::Interface => devices.interfaces[index].model.as_deref() == Some("usb-net"),
        DeviceKind::Hostdev => matches!(devices.hostdevs[index].source, HostdevSource::Usb(_)),
        DeviceKind::Controller => devices.controllers[index].kind == ControllerKind::Ccid,
        DeviceKind::Serial => devices.serials[index].target == Some(SerialTarget::Usb),
        DeviceKind::Input => devices.inputs[index].bus == Some(InputBus::Usb),
        DeviceKind::Redirdev | DeviceKind::Hub => true,
        // Whoever reads one of these in the crate `domain` says here which of its models stand on USB.
        DeviceKind::Sound => false,
        DeviceKind::Filesystem => devices.filesystems[index].driver_type() == FsDriverType::Mtp,
        DeviceKind::Smartcard
        | DeviceKind::Parallel
        | DeviceKind::Console
        | DeviceKind::Channel
        | DeviceKind::Tpm
        | DeviceKind::Video
        | DeviceKind::Watchdog
        | DeviceKind::MemBalloon
        | DeviceKind::Rng
        | DeviceKind::NvramDevice
        | DeviceKind::Panic
        | DeviceKind::Shmem
        | DeviceKind::MemoryDevice
        | DeviceKind::Iommu
        | DeviceKind::Vsock
        | DeviceKind::Crypto
        | DeviceKind::Pstore => false,
    }
}

/// How many ports a USB controller has; companions and other controllers have none of their own.
fn ports(controller: &Controller) -> Option<u32> {
    match controller.usb_model()? {
        UsbModel::Piix3Uhci | UsbModel::Piix4Uhci | UsbModel::Vt82c686bUhci => Some(2),
        UsbModel::PciOhci => Some(3),
        UsbModel::Ehci | UsbModel::Ich9Ehci1 => Some(6),
        UsbModel::NecXhci | UsbModel::QemuXhci => Some(controller.ports.unwrap_or(4)),
        UsbModel::Qusb1 | UsbModel::Qusb2 => Some(controller.ports.unwrap_or(8)),
        UsbModel::Ich9Uhci1 | UsbModel::Ich9Uhci2 | UsbModel::Ich9Uhci3 | UsbModel::None => None,
    }
}

/// Where a device's element stands, or the domain's for one that was added.
fn place(domain: &Domain, device: DeviceRef) -> domain::Place {
    let place = domain.devices.place(device);
    if place.path.is_empty() { domain.place.clone() } else { place.clone() }
}
