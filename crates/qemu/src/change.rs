//! What a running guest lacks of a definition: what can be changed while it runs, and what needs a restart.
//!
//! ```text
//!   live (Domain::parse_running) --+
//!                                  +-- change --> Changes { steps, restart, wanted }
//!   wanted (Domain::from_tree) ----+                 |
//!                                                    +-- attachment, detachment: QEMU's commands for one device
//! ```
//!
//! A device of the definition is found among those of the guest again (`pairs`) and keeps what its start assigned; what
//! is new gets what is free. Then both are written and compared as XML (`compare`), so that no part is overlooked. The
//! commands for a device are those words with which it stands on the command line (`device`).

use domain::devices::{
    Address, BalloonModel, ControllerKind, ControllerType, DeviceKind, DeviceRef, DiskBus,
    Interface, InterfaceSource, MemoryModel, ScsiModel, UsbAddress,
};
use domain::tree::Element;
use domain::{Domain, Fault, Faults, Place};

use crate::facts::HostFacts;

mod compare;
mod device;
mod pairs;
mod pluggable;

pub use device::{
    Attachment, Detachment, MonitorCommand, Receipt, SentFd, UnpluggedMedium, attachment,
    detachment, medium,
};

use compare::Compared;
use pairs::{Pair, Paired};
use pluggable::Pluggable;

/// What a running guest lacks of a definition.
#[derive(Debug)]
pub struct Changes {
    /// What can be changed while the guest runs, in the order in which it is to be done: what goes, goes first.
    pub steps: Vec<Step>,
    /// What needs a restart of the guest.
    pub restart: Vec<Fault>,
    /// The guest as the definition has it, with what its start and the steps assign.
    pub wanted: Domain,
}

/// A change of a running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The element that says so.
    pub place: Place,
    /// What is to be done.
    pub kind: StepKind,
}

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// A device of the guest goes; the reference is one of the live domain's, by its alias.
    Detach {
        /// The kind of device.
        kind: DeviceKind,
        /// Its id.
        alias: String,
    },
    /// A device comes; the reference is one of [`Changes::wanted`].
    Attach(DeviceRef),
    /// The medium of a drive; the reference is one of [`Changes::wanted`].
    Medium(DeviceRef),
    /// The cable of an interface; the reference is one of [`Changes::wanted`].
    Link(DeviceRef),
    /// How much the guest is to use of a memory device; the reference is one of [`Changes::wanted`].
    Requested(DeviceRef),
    /// How many virtual CPUs there are.
    Vcpus(u32),
    /// How much the balloon leaves the guest, in bytes.
    Balloon(u64),
}

/// What a running guest lacks of a definition.
///
/// `wanted` is as its document, `document`, has it. There are no changes when the definition is refused; `faults` then
/// says why.
#[must_use]
pub fn changes(
    live: &Domain,
    wanted: &Domain,
    document: &Element<'_>,
    facts: &HostFacts,
    faults: &Faults,
) -> Option<Changes> {
    let Paired { wanted, pairs } = pairs::find(live, wanted, facts, faults)?;
    let compared = Compared::new(live, &wanted, document);
    let mut found = Found { live, compared, facts, steps: Vec::new(), restart: Vec::new(), wanted };
    found.whole_guest();
    found.devices(&pairs);
    let Found { mut steps, restart, wanted, .. } = found;
    // Controllers come before what stands on them, which goes before them.
    steps.sort_by_key(|step| match &step.kind {
        StepKind::Detach { kind, .. } => (0, *kind == DeviceKind::Controller),
        StepKind::Attach(device) => (2, device.kind != DeviceKind::Controller),
        StepKind::Medium(_)
        | StepKind::Link(_)
        | StepKind::Requested(_)
        | StepKind::Vcpus(_)
        | StepKind::Balloon(_) => (1, false),
    });
    Some(Changes { steps, restart, wanted })
}

/// The devices of a guest that come and go while it runs: QEMU has each of them below `/machine/peripheral`, by its
/// alias, for as long as the guest has it.
#[must_use]
pub fn plugged(live: &Domain, facts: &HostFacts) -> Vec<DeviceRef> {
    let all = DeviceKind::ALL.into_iter().flat_map(|kind| live.devices.all(kind));
    all.filter(|device| unpluggable(live, live, *device, facts).is_none()).collect()
}

/// Removes a device from a guest, by its alias.
pub fn forget(live: &mut Domain, kind: DeviceKind, alias: &str) {
    device::remove(&mut live.devices, kind, alias);
}

impl Changes {
    /// What of the definition counts at once, for no part of the running guest depends on it, or its unit has it.
    pub fn take_over(&self, live: &mut Domain) {
        let wanted = &self.wanted;
        live.title.clone_from(&wanted.title);
        live.description.clone_from(&wanted.description);
        live.metadata.clone_from(&wanted.metadata);
        live.memtune.clone_from(&wanted.memtune);
        live.blkiotune.clone_from(&wanted.blkiotune);
        if has_nodes(live) && has_nodes(wanted) {
            live.memory.size = wanted.memory.size;
        }
    }

    /// Changes the live domain as a step has changed the guest.
    pub fn carried_out(&self, step: &Step, live: &mut Domain) {
        let wanted = &self.wanted.devices;
        match &step.kind {
            StepKind::Detach { kind, alias } => device::remove(&mut live.devices, *kind, alias),
            StepKind::Attach(device) => device::insert(&mut live.devices, wanted, *device),
            StepKind::Medium(device) | StepKind::Link(device) | StepKind::Requested(device) => {
                device::remove(&mut live.devices, device.kind, wanted.info(*device).alias());
                device::insert(&mut live.devices, wanted, *device);
            }
            StepKind::Vcpus(_) => live.vcpus.current = self.wanted.vcpus.current,
            StepKind::Balloon(_) => live.memory.current = self.wanted.memory.current,
        }
    }
}

/// The search for changes.
struct Found<'a> {
    live: &'a Domain,
    compared: Compared<'a>,
    facts: &'a HostFacts,
    steps: Vec<Step>,
    restart: Vec<Fault>,
    wanted: Domain,
}

/// What needs a restart is told so.
const RESTART: &str = "needs a restart of the guest";

/// A guest's memory is its nodes', and `<memory>` only tells their sum.
fn has_nodes(domain: &Domain) -> bool {
    domain.cpu.as_ref().is_some_and(|cpu| cpu.numa.is_some())
}

impl Found<'_> {
    fn step(&mut self, place: Place, kind: StepKind) {
        self.steps.push(Step { place, kind });
    }

    fn needs_restart(&mut self, place: &Place) {
        self.restart.push(place.refused(RESTART));
    }

    /// What stands beside the devices.
    fn whole_guest(&mut self) {
        let nodes = has_nodes(self.live) && has_nodes(&self.wanted);
        for (name, places) in self.compared.beside_devices() {
            match name.as_str() {
                // Told to nobody but management programs.
                "title" | "description" | "metadata" => {}
                // The unit's, which has them since systemd read them.
                "memtune" | "blkiotune" => {}
                "memory" if nodes => {}
                "currentMemory" => self.balloon(&places),
                "vcpu" => self.vcpus(&places),
                _ => places.iter().for_each(|place| self.needs_restart(place)),
            }
        }
    }

    fn balloon(&mut self, places: &[Place]) {
        let Some(place) = places.first() else { return };
        let balloons = &self.live.devices.memballoons;
        let has_balloon =
            balloons.iter().any(|it| !matches!(it.model, BalloonModel::None | BalloonModel::Xen));
        // What more memory would be is told at <memory>.
        let most = self.live.memory.size.filter(|_| !has_nodes(self.live));
        let size = self.wanted.memory.current.map(|size| most.map_or(size, |most| size.min(most)));
        match size {
            _ if size == self.live.memory.current => {}
            Some(size) if has_balloon => {
                let is_all = Some(size) == self.wanted.memory.size;
                let left = if is_all { crate::memory::whole(&self.wanted) } else { size };
                self.wanted.memory.current = Some(size);
                self.step(place.clone(), StepKind::Balloon(left.bytes()));
            }
            Some(_) | None => self.needs_restart(place),
        }
    }

    fn vcpus(&mut self, places: &[Place]) {
        let Some(place) = places.first() else { return };
        let (live, wanted) = (&self.live.vcpus, &self.wanted.vcpus);
        let same = domain::Vcpus { current: live.current, ..wanted.clone() };
        if same == *live && wanted.each.is_empty() {
            self.step(place.clone(), StepKind::Vcpus(wanted.online()));
        } else {
            self.needs_restart(place);
        }
    }

    fn devices(&mut self, pairs: &[Pair]) {
        for place in self.compared.without_alias() {
            self.needs_restart(&place);
        }
        for pair in pairs {
            match *pair {
                Pair::Both { live, wanted } => {
                    if self.compared.differ(live, wanted) {
                        self.changed(live, wanted);
                    }
                }
                Pair::Gone(device) => self.gone(device),
                Pair::New(device) => self.new_device(device),
            }
        }
    }

    /// A device that is there and should be another.
    fn changed(&mut self, live: DeviceRef, wanted: DeviceRef) {
        let place = self.wanted.devices.place(wanted).clone();
        let (before, after) = (&self.live.devices, &self.wanted.devices);
        let kind = match Pluggable::of(wanted.kind) {
            Some(Pluggable::Disk) => {
                let (old, new) = (&before.disks[live.index], &after.disks[wanted.index]);
                let same = domain::devices::Disk { source: old.source.clone(), ..new.clone() };
                (same == *old && device::is_removable(old)).then_some(StepKind::Medium(wanted))
            }
            Some(Pluggable::Interface) => {
                let (old, new) = (&before.interfaces[live.index], &after.interfaces[wanted.index]);
                let same = Interface { link_up: old.link_up, ..new.clone() };
                (same == *old).then_some(StepKind::Link(wanted))
            }
            Some(Pluggable::Memory) => {
                let (old, new) = (&before.memories[live.index], &after.memories[wanted.index]);
                let mut same = new.clone();
                same.target.requested = old.target.requested;
                let variable = new.model == MemoryModel::VirtioMem;
                (variable && same == *old).then_some(StepKind::Requested(wanted))
            }
            Some(Pluggable::Rng | Pluggable::Input | Pluggable::Controller) | None => None,
        };
        match kind {
            Some(StepKind::Medium(device)) => {
                // The new medium's nodes are there before the old one's are gone.
                crate::devices::disk::renumber(
                    &mut self.wanted,
                    self.live,
                    device.index,
                    self.facts,
                );
                self.step(place, StepKind::Medium(device));
            }
            Some(kind) => self.step(place, kind),
            None => self.differences(live, wanted, &place),
        }
    }

    /// Says of each part of a device that differs that it needs a restart.
    fn differences(&mut self, live: DeviceRef, wanted: DeviceRef, place: &Place) {
        for place in self.compared.places(live, wanted, place) {
            self.needs_restart(&place);
        }
    }

    fn gone(&mut self, device: DeviceRef) {
        let place = self.compared.devices_place();
        let alias = self.live.devices.info(device).alias().to_owned();
        match unpluggable(self.live, self.live, device, self.facts) {
            None => self.step(place, StepKind::Detach { kind: device.kind, alias }),
            Some(why) => {
                let what =
                    format!("the {} '{alias}' is no longer here: {why}", device.kind.element());
                self.restart.push(place.refused(what));
            }
        }
    }

    fn new_device(&mut self, device: DeviceRef) {
        let place = self.wanted.devices.place(device).clone();
        // A bus that is missing is told by the devices that would stand on it.
        if place.path.is_empty() {
            return;
        }
        let why = unpluggable(self.live, &self.wanted, device, self.facts);
        match why.or_else(|| self.without_bus(device)) {
            None => self.step(place, StepKind::Attach(device)),
            Some(why) => self.restart.push(place.refused(why)),
        }
    }

    /// Whether the running guest has the hub that a port is one of.
    fn has_hub(&self, port: &UsbAddress) -> bool {
        let Some((_, hub)) = port.port.split_last() else { return true };
        let is_it = |address: &Address| matches!(address, Address::Usb(at) if at.bus == port.bus && at.port == hub);
        let hubs = &self.live.devices.hubs;
        hub.is_empty() || hubs.iter().any(|it| it.info.address.as_ref().is_some_and(is_it))
    }

    /// Why there is no bus for a new device.
    fn without_bus(&self, device: DeviceRef) -> Option<String> {
        let address = self.wanted.devices.info(device).address.as_ref()?;
        let (kind, number) = if let Address::Pci(place) = address {
            (ControllerType::Pci, place.address.bus().into())
        } else if let (Address::Drive(drive), DeviceKind::Disk) = (address, device.kind) {
            (ControllerType::Scsi, drive.controller)
        } else if let Address::Usb(port) = address {
            if !self.has_hub(port) {
                return Some(format!(
                    "{RESTART}: no port of the running guest's USB is free; detach another device, or add hubs before the restart"
                ));
            }
            (ControllerType::Usb, port.bus)
        } else {
            return None;
        };
        let all = self.live.devices.controllers.iter();
        // One that the definition adds comes first, or is told by itself.
        let new = self.wanted.devices.controllers.iter().filter(|it| !it.place.path.is_empty());
        let known = all.chain(new).any(|it| it.controller_type() == kind && it.number() == number);
        (!known).then(|| {
            format!("{RESTART}: no {kind} slot of the running guest is free; detach another device, or add controllers before the restart")
        })
    }
}

/// Why a device of a domain cannot come to a guest that is now as `live` has it, or go from it.
fn unpluggable(
    live: &Domain,
    domain: &Domain,
    device: DeviceRef,
    facts: &HostFacts,
) -> Option<String> {
    let devices = &domain.devices;
    let restart = |needed: bool| needed.then(|| RESTART.to_owned());
    let index = device.index;
    let why = match Pluggable::of(device.kind) {
        Some(Pluggable::Disk) => {
            let bus = devices.disks[index].bus();
            let plugged = [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Usb].contains(&bus);
            (!plugged).then(|| format!("{RESTART}; disks on bus '{bus}' stay as they are"))
        }
        Some(Pluggable::Interface) => {
            restart(!is_reachable(live, &devices.interfaces[index].source))
        }
        Some(Pluggable::Memory) => restart(devices.memories[index].model == MemoryModel::SgxEpc),
        Some(Pluggable::Controller) => {
            let virtio = ControllerKind::Scsi(Some(ScsiModel::VirtioScsi));
            restart(devices.controllers[index].kind != virtio)
        }
        Some(Pluggable::Input) => {
            restart(!crate::devices::input::is_pluggable(&devices.inputs[index]))
        }
        Some(Pluggable::Rng) => None,
        None => restart(true),
    };
    why.or_else(|| device::needs_start(domain, device, facts).then(|| RESTART.to_owned()))
}

/// Whether an interface can come or go. QEMU's own network is closed to it unless it had one from the start.
fn is_reachable(live: &Domain, source: &InterfaceSource) -> bool {
    let of_user = |source: &InterfaceSource| matches!(source, InterfaceSource::User { .. });
    let by_descriptor = matches!(
        source,
        InterfaceSource::Bridge(_)
            | InterfaceSource::Network { .. }
            | InterfaceSource::Ethernet(_)
            | InterfaceSource::Direct { .. }
    );
    let mut all = live.devices.interfaces.iter();
    by_descriptor || of_user(source) && all.any(|it| of_user(&it.source))
}
