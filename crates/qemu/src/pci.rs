//! PCI addresses: which device stands on which bus, in which slot.
//!
//! The rules are libvirt's, so that a guest keeps its hardware when it comes from there:
//! 1. explicit addresses are reserved;
//! 2. devices with a fixed place on their board get it;
//! 3. the others take the next free slot of a bus that suits them, in a fixed order;
//! 4. all that runs twice: a first pass on a copy finds out which buses are missing, those are added as
//!    controllers, and a second pass gives everybody an address.

use std::collections::{BTreeMap, BTreeSet};

use domain::devices::{Address, Controller, ControllerKind, DeviceRef, PciModel, PciPlace};
use domain::{Domain, Faults, PciAddress};

use crate::board::Board;
use crate::devices::controller::{model_name, sort};

mod bus;
mod check;
mod fixed;
mod kinds;
mod order;

pub(crate) use kinds::place;

use bus::{Buses, Connect};

/// Gives every PCI device an address and adds the controllers that are missing.
pub(crate) fn assign(domain: &mut Domain, faults: &Faults) {
    let board = Board::of_domain(domain);
    if board == Board::Isa {
        check::without_pci(domain, board, faults);
    }
    if board.pci_root().is_none() || faults.any_refused() {
        return;
    }
    add_missing_controllers(domain, board);
    let mut pass = Pass::new(domain, board, Some(faults));
    pass.run(domain);
    let Pass { assigned, .. } = pass;
    for (device, address) in assigned {
        let info = domain.devices.info_mut(device);
        let multifunction = match &info.address {
            Some(Address::Pci(place)) => place.multifunction,
            Some(_) | None => None,
        };
        info.address = Some(Address::Pci(PciPlace { address, multifunction }));
    }
    set_multifunction(domain);
    number_ports(domain);
    check::controllers(domain, board, faults);
}

/// One pass over all devices.
struct Pass<'f> {
    board: Board,
    buses: Buses,
    /// Where faults go; none in the first pass, which may grow the buses instead.
    faults: Option<&'f Faults>,
    assigned: BTreeMap<DeviceRef, PciAddress>,
}

impl<'f> Pass<'f> {
    fn new(domain: &Domain, board: Board, faults: Option<&'f Faults>) -> Self {
        Self { board, buses: Buses::of(domain, board), faults, assigned: BTreeMap::new() }
    }

    fn run(&mut self, domain: &Domain) {
        self.reserve_explicit(domain);
        fixed::assign(self, domain);
        for device in order::devices(domain) {
            self.take_next(domain, device);
        }
    }

    fn reserve_explicit(&mut self, domain: &Domain) {
        for kind in domain::devices::DeviceKind::ALL {
            for device in domain.devices.all(kind) {
                let info = domain.devices.info(device);
                // The first console is the first serial port, and stands where that stands.
                if kind == domain::devices::DeviceKind::Console {
                    continue;
                }
                if let Some(place) = info.pci() {
                    let connect =
                        kinds::connect(domain, self.board, device).unwrap_or(Connect::Conventional);
                    if let Err(what) = self.buses.reserve(place.address, connect) {
                        self.refuse(domain, device, what);
                    }
                }
            }
        }
    }

    /// Gives a device a place of its board, if nobody has it.
    fn take(&mut self, device: DeviceRef, slot: u8, function: u8) -> bool {
        let free = if function == 0 {
            self.buses.is_slot_free(0, slot)
        } else {
            self.buses.is_free(0, slot, function)
        };
        let Some(address) = PciAddress::new(0, 0, slot, function).filter(|_| free) else {
            return false;
        };
        self.buses.occupy(address);
        self.assigned.insert(device, address);
        true
    }

    /// Gives a device the next free place that suits it, unless it has one.
    fn take_next(&mut self, domain: &Domain, device: DeviceRef) {
        if self.assigned.contains_key(&device) || !kinds::wants_address(domain, device) {
            return;
        }
        let Some(connect) = kinds::connect(domain, self.board, device) else { return };
        let lead = kinds::companion(domain, &self.assigned, device);
        let address = match lead {
            Some(address) if self.buses.is_free_at(address) => {
                self.buses.occupy(address);
                Some(address)
            }
            _ => {
                let function = kinds::function(domain, device);
                self.buses.take_next(connect, function, self.faults.is_none())
            }
        };
        match address {
            Some(address) => {
                self.assigned.insert(device, address);
            }
            None => self.refuse(domain, device, "no PCI slot is free for it".to_owned()),
        }
    }

    fn refuse(&self, domain: &Domain, device: DeviceRef, what: String) {
        if let Some(faults) = self.faults {
            faults.push(kinds::place(domain, device).refused(what));
        }
    }
}

/// The first pass: adds the controllers without which not every device would find a place.
fn add_missing_controllers(domain: &mut Domain, board: Board) {
    let named: usize = domain.devices.controllers.iter().filter(|c| is_extra_bus(c)).count();
    let mut pass = Pass::new(domain, board, None);
    let before = pass.buses.count();
    pass.reserve_explicit(domain);
    fixed::assign(&mut pass, domain);
    if board == Board::I440fx && !pass.buses.is_full() {
        // One slot is kept for a bridge that somebody may want later.
        let _ = pass.buses.take_next(Connect::Conventional, 0, true);
    }
    for device in order::devices(domain) {
        pass.take_next(domain, device);
    }
    if board.is_express() && named == 0 && pass.buses.count() > before {
        // One root port stays free for a device that is plugged later.
        let _ = pass.buses.take_next(Connect::Express, 0, true);
    }
    for (index, model) in pass.buses.models() {
        let kind = ControllerKind::Pci(Some(model));
        let exists = domain
            .devices
            .controllers
            .iter()
            .any(|controller| controller.pci_model().is_some() && controller.number() == index);
        if !exists {
            domain.devices.controllers.push(Controller::new(kind, index));
        }
    }
    sort(domain);
}

fn is_extra_bus(controller: &Controller) -> bool {
    controller.pci_model().is_some() && controller.number() > 0
}

/// Says of each function 0 whose slot has others that it has.
fn set_multifunction(domain: &mut Domain) {
    let mut slots = BTreeSet::new();
    let all: Vec<DeviceRef> = domain::devices::DeviceKind::ALL
        .into_iter()
        .flat_map(|kind| domain.devices.all(kind))
        .collect();
    for device in &all {
        if let Some(place) = domain.devices.info(*device).pci()
            && place.address.function() > 0
        {
            slots.insert((place.address.bus(), place.address.slot()));
        }
    }
    for device in all {
        if let Some(Address::Pci(place)) = &mut domain.devices.info_mut(device).address
            && place.address.function() == 0
            && !place.address.is_unassigned()
            && slots.contains(&(place.address.bus(), place.address.slot()))
        {
            place.multifunction.get_or_insert(true);
        }
    }
}

/// Fills in the devices that play PCI controllers and the numbers by which they show themselves.
fn number_ports(domain: &mut Domain) {
    for controller in &mut domain.devices.controllers {
        let Some(model) = controller.pci_model() else { continue };
        let Some(name) = model_name(model) else { continue };
        controller.pci_model_name.get_or_insert(name);
        let index = u8::try_from(controller.number()).unwrap_or(u8::MAX);
        let place = controller.info.pci().map(|place| place.address).unwrap_or_default();
        let target = &mut controller.pci_target;
        match model {
            PciModel::PcieRootPort => {
                target.chassis.get_or_insert(index);
                target.port.get_or_insert(place.slot() * 8 + place.function());
            }
            PciModel::PcieSwitchDownstreamPort => {
                target.chassis.get_or_insert(index);
                target.port.get_or_insert(place.slot());
            }
            PciModel::PciBridge => {
                target.chassis_number.get_or_insert(index);
            }
            PciModel::PciExpanderBus | PciModel::PcieExpanderBus => {}
            PciModel::PciRoot
            | PciModel::PcieRoot
            | PciModel::DmiToPciBridge
            | PciModel::PcieToPciBridge
            | PciModel::PcieSwitchUpstreamPort => {}
        }
    }
    number_expanders(domain);
}

/// Each expander takes two bus numbers below the lowest one in use, so that its children have room.
fn number_expanders(domain: &mut Domain) {
    let controllers = &mut domain.devices.controllers;
    let mut lowest: u16 = controllers
        .iter()
        .filter_map(|c| c.pci_target.bus_number)
        .map(u16::from)
        .min()
        .unwrap_or(256);
    for controller in controllers {
        let expands = matches!(
            controller.pci_model(),
            Some(PciModel::PciExpanderBus | PciModel::PcieExpanderBus)
        );
        if expands && controller.pci_target.bus_number.is_none() {
            lowest = lowest.saturating_sub(2);
            controller.pci_target.bus_number = u8::try_from(lowest).ok();
        }
    }
}
