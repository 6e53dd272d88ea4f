//! The guest's architecture: which QEMU runs it, and what that QEMU takes when the domain does not say.
//!
//! What depends on the machine rather than on the processor is in [`crate::board`].

use domain::{Domain, DomainType, Faults};

use crate::board::Board;
use crate::facts::HostFacts;

/// An architecture that guests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    /// AMD's and Intel's with 64 bits.
    X86_64,
    /// Intel's with 32 bits.
    I686,
    /// ARM's with 64 bits.
    Aarch64,
    /// RISC-V with 64 bits.
    Riscv64,
}

/// The architectures that [`Arch::of`] knows, for messages.
const SUPPORTED: &str = "x86_64, i686, aarch64 or riscv64";

impl Arch {
    /// The architecture of a name in libvirt's spelling.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86_64),
            "i686" => Some(Self::I686),
            "aarch64" => Some(Self::Aarch64),
            "riscv64" => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// The architecture of a domain; completion has refused those that are not known.
    pub(crate) fn of_domain(domain: &Domain) -> Self {
        domain.os.arch.as_deref().and_then(Self::of).unwrap_or(Self::X86_64)
    }

    /// The name in QEMU's spelling, as descriptors of firmware have it.
    pub(crate) fn qemu_name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I686 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// Whether it is one of the PC's.
    pub(crate) fn is_x86(self) -> bool {
        matches!(self, Self::X86_64 | Self::I686)
    }

    /// Whether KVM on a host of the architecture `host` runs such guests.
    fn is_native(self, host: &str) -> bool {
        match self {
            Self::I686 => host == "x86_64" || host == "i686",
            Self::X86_64 | Self::Aarch64 | Self::Riscv64 => host == self.qemu_name(),
        }
    }

    /// The QEMU binary of a domain that names none.
    fn emulator(self, facts: &HostFacts) -> String {
        match self {
            Self::X86_64 => facts.emulator.clone(),
            Self::I686 | Self::Aarch64 | Self::Riscv64 => {
                format!("/usr/bin/qemu-system-{}", self.qemu_name())
            }
        }
    }

    /// The machine type of a domain that names none.
    fn default_machine(self, facts: &HostFacts) -> String {
        match self {
            Self::X86_64 | Self::I686 => facts.default_machine.clone(),
            Self::Aarch64 | Self::Riscv64 => "virt".to_owned(),
        }
    }

    /// The CPU model of a domain that names none: what the machine types of its QEMU have for a default.
    pub(crate) fn default_cpu<'a>(self, emulator: Option<&str>, facts: &'a HostFacts) -> &'a str {
        match self {
            Self::X86_64 => &facts.default_cpu,
            Self::I686 if emulator == Some(facts.emulator.as_str()) => &facts.default_cpu,
            Self::I686 => "qemu32",
            Self::Aarch64 => "cortex-a15",
            Self::Riscv64 => "rv64",
        }
    }

    /// The machine types that are supported, for messages.
    fn machines(self) -> &'static str {
        match self {
            Self::X86_64 | Self::I686 => "q35 or pc",
            Self::Aarch64 | Self::Riscv64 => "virt",
        }
    }
}

/// The path of the QEMU binary that runs a domain.
#[must_use]
pub fn emulator(domain: &Domain, facts: &HostFacts) -> String {
    let named = domain.devices.emulator.clone();
    named.unwrap_or_else(|| Arch::of_domain(domain).emulator(facts))
}

/// Fills in architecture, machine type and QEMU binary, and refuses those that are not supported.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    let os = &mut domain.os;
    let name = os.arch.get_or_insert_with(|| "x86_64".to_owned());
    let Some(arch) = Arch::of(name) else {
        let what = format!("architecture '{name}' is not supported by glassbox; use {SUPPORTED}");
        faults.push(os.type_place.refused(what));
        return;
    };
    let machine = os.machine.get_or_insert_with(|| arch.default_machine(facts));
    if let Some(name) = facts.machine_aliases.get(machine) {
        name.clone_into(machine);
    }
    match Board::of(arch, machine) {
        Some(Board::I440fx | Board::Q35 | Board::Isa | Board::ArmVirt | Board::RiscvVirt) => {}
        Some(Board::Microvm) | None => {
            let known = arch.machines();
            let what = format!("machine type '{machine}' is not supported; use {known}");
            faults.push(os.type_place.refused(what));
        }
    }
    domain.devices.emulator = Some(emulator(domain, facts));
    if domain.kind == DomainType::Kvm && !arch.is_native(&facts.arch) {
        let (guest, host) = (arch.qemu_name(), &facts.arch);
        let what = format!("KVM of this {host} host runs no {guest} guest; use type='qemu'");
        faults.push(domain.place.refused(what));
    }
}

#[cfg(test)]
mod tests {
    use super::Arch;

    #[test]
    fn kvm_runs_what_the_host_is() {
        for (arch, host, expected) in [
            (Arch::X86_64, "x86_64", true),
            (Arch::I686, "x86_64", true),
            (Arch::X86_64, "i686", false),
            (Arch::Aarch64, "x86_64", false),
            (Arch::Aarch64, "aarch64", true),
            (Arch::Riscv64, "aarch64", false),
        ] {
            assert_eq!(arch.is_native(host), expected, "{arch:?} on {host}");
        }
    }
}
