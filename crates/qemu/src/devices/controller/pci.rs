//! Bridges and ports of PCI.

use domain::devices::{Controller, PciModel, PciModelName};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;

/// Adds a bridge or a port; roots are the machine's.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    controller: &Controller,
    model: Option<PciModel>,
) {
    let Some(name) = model.and_then(|model| controller.pci_model_name.or(model_name(model))) else {
        return root(command, controller);
    };
    let target = &controller.pci_target;
    let device = Object::new("driver", name.as_str());
    let device = match name {
        PciModelName::PciBridge => {
            device.some("chassis_nr", target.chassis_number).some("shpc", target.hotplug)
        }
        PciModelName::PcieRootPort | PciModelName::Ioh3420 | PciModelName::Xio3130Downstream => {
            device
                .some("port", target.port)
                .some("chassis", target.chassis)
                .some("hotplug", target.hotplug)
        }
        PciModelName::Pxb | PciModelName::PxbPcie => {
            device.some("bus_nr", target.bus_number).some("numa_node", controller.numa_node)
        }
        PciModelName::I82801b11Bridge
        | PciModelName::X3130Upstream
        | PciModelName::PciePciBridge => device,
    };
    command.device(&placed(command, &controller.info, device));
}

/// Sets what can be set of the machine's root.
fn root(command: &mut Command<'_>, controller: &Controller) {
    let board = Board::of_domain(command.domain);
    if let Some(hotplug) = controller.pci_target.hotplug.filter(|_| board == Board::I440fx) {
        let word = if hotplug { "on" } else { "off" };
        command.argv.options("-global", Options::pair("PIIX4_PM.acpi-root-pci-hotplug", word));
    }
    if let Some(size) = controller.pci_hole {
        let host = match board {
            Board::Q35 => "q35-pcihost",
            Board::I440fx | Board::Isa | Board::Microvm => "i440FX-pcihost",
            Board::ArmVirt | Board::RiscvVirt => {
                let what = "the size of the hole is no choice on this machine; remove <pcihole64>";
                command.refuse(&controller.place, what);
                return;
            }
        };
        let key = format!("{host}.pci-hole64-size");
        command.argv.options("-global", Options::pair(&key, format!("{}K", size.kibibytes())));
    }
}

/// The device that plays a model by default; none for roots.
pub(crate) fn model_name(model: PciModel) -> Option<PciModelName> {
    match model {
        PciModel::PciRoot | PciModel::PcieRoot => None,
        PciModel::PciBridge => Some(PciModelName::PciBridge),
        PciModel::DmiToPciBridge => Some(PciModelName::I82801b11Bridge),
        PciModel::PcieToPciBridge => Some(PciModelName::PciePciBridge),
        PciModel::PcieRootPort => Some(PciModelName::PcieRootPort),
        PciModel::PcieSwitchUpstreamPort => Some(PciModelName::X3130Upstream),
        PciModel::PcieSwitchDownstreamPort => Some(PciModelName::Xio3130Downstream),
        PciModel::PciExpanderBus => Some(PciModelName::Pxb),
        PciModel::PcieExpanderBus => Some(PciModelName::PxbPcie),
    }
}
