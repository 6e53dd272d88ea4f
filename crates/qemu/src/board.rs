//! The board that a machine type puts the guest on: its buses, and the devices that it has or prefers.
//!
//! This is the one place that tells machines apart by what they are; a file of a device asks here and knows
//! no machine type.

use domain::Domain;
use domain::devices::{
    ControllerType, PanicModel, PciModel, SerialModel, SerialTarget, UsbModel, VideoModel,
};

use crate::arch::Arch;

mod check;

pub(crate) use check::check;

/// The families of machine types that differ in their buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Board {
    /// The PC of 1996, `pc` and `pc-i440fx-*`.
    I440fx,
    /// The PC of 2009, `q35` and `pc-q35-*`.
    Q35,
    /// The PC without PCI, `isapc`.
    Isa,
    /// A machine without a PC's buses, `microvm`.
    Microvm,
    /// ARM's machine that is no real one, `virt` and `virt-*`.
    ArmVirt,
    /// RISC-V's, `virt`.
    RiscvVirt,
}

impl Board {
    /// The board of a machine type.
    pub(crate) fn of(arch: Arch, machine: &str) -> Option<Self> {
        let virt = machine == "virt" || machine.starts_with("virt-");
        match arch {
            Arch::X86_64 | Arch::I686 => Self::of_pc(machine),
            Arch::Aarch64 => virt.then_some(Self::ArmVirt),
            Arch::Riscv64 => virt.then_some(Self::RiscvVirt),
        }
    }

    fn of_pc(machine: &str) -> Option<Self> {
        match machine {
            "q35" => Some(Self::Q35),
            "isapc" => Some(Self::Isa),
            "microvm" => Some(Self::Microvm),
            _ if machine.starts_with("pc-q35-") => Some(Self::Q35),
            _ if machine == "pc" || machine.starts_with("pc-") => Some(Self::I440fx),
            _ => None,
        }
    }

    /// The board of a domain whose machine type was checked by completion.
    pub(crate) fn of_domain(domain: &Domain) -> Self {
        let machine = domain.os.machine.as_deref();
        machine
            .and_then(|machine| Self::of(Arch::of_domain(domain), machine))
            .unwrap_or(Self::I440fx)
    }

    /// Whether it has what a PC has: ISA with its ports, a keyboard controller, VGA's registers.
    pub(crate) fn is_pc(self) -> bool {
        match self {
            Self::I440fx | Self::Q35 | Self::Isa | Self::Microvm => true,
            Self::ArmVirt | Self::RiscvVirt => false,
        }
    }

    /// The root of its PCI, if it has one.
    pub(crate) fn pci_root(self) -> Option<PciModel> {
        match self {
            Self::I440fx => Some(PciModel::PciRoot),
            Self::Q35 | Self::ArmVirt | Self::RiscvVirt => Some(PciModel::PcieRoot),
            Self::Isa | Self::Microvm => None,
        }
    }

    /// Whether its PCI is PCI Express.
    pub(crate) fn is_express(self) -> bool {
        self.pci_root() == Some(PciModel::PcieRoot)
    }

    /// QEMU's name of the root of its PCI.
    pub(crate) fn root_bus(self) -> &'static str {
        if self.is_express() { "pcie.0" } else { "pci.0" }
    }

    /// The controller of disks that is on the board, number 0 of its type.
    pub(crate) fn own_disks(self) -> Option<ControllerType> {
        match self {
            Self::I440fx | Self::Isa | Self::Microvm => Some(ControllerType::Ide),
            Self::Q35 => Some(ControllerType::Sata),
            Self::ArmVirt | Self::RiscvVirt => None,
        }
    }

    /// The USB controller that every guest on it has.
    pub(crate) fn implicit_usb(self) -> Option<UsbModel> {
        match self {
            Self::I440fx => Some(UsbModel::Piix3Uhci),
            Self::Q35 => Some(UsbModel::QemuXhci),
            Self::Isa | Self::Microvm | Self::ArmVirt | Self::RiscvVirt => None,
        }
    }

    /// The model of a USB controller that names none.
    pub(crate) fn default_usb(self) -> Option<UsbModel> {
        match self {
            Self::I440fx | Self::Q35 | Self::Microvm | Self::RiscvVirt => Some(UsbModel::Piix3Uhci),
            Self::ArmVirt => Some(UsbModel::QemuXhci),
            Self::Isa => None,
        }
    }

    /// Whether a guest has a balloon when the domain does not say.
    pub(crate) fn has_balloon(self) -> bool {
        self != Self::ArmVirt
    }

    /// The bus and the device of a serial port that names neither.
    pub(crate) fn uart(self) -> (SerialTarget, SerialModel) {
        match self {
            Self::I440fx | Self::Q35 | Self::Isa | Self::Microvm => {
                (SerialTarget::Isa, SerialModel::Isa)
            }
            Self::ArmVirt => (SerialTarget::System, SerialModel::Pl011),
            Self::RiscvVirt => (SerialTarget::System, SerialModel::Uart16550a),
        }
    }

    /// The model of a network interface that names none.
    pub(crate) fn default_nic(self) -> &'static str {
        if self.is_pc() { "rtl8139" } else { "virtio" }
    }

    /// The model of a video card that names none.
    pub(crate) fn default_video(self) -> VideoModel {
        if self.is_pc() { VideoModel::Cirrus } else { VideoModel::Virtio }
    }

    /// Whether the primary video card can have VGA's registers beside its own.
    pub(crate) fn has_vga(self) -> bool {
        self != Self::ArmVirt
    }

    /// The model of a panic device that names none.
    pub(crate) fn default_panic(self) -> Option<PanicModel> {
        match self {
            Self::I440fx | Self::Q35 | Self::Isa | Self::Microvm => Some(PanicModel::Isa),
            Self::ArmVirt => Some(PanicModel::Pvpanic),
            Self::RiscvVirt => None,
        }
    }

    /// The id of the backend of its memory.
    pub(crate) fn memory(self) -> &'static str {
        match self {
            Self::I440fx | Self::Q35 | Self::Isa | Self::Microvm => "pc.ram",
            Self::ArmVirt => "mach-virt.ram",
            Self::RiscvVirt => "riscv_virt_board.ram",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arch, Board};

    #[test]
    fn machine_types_belong_to_an_architecture() {
        for (arch, machine, expected) in [
            (Arch::X86_64, "pc-q35-10.0", Some(Board::Q35)),
            (Arch::I686, "pc-i440fx-7.2", Some(Board::I440fx)),
            (Arch::X86_64, "virt", None),
            (Arch::Aarch64, "virt-7.2", Some(Board::ArmVirt)),
            (Arch::Aarch64, "q35", None),
            (Arch::Aarch64, "virtual", None),
            (Arch::Riscv64, "virt", Some(Board::RiscvVirt)),
            (Arch::Riscv64, "sifive_u", None),
        ] {
            assert_eq!(Board::of(arch, machine), expected, "{arch:?} {machine}");
        }
    }
}
