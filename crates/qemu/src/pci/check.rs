//! PCI controllers that cannot be.

use domain::devices::{Controller, ControllerKind, DeviceKind, PciModel, PciModelName, UsbModel};
use domain::{Domain, Faults};

use super::kinds;
use crate::board::Board;

/// The highest bus number of an expander; the one above is for what stands behind it.
const HIGHEST_EXPANDER: u8 = 254;

/// Refuses devices of PCI in a machine without it.
pub(super) fn without_pci(domain: &Domain, board: Board, faults: &Faults) {
    for device in DeviceKind::ALL.into_iter().flat_map(|kind| domain.devices.all(kind)) {
        let is_usb = device.kind == DeviceKind::Controller
            && matches!(
                domain.devices.controllers[device.index].kind,
                ControllerKind::Usb(model) if model != Some(UsbModel::None)
            );
        if is_usb || kinds::connect(domain, board, device).is_some() {
            let what = "the machine has no PCI for it; use machine='q35' or remove it";
            faults.push(kinds::place(domain, device).refused(what));
        }
    }
}

/// Refuses controllers whose numbers or options their model cannot have.
pub(super) fn controllers(domain: &Domain, board: Board, faults: &Faults) {
    for controller in &domain.devices.controllers {
        let Some(model) = controller.pci_model() else { continue };
        let found =
            [root(controller, model, board), order(controller, model), name(controller, model)];
        let found = found.into_iter().chain([node(controller, domain), index(controller)]);
        for what in found.flatten().chain(options(controller, model)) {
            faults.push(controller.place.refused(what));
        }
    }
}

/// The bus 0 is the machine's own, and no other bus is.
fn root(controller: &Controller, model: PciModel, board: Board) -> Option<String> {
    let (own, other) = match board.is_express() {
        true => (PciModel::PcieRoot, PciModel::PciRoot),
        false => (PciModel::PciRoot, PciModel::PcieRoot),
    };
    if controller.number() == 0 && model != own {
        return Some(format!(
            "index 0 is the machine's own bus; use model='{own}' or another index"
        ));
    }
    if controller.number() > 0 && (model == own || model == other) {
        return Some(format!("model '{model}' is the machine's own bus; use index='0'"));
    }
    if controller.number() == 0 && controller.info.address.is_some() {
        return Some("the machine's own bus has no address; remove it".to_owned());
    }
    let express_only = matches!(
        model,
        PciModel::DmiToPciBridge
            | PciModel::PcieToPciBridge
            | PciModel::PcieRootPort
            | PciModel::PcieSwitchUpstreamPort
            | PciModel::PcieSwitchDownstreamPort
            | PciModel::PcieExpanderBus
    );
    let wrong = express_only && own == PciModel::PciRoot
        || model == PciModel::PciExpanderBus && own == PciModel::PcieRoot;
    wrong.then(|| format!("model '{model}' does not fit a machine with a {own}; use another model"))
}

fn index(controller: &Controller) -> Option<String> {
    (controller.number() > 255)
        .then(|| "buses are numbered up to 255; use another index".to_owned())
}

/// An expander stands on a node that there is.
fn node(controller: &Controller, domain: &Domain) -> Option<String> {
    let node = controller.numa_node?;
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    let known = numa.is_some_and(|numa| numa.cell(node).is_some());
    (!known).then(|| format!("the guest has no node {node}; add a <cell> or change <node>"))
}

/// QEMU makes buses in the order of their indexes, so a bridge stands on one that comes before it.
fn order(controller: &Controller, model: PciModel) -> Option<String> {
    if model != PciModel::PciBridge {
        return None;
    }
    let bus = controller.info.pci()?.address.bus();
    (u32::from(bus) >= controller.number()).then(|| {
        format!("the controller stands on bus {bus}, which comes later; give it a higher index")
    })
}

fn name(controller: &Controller, model: PciModel) -> Option<String> {
    let name = controller.pci_model_name?;
    let plays = match name {
        PciModelName::PciBridge => PciModel::PciBridge,
        PciModelName::I82801b11Bridge => PciModel::DmiToPciBridge,
        PciModelName::PcieRootPort | PciModelName::Ioh3420 => PciModel::PcieRootPort,
        PciModelName::X3130Upstream => PciModel::PcieSwitchUpstreamPort,
        PciModelName::Xio3130Downstream => PciModel::PcieSwitchDownstreamPort,
        PciModelName::Pxb => PciModel::PciExpanderBus,
        PciModelName::PxbPcie => PciModel::PcieExpanderBus,
        PciModelName::PciePciBridge => PciModel::PcieToPciBridge,
    };
    (plays != model).then(|| format!("'{name}' plays a {plays}, no {model}; use another <model>"))
}

fn options(controller: &Controller, model: PciModel) -> impl Iterator<Item = String> {
    use PciModel as M;
    let target = &controller.pci_target;
    let port = matches!(model, M::PcieRootPort | M::PcieSwitchDownstreamPort);
    let expander = matches!(model, M::PciExpanderBus | M::PcieExpanderBus);
    let root = matches!(model, M::PciRoot | M::PcieRoot);
    let hotplugs = port || model == M::PciRoot || model == M::PciBridge;
    let unfit = [
        (target.chassis_number.is_some() && model != M::PciBridge, "chassisNr"),
        (target.chassis.is_some() && !port, "chassis"),
        (target.port.is_some() && !port, "port"),
        (target.bus_number.is_some() && !expander, "busNr"),
        (target.hotplug.is_some() && !hotplugs, "hotplug"),
        (controller.numa_node.is_some() && !expander, "<node>"),
        (controller.pci_hole.is_some() && !root, "<pcihole64>"),
    ];
    let unfit = unfit
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(move |(_, what)| format!("a {model} has no {what}; remove it"));
    let number = target.bus_number.filter(|n| *n == 0 || *n > HIGHEST_EXPANDER);
    unfit.chain(
        number.map(|number| format!("no bus has number {number}; give 1 to {HIGHEST_EXPANDER}")),
    )
}
