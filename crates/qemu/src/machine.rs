//! The machine: which board it is, and the option `-machine`.

use domain::{DomainType, Features, IoApicDriver, TimerName};

use crate::argv::Options;
use crate::command::Command;

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
}

impl Board {
    /// The board of a machine type.
    pub(crate) fn of(machine: &str) -> Option<Self> {
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
    pub(crate) fn of_domain(domain: &domain::Domain) -> Self {
        domain.os.machine.as_deref().and_then(Self::of).unwrap_or(Self::I440fx)
    }
}

/// Adds `-machine` and `-accel`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let features = &domain.features;
    let machine = domain.os.machine.as_deref().unwrap_or_default();
    let hpet = domain.clock.timer(TimerName::Hpet).and_then(|timer| timer.present);
    let options = Options::new(machine)
        .set("usb", "off")
        .some_on_off("vmport", features.vmport)
        .some_on_off("smm", smm(features))
        .some("kernel_irqchip", irqchip(features))
        .some_on_off("i8042", features.ps2)
        .on_off("dump-guest-core", domain.memory.dump_core.unwrap_or(false))
        .some("mem-merge", domain.memory_backing.no_share_pages.then_some("off"))
        .some("memory-backend", crate::memory::main_backend(domain))
        .some_on_off("hpet", hpet)
        .on_off("acpi", features.acpi);
    let options = crate::devices::sound::pcspk(command, options);
    command.argv.options("-machine", options);
    let accelerator = match domain.kind {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "tcg",
    };
    command.argv.options("-accel", Options::new(accelerator));
}

fn smm(features: &Features) -> Option<bool> {
    features.smm.map(|smm| smm.state.unwrap_or(true))
}

fn irqchip(features: &Features) -> Option<&'static str> {
    features.ioapic.map(|driver| match driver {
        IoApicDriver::Kvm => "on",
        IoApicDriver::Qemu => "split",
    })
}
