//! Which device of a definition is which of the running guest.
//!
//! A device that is there keeps what the guest's start assigned to it: address, alias, number of its block node. So the
//! definition is completed twice: once to know all its devices, those too that nobody wrote, and once more when those
//! that are there have their places, so that new ones get what is free.

use std::collections::{BTreeMap, BTreeSet};

use domain::devices::{
    Address, Controller, ControllerType, DeviceKind, DeviceRef, Devices, Hub, Input, Interface,
    MemoryModel, PciTarget,
};
use domain::{Domain, Faults, Place, Position};

use super::compare::Xml;
use super::pluggable::Pluggable;
use crate::devices::{controller, disk, input};
use crate::facts::HostFacts;

/// A device of the running guest, of the definition, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// It is there, and stays.
    Both {
        /// In the live domain.
        live: DeviceRef,
        /// In the wanted one.
        wanted: DeviceRef,
    },
    /// It is there, and goes.
    Gone(DeviceRef),
    /// It comes.
    New(DeviceRef),
}

/// A definition, with what its devices have in the running guest.
#[derive(Debug)]
pub(super) struct Paired {
    pub(super) wanted: Domain,
    pub(super) pairs: Vec<Pair>,
}

/// Finds the devices of a definition in the running guest. Nothing when it is refused.
pub(super) fn find(
    live: &Domain,
    definition: &Domain,
    facts: &HostFacts,
    faults: &Faults,
) -> Option<Paired> {
    let mut wanted = definition.clone();
    let first = Faults::new();
    crate::complete(&mut wanted, facts, &first);
    if first.any_refused() {
        first.into_sorted().into_iter().for_each(|fault| faults.push(fault));
        return None;
    }
    let written = Written::of(definition);
    let matches = Matches::of(live, &wanted, &written);
    for (device, found) in &matches.0 {
        match found {
            Some(found) => keep(live, *found, &mut wanted, *device, &written),
            None => forget(&mut wanted, *device, &written),
        }
    }
    keep_buses(live, &mut wanted);
    crate::complete(&mut wanted, facts, faults);
    check_macs(&wanted, &written, faults);
    if faults.any_refused() {
        return None;
    }
    // No device but buses moves when the domain is completed once more.
    let matches = matches.again(live, &wanted);
    matches.keep_aliases(live, &mut wanted);
    let wanted = crate::running(&wanted, facts, faults);
    (!faults.any_refused()).then(|| Paired { wanted, pairs: matches.pairs(live) })
}

/// What the definition itself says, and nothing has filled in.
struct Written {
    addresses: BTreeSet<(DeviceKind, Position)>,
    macs: BTreeSet<Position>,
    /// PCI controllers that say by which numbers they show themselves.
    ports: BTreeSet<Position>,
}

impl Written {
    fn of(domain: &Domain) -> Self {
        let devices = &domain.devices;
        let all = DeviceKind::ALL.into_iter().flat_map(|kind| devices.all(kind));
        let placed = all.filter(|device| devices.info(*device).address.is_some());
        let interfaces = devices.interfaces.iter().filter(|it| it.mac.address.is_some());
        Self {
            addresses: placed.map(|it| (it.kind, devices.place(it).position)).collect(),
            macs: interfaces.map(|it| it.place.position).collect(),
            ports: devices
                .controllers
                .iter()
                .filter(|it| it.pci_target != PciTarget::default())
                .map(|it| it.place.position)
                .collect(),
        }
    }

    fn has_address(&self, devices: &Devices, device: DeviceRef) -> bool {
        self.addresses.contains(&(device.kind, devices.place(device).position))
    }

    fn has_mac(&self, place: &Place) -> bool {
        self.macs.contains(&place.position)
    }
}

/// Each device of the definition, with the one of the guest that it is.
#[derive(Default)]
struct Matches(BTreeMap<DeviceRef, Option<DeviceRef>>);

impl Matches {
    fn of(live: &Domain, wanted: &Domain, written: &Written) -> Self {
        let mut matches = Self::default();
        let contents = [live, wanted].map(Xml::of);
        for kind in DeviceKind::ALL {
            matches.of_kind(kind, live, wanted, &contents, written);
        }
        matches
    }

    fn of_kind(
        &mut self,
        kind: DeviceKind,
        live: &Domain,
        wanted: &Domain,
        contents: &[Xml; 2],
        written: &Written,
    ) {
        let (old, new) = (&live.devices, &wanted.devices);
        match Pluggable::of(kind) {
            Some(Pluggable::Disk) => {
                self.by(kind, old, new, |old, new| {
                    live.devices.disks[old].target == wanted.devices.disks[new].target
                });
            }
            Some(Pluggable::Controller) => self.controllers(old, new),
            Some(Pluggable::Interface) => {
                let (old_all, new_all) = (&old.interfaces, &new.interfaces);
                let has_mac = |new: usize| written.has_mac(&new_all[new].place);
                self.by(kind, old, new, |old, new| {
                    has_mac(new) && old_all[old].mac.address == new_all[new].mac.address
                });
                self.by(kind, old, new, |old, new| {
                    !has_mac(new) && same(kind, contents, old, new, &["mac"])
                });
                self.leave(kind, new);
            }
            Some(Pluggable::Memory) => {
                self.by(kind, old, new, |old, new| same(kind, contents, old, new, &[]));
                let (old_all, new_all) = (&old.memories, &new.memories);
                self.by(kind, old, new, |old, new| {
                    let (old, new) = (&old_all[old], &new_all[new]);
                    old.model == new.model && new.model == MemoryModel::VirtioMem
                });
                self.leave(kind, new);
            }
            Some(Pluggable::Rng) => {
                self.by(kind, old, new, |old, new| same(kind, contents, old, new, &[]));
                self.leave(kind, new);
            }
            Some(Pluggable::Input) => {
                let stays = |it: &Input| !input::is_pluggable(it);
                let (old_all, new_all) = (&old.inputs, &new.inputs);
                self.by(kind, old, new, |old, new| {
                    old == new && same(kind, contents, old, new, &[])
                });
                self.by(kind, old, new, |old, new| same(kind, contents, old, new, &[]));
                self.by(kind, old, new, |old, new| stays(&old_all[old]) && stays(&new_all[new]));
                self.leave(kind, new);
            }
            None => {
                let same = |old, new| same(kind, contents, old, new, &[]);
                // Of several that say the same each is itself.
                self.by(kind, old, new, |old, new| old == new && same(old, new));
                self.by(kind, old, new, same);
                // One that changed stands where it stood.
                self.by(kind, old, new, |_, _| true);
            }
        }
    }

    fn controllers(&mut self, old: &Devices, new: &Devices) {
        let key = |it: &Controller| (it.controller_type(), it.number(), it.info.master_start_port);
        self.by(DeviceKind::Controller, old, new, |first, second| {
            key(&old.controllers[first]) == key(&new.controllers[second])
        });
        self.leave(DeviceKind::Controller, new);
    }

    /// Matches what has no match yet and is the same.
    fn by(
        &mut self,
        kind: DeviceKind,
        old: &Devices,
        new: &Devices,
        is_same: impl Fn(usize, usize) -> bool,
    ) {
        for device in new.all(kind) {
            if self.0.get(&device).is_some_and(Option::is_some) {
                continue;
            }
            let free = |live: &DeviceRef| !self.0.values().any(|taken| *taken == Some(*live));
            let found = old.all(kind).find(|live| free(live) && is_same(live.index, device.index));
            self.0.insert(device, found);
        }
    }

    /// Those that have no match are new.
    fn leave(&mut self, kind: DeviceKind, new: &Devices) {
        for device in new.all(kind) {
            self.0.entry(device).or_insert(None);
        }
    }

    /// The same with the buses of a domain that was completed meanwhile.
    fn again(mut self, live: &Domain, wanted: &Domain) -> Self {
        self.0.retain(|device, _| device.kind != DeviceKind::Controller);
        self.controllers(&live.devices, &wanted.devices);
        self.by(DeviceKind::Hub, &live.devices, &wanted.devices, |old, new| old == new);
        self
    }

    fn keep_aliases(&self, live: &Domain, wanted: &mut Domain) {
        for (device, found) in
            self.0.iter().filter_map(|(device, found)| Some((*device, (*found)?)))
        {
            let info = wanted.devices.info_mut(device);
            if info.alias.is_none() {
                info.alias.clone_from(&live.devices.info(found).alias);
            }
        }
    }

    fn pairs(self, live: &Domain) -> Vec<Pair> {
        let all = DeviceKind::ALL.into_iter().flat_map(|kind| live.devices.all(kind));
        let found: BTreeSet<DeviceRef> = self.0.values().copied().flatten().collect();
        let gone = all.filter(|device| !found.contains(device)).map(Pair::Gone);
        let others = self.0.iter().map(|(wanted, live)| match live {
            Some(live) => Pair::Both { live: *live, wanted: *wanted },
            None => Pair::New(*wanted),
        });
        gone.chain(others).collect()
    }
}

/// Whether two devices of a kind say the same, but for what starts assign and these parts.
fn same(kind: DeviceKind, [live, wanted]: &[Xml; 2], old: usize, new: usize, but: &[&str]) -> bool {
    let without: Vec<&str> = ["alias", "address"].iter().chain(but).copied().collect();
    let content = |tree: &Xml, index| tree.device(kind, index).map(|it| it.without(&without));
    content(live, old) == content(wanted, new)
}

/// Gives a device what it has in the running guest and the definition does not say.
fn keep(
    live: &Domain,
    found: DeviceRef,
    wanted: &mut Domain,
    device: DeviceRef,
    written: &Written,
) {
    let has_address = written.has_address(&wanted.devices, device);
    let old = live.devices.info(found);
    if !has_address {
        wanted.devices.info_mut(device).address.clone_from(&old.address);
    }
    match Pluggable::of(device.kind) {
        Some(Pluggable::Disk) => {
            let source = &live.devices.disks[found.index].source;
            disk::keep_numbers(&mut wanted.devices.disks[device.index], source);
        }
        Some(Pluggable::Interface) => {
            let interface = &mut wanted.devices.interfaces[device.index];
            if !written.has_mac(&interface.place) {
                interface.mac.address = live.devices.interfaces[found.index].mac.address;
            }
        }
        Some(Pluggable::Controller) => {
            let controller = &mut wanted.devices.controllers[device.index];
            if !written.ports.contains(&controller.place.position) {
                controller.pci_target = live.devices.controllers[found.index].pci_target.clone();
            }
        }
        Some(Pluggable::Memory | Pluggable::Rng | Pluggable::Input) | None => {}
    }
}

/// Takes from a new device the place that it would have in a guest that starts. Disks have theirs by their letters.
fn forget(wanted: &mut Domain, device: DeviceRef, written: &Written) {
    if written.has_address(&wanted.devices, device) {
        return;
    }
    let info = wanted.devices.info_mut(device);
    info.address = info.address.take().filter(|address| matches!(address, Address::Drive(_)));
}

/// Gives the guest the PCI buses that it has: none comes while it runs, and one that is not needed stays.
fn keep_buses(live: &Domain, wanted: &mut Domain) {
    let is_pci = |it: &Controller| it.controller_type() == ControllerType::Pci;
    let buses = || live.devices.controllers.iter().filter(|it| is_pci(it));
    let kept = |bus: &Controller| Controller { place: Place::default(), ..bus.clone() };
    let controllers = &mut wanted.devices.controllers;
    let is_filled_in = |it: &Controller| is_pci(it) && it.place.path.is_empty();
    controllers.retain(|it| !is_filled_in(it) || buses().any(|bus| bus.number() == it.number()));
    for bus in buses() {
        match controllers.iter_mut().find(|it| is_pci(it) && it.number() == bus.number()) {
            Some(written) if !is_filled_in(written) => {}
            Some(filled_in) => *filled_in = kept(bus),
            None => controllers.push(kept(bus)),
        }
    }
    controller::sort(wanted);
    // Hubs come with USB devices for which there would be no port.
    let hubs = &mut wanted.devices.hubs;
    let more = live.devices.hubs.iter().skip(hubs.len());
    hubs.extend(more.map(|hub| Hub { place: Place::default(), ..hub.clone() }));
}

/// An address that follows from an interface's place may be that of another one, which had the place before.
fn check_macs(wanted: &Domain, written: &Written, faults: &Faults) {
    let interfaces = &wanted.devices.interfaces;
    let follows = |it: &&Interface| it.mac.address.is_some() && !written.has_mac(&it.place);
    for interface in interfaces.iter().filter(follows) {
        let same = interfaces.iter().filter(|other| other.mac.address == interface.mac.address);
        if same.count() > 1 {
            let what = "another interface of the guest has its address; add an <mac address='...'/> of its own";
            faults.push(interface.place.refused(what));
        }
    }
}
