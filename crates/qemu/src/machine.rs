//! The machine with its features: the options `-machine` and `-accel`. Which boards there are is in [`crate::board`].

use domain::{
    Domain, DomainType, Faults, Features, Gic, GicVersion, IoApicDriver, Loader, TimerName,
};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::inherited::{self, Opened};

/// The first version of QEMU whose machine types know memory of NUMA nodes as objects only.
const NODES_ARE_OBJECTS: (u32, u32) = (5, 1);

/// Whether a machine type takes sizes for the memory of its NUMA nodes: those of QEMU before 5.1, and RISC-V's.
pub(crate) fn nodes_have_sizes(domain: &Domain) -> bool {
    if Board::of_domain(domain) == Board::RiscvVirt {
        return true;
    }
    let machine = domain.os.machine.as_deref().unwrap_or_default();
    let version = ["pc-i440fx-", "pc-q35-"].iter().find_map(|start| machine.strip_prefix(start));
    let mut numbers = version.unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    let version: Option<(u32, u32)> = numbers.next().zip(numbers.next());
    version.is_some_and(|version| version < NODES_ARE_OBJECTS)
}

/// Fills in the interrupt controller, and checks features that need others.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    if Board::of_domain(domain) == Board::ArmVirt {
        interrupt_controller(domain);
    }
    let features = &domain.features;
    let refuse = |what: &str| faults.push(domain.place.child("features").refused(what));
    if features.ps2 == Some(false) {
        if features.vmport == Some(true) {
            refuse(
                "VMware's port needs the PS/2 controller; remove <ps2 state='off'/> or <vmport>",
            );
        }
        let ps2 = Some(domain::devices::InputBus::Ps2);
        if let Some(input) = domain.devices.inputs.iter().find(|input| input.bus == ps2) {
            let what = "the PS/2 controller is off; remove <ps2 state='off'/> or the device";
            faults.push(input.place.refused(what));
        }
    }
    if features.translation_cache.is_some() && domain.kind != DomainType::Qemu {
        refuse("<tcg> is for domain type 'qemu'; remove it");
    }
    if features.ioapic == Some(IoApicDriver::Qemu) && domain.kind != DomainType::Kvm {
        refuse("<ioapic driver='qemu'/> needs domain type 'kvm'; remove it");
    }
    if features.smm.is_some_and(|smm| smm.tseg.is_some()) && Board::of_domain(domain) != Board::Q35
    {
        refuse("<tseg> needs a machine type q35; remove it");
    }
}

/// Without KVM QEMU's default is played; with it the host's is the one that can be.
fn interrupt_controller(domain: &mut Domain) {
    let version = match domain.kind {
        DomainType::Kvm => GicVersion::Host,
        DomainType::Qemu => GicVersion::V2,
    };
    domain.features.present = true;
    let gic = domain.features.gic.get_or_insert_with(Gic::default);
    gic.version.get_or_insert(version);
}

/// Adds `-machine` and `-accel`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let features = &domain.features;
    let machine = domain.os.machine.as_deref().unwrap_or_default();
    let is_pc = Board::of_domain(domain).is_pc();
    let hpet =
        domain.clock.timer(TimerName::Hpet).filter(|_| is_pc).and_then(|timer| timer.present);
    let gic = features.gic.and_then(|gic| gic.version).map(GicVersion::as_str);
    let (code, variables) = crate::os::flash_nodes(domain);
    let security = domain.launch_security.as_ref().map(|_| crate::launch_security::ID);
    let options = Options::new(machine)
        .set("usb", "off")
        .some_on_off("vmport", features.vmport)
        .some_on_off("smm", smm(features))
        .some("kernel_irqchip", irqchip(features))
        .some_on_off("i8042", features.ps2.filter(|_| is_pc))
        .some("gic-version", gic)
        .some("iommu", crate::devices::iommu::of_machine(domain))
        .on_off("dump-guest-core", domain.memory.dump_core.unwrap_or(false))
        .some("mem-merge", domain.memory_backing.no_share_pages.then_some("off"))
        .some("memory-backend", crate::memory::main_backend(domain))
        .some("nvdimm", crate::memory::has_nvdimm(domain).then_some("on"))
        .some("hmat", crate::numa::has_hmat(domain).then_some("on"))
        .some("confidential-guest-support", security)
        .some("pflash0", code)
        .some("pflash1", variables)
        .some_on_off("hpet", hpet)
        .on_off("acpi", features.acpi);
    let options = crate::devices::sound::pcspk(command, options);
    let options = crate::devices::memory_device::enclaves(domain, options);
    command.argv.options("-machine", options);
    let accelerator = match domain.kind {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "tcg",
    };
    let device = kvm_device(command);
    let ring = features.kvm.as_ref().and_then(|kvm| kvm.dirty_ring).filter(|ring| ring.state);
    let ring = ring.and_then(|ring| ring.size).filter(|_| domain.kind == DomainType::Kvm);
    let cache = features.translation_cache.filter(|_| domain.kind == DomainType::Qemu);
    let options = Options::new(accelerator)
        .some("device", device)
        .some("dirty-ring-size", ring)
        .some("tb-size", cache.map(domain::MemorySize::mebibytes));
    command.argv.options("-accel", options);
    if let Some(apart) = features.async_teardown {
        command.argv.options("-run-with", Options::pair("async-teardown", on_off(apart)));
    }
}

/// KVM's device, if the caller opened it.
fn kvm_device(command: &mut Command<'_>) -> Option<String> {
    if command.domain.kind != DomainType::Kvm {
        return None;
    }
    let place = &command.domain.place;
    let set = command.inherits_set(inherited::KVM, &Opened::Kvm, place)?;
    if !command.facts.accelerators.kvm_by_path {
        let what = "this QEMU opens /dev/kvm itself and takes no file descriptor 'kvm'";
        command.refuse(place, format!("{what}; do without it, or use QEMU 8.2 or newer"));
    }
    Some(set)
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Adds what system management mode has for itself, and keeps others from the firmware's variables.
pub(crate) fn smm_arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    if let Some(smm) = domain.features.smm.filter(|smm| smm.state != Some(false))
        && let Some(size) = smm.tseg
    {
        let options = Options::pair("mch.extended-tseg-mbytes", size.mebibytes());
        command.argv.options("-global", options);
    }
    let secure = |loader: &Loader| loader.secure == Some(true);
    if domain.os.loader.as_ref().is_some_and(secure) {
        let options = Options::pair("driver", "cfi.pflash01").set("property", "secure");
        command.argv.options("-global", options.set("value", "on"));
    }
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
