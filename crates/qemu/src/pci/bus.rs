//! Buses with their slots, and which device fits where.

use domain::devices::PciModel;
use domain::{Domain, PciAddress};

use crate::board::Board;

/// How a device connects to a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    /// A conventional device.
    Conventional,
    /// A device of PCI Express.
    Express,
    /// A part of the chipset, on the root whatever that is.
    Integrated,
    /// A PCI controller of this model.
    Bridge(PciModel),
}

/// Functions of a slot that are taken, and whether more root ports may join it.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    functions: u8,
    shared_by_ports: bool,
}

#[derive(Debug, Clone)]
struct Bus {
    model: PciModel,
    slots: [Slot; 32],
}

/// All buses of a guest; a bus's index is that of its controller.
#[derive(Debug, Clone)]
pub(super) struct Buses(Vec<Bus>);

impl Bus {
    fn new(model: PciModel) -> Self {
        Self { model, slots: [Slot::default(); 32] }
    }

    /// The slots that devices may stand in.
    fn range(&self) -> std::ops::RangeInclusive<u8> {
        match self.model {
            PciModel::PciRoot
            | PciModel::PcieRoot
            | PciModel::PciBridge
            | PciModel::PcieToPciBridge => 1..=31,
            PciModel::PciExpanderBus
            | PciModel::PcieExpanderBus
            | PciModel::DmiToPciBridge
            | PciModel::PcieSwitchUpstreamPort => 0..=31,
            PciModel::PcieRootPort | PciModel::PcieSwitchDownstreamPort => 0..=0,
        }
    }

    /// Whether a device goes here by itself.
    fn accepts(&self, connect: Connect) -> bool {
        use PciModel as M;
        match self.model {
            M::PciRoot | M::PciBridge | M::PcieToPciBridge => match connect {
                Connect::Conventional | Connect::Bridge(M::PciBridge) => true,
                Connect::Bridge(M::PciExpanderBus) => self.model == M::PciRoot,
                Connect::Integrated => self.model == M::PciRoot,
                Connect::Express | Connect::Bridge(_) => false,
            },
            M::PciExpanderBus => {
                matches!(connect, Connect::Conventional | Connect::Bridge(M::PciBridge))
            }
            // Devices here could not be unplugged, so only bridges come by themselves.
            M::DmiToPciBridge => connect == Connect::Bridge(M::PciBridge),
            M::PcieRoot => matches!(
                connect,
                Connect::Integrated
                    | Connect::Bridge(M::PcieRootPort | M::DmiToPciBridge | M::PcieExpanderBus)
            ),
            M::PcieExpanderBus => {
                matches!(connect, Connect::Bridge(M::PcieRootPort | M::DmiToPciBridge))
            }
            M::PcieRootPort | M::PcieSwitchDownstreamPort => matches!(
                connect,
                Connect::Express | Connect::Bridge(M::PcieSwitchUpstreamPort | M::PcieToPciBridge)
            ),
            M::PcieSwitchUpstreamPort => connect == Connect::Bridge(M::PcieSwitchDownstreamPort),
        }
    }
}

impl Buses {
    /// The buses that the controllers of a domain are, with the slots of the board's own devices taken.
    pub(super) fn of(domain: &Domain, board: Board) -> Self {
        let controllers = domain.devices.controllers.iter();
        let models: Vec<(usize, PciModel)> = controllers
            .filter_map(|c| Some((usize::try_from(c.number()).ok()?, c.pci_model()?)))
            .filter(|(index, _)| *index < 256)
            .collect();
        let count = models.iter().map(|(index, _)| index + 1).max().unwrap_or(1);
        let (root, gap) = match board.is_express() {
            true => (PciModel::PcieRoot, PciModel::PcieRootPort),
            false => (PciModel::PciRoot, PciModel::PciBridge),
        };
        let mut buses = vec![Bus::new(gap); count];
        buses[0] = Bus::new(root);
        for (index, model) in models {
            buses[index] = Bus::new(model);
        }
        Self(buses)
    }

    /// How many buses there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The models of all buses with their indexes.
    pub(super) fn models(&self) -> impl Iterator<Item = (u32, PciModel)> {
        (0..).zip(self.0.iter().map(|bus| bus.model))
    }

    /// Whether every slot of every bus is taken.
    pub(super) fn is_full(&self) -> bool {
        self.0.iter().all(|bus| bus.range().all(|slot| bus.slots[usize::from(slot)].functions != 0))
    }

    /// Whether nobody stands in a slot.
    pub(super) fn is_slot_free(&self, bus: usize, slot: u8) -> bool {
        self.0[bus].slots[usize::from(slot)].functions == 0
    }

    /// Whether nobody has a function.
    pub(super) fn is_free(&self, bus: usize, slot: u8, function: u8) -> bool {
        self.0[bus].slots[usize::from(slot)].functions & 1 << function == 0
    }

    /// Whether nobody has an address.
    pub(super) fn is_free_at(&self, at: PciAddress) -> bool {
        self.0.len() > usize::from(at.bus())
            && self.is_free(at.bus().into(), at.slot(), at.function())
    }

    /// Takes an address.
    pub(super) fn occupy(&mut self, at: PciAddress) {
        self.0[usize::from(at.bus())].slots[usize::from(at.slot())].functions |= 1 << at.function();
    }

    /// Takes an address that the user gave; buses up to it are added.
    pub(super) fn reserve(&mut self, at: PciAddress, connect: Connect) -> Result<(), String> {
        if at.domain() != 0 {
            return Err(format!("{at} is not in PCI domain 0, the only one of a guest"));
        }
        while self.0.len() <= usize::from(at.bus()) {
            self.grow(connect);
        }
        let bus = &self.0[usize::from(at.bus())];
        if !bus.range().contains(&at.slot()) {
            let (first, last) = (bus.range().start().to_owned(), bus.range().end().to_owned());
            return Err(format!(
                "{at} is no slot of a {}; use 0x{first:02x} to 0x{last:02x}",
                bus.model
            ));
        }
        if matches!(connect, Connect::Bridge(_)) && !bus.accepts(connect) {
            let bus = bus.model;
            return Err(format!(
                "{at}: such a controller does not fit on a {bus}; give another bus"
            ));
        }
        let ports_only =
            matches!(bus.model, PciModel::PcieSwitchUpstreamPort | PciModel::PcieExpanderBus);
        if ports_only && !matches!(connect, Connect::Bridge(_)) {
            let bus = bus.model;
            return Err(format!("{at}: only ports stand on a {bus}; give another bus"));
        }
        if connect == Connect::Integrated && at.bus() != 0 {
            return Err(format!("{at}: the device is a part of the board; give bus 0"));
        }
        if !self.is_free_at(at) {
            return Err(format!("another device has the PCI address {at}; give another or none"));
        }
        let slot = &mut self.0[usize::from(at.bus())].slots[usize::from(at.slot())];
        if slot.functions == 0 {
            slot.shared_by_ports = connect == Connect::Bridge(PciModel::PcieRootPort);
        }
        self.occupy(at);
        Ok(())
    }

    /// Takes the next free place that suits; where there is none, a bus may be added.
    pub(super) fn take_next(
        &mut self,
        connect: Connect,
        function: u8,
        may_grow: bool,
    ) -> Option<PciAddress> {
        loop {
            if let Some(address) = self.find(connect, function) {
                let port = connect == Connect::Bridge(PciModel::PcieRootPort);
                self.0[usize::from(address.bus())].slots[usize::from(address.slot())]
                    .shared_by_ports |= port;
                self.occupy(address);
                return Some(address);
            }
            let grows = matches!(
                connect,
                Connect::Conventional | Connect::Express | Connect::Bridge(PciModel::PciBridge)
            );
            if !may_grow || !grows || self.0.len() >= 250 {
                return None;
            }
            self.grow(connect);
        }
    }

    fn find(&self, connect: Connect, function: u8) -> Option<PciAddress> {
        let port = connect == Connect::Bridge(PciModel::PcieRootPort);
        for (index, bus) in self.0.iter().enumerate().filter(|(_, bus)| bus.accepts(connect)) {
            for number in bus.range() {
                let slot = bus.slots[usize::from(number)];
                let index = u8::try_from(index).ok()?;
                if slot.functions == 0 {
                    return PciAddress::new(0, index, number, function);
                }
                if port && slot.shared_by_ports && slot.functions != u8::MAX {
                    let function = (0..8).find(|f| slot.functions & 1 << f == 0)?;
                    return PciAddress::new(0, index, number, function);
                }
            }
        }
        None
    }

    /// Adds the bus that a device of this kind lacks.
    fn grow(&mut self, connect: Connect) {
        if connect == Connect::Express
            || matches!(connect, Connect::Bridge(m) if m != PciModel::PciBridge)
        {
            self.0.push(Bus::new(PciModel::PcieRootPort));
            return;
        }
        if self.0.iter().any(|bus| bus.accepts(Connect::Bridge(PciModel::PciBridge))) {
            self.0.push(Bus::new(PciModel::PciBridge));
            return;
        }
        let mut port = Bus::new(PciModel::PcieRootPort);
        port.slots[0].functions = 1;
        self.0.push(port);
        self.0.push(Bus::new(PciModel::PcieToPciBridge));
    }

    /// Takes a function of the root that the board's own device has.
    pub(super) fn occupy_root(&mut self, slot: u8, function: u8) {
        self.0[0].slots[usize::from(slot)].functions |= 1 << function;
    }
}
