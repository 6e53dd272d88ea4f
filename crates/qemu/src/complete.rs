//! What the domain leaves out and lasts: the table of contents of completion.

use domain::{Domain, DomainType, Faults};

use crate::facts::HostFacts;
use crate::{
    arch, board, boot, clock, cpu, devices, firmware, launch_security, lifecycle, memory,
    memory_backing, numa, numatune, pci, sysinfo, tuning, vcpu,
};

/// Fills in defaults, implicit devices and addresses, as libvirt does when it takes a definition in.
/// Completing a complete domain changes nothing.
pub fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    accelerator(domain, facts, faults);
    arch::complete(domain, facts, faults);
    firmware::complete(domain, facts, faults);
    boot::complete(domain, faults);
    memory::complete(domain, faults);
    memory_backing::complete(domain, facts, faults);
    vcpu::complete(domain, faults);
    domain.iothreads.complete();
    numa::complete(domain, faults);
    numatune::complete(domain, facts, faults);
    tuning::complete(domain, faults);
    sysinfo::complete(domain, faults);
    launch_security::complete(domain, facts, faults);
    crate::machine::complete(domain, faults);
    clock::complete(domain, faults);
    lifecycle::complete(domain, faults);
    implicit_devices(domain, facts);
    cpu::complete(domain, facts, faults);
    device_defaults(domain, facts, faults);
    devices::disk::assign_addresses(domain);
    devices::hostdev::assign_units(domain);
    devices::controller::add_for_addresses(domain);
    devices::virtio_serial::assign_ports(domain, faults);
    devices::smartcard::assign_slots(domain, faults);
    devices::hostdev::add_controllers(domain);
    pci::assign(domain, faults);
    check_devices(domain, faults);
}

/// What no guest has, though each element by itself may be.
fn check_devices(domain: &Domain, faults: &Faults) {
    board::check(domain, faults);
    devices::tpm::check(domain, faults);
    devices::graphics::check(domain, faults);
    devices::audio::check(domain, faults);
    devices::video::check(domain, faults);
    devices::panic::check(domain, faults);
    devices::serial::check(domain, faults);
    devices::input::check(domain, faults);
    devices::watchdog::check(domain, faults);
    devices::info::check(domain, faults);
}

/// Devices that the machine has without being asked, in libvirt's order.
fn implicit_devices(domain: &mut Domain, facts: &HostFacts) {
    devices::ready::add_implicit(domain);
    devices::input::add_ps2(domain);
    devices::controller::number(domain);
    devices::controller::add_implicit(domain);
    devices::memballoon::add_implicit(domain);
    devices::watchdog::add_implicit(domain);
    devices::iommu::add_implicit(domain);
    devices::audio::add_implicit(domain, facts);
}

/// What each device leaves out.
fn device_defaults(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    devices::serial::complete(domain);
    devices::console::complete(domain);
    devices::parallel::complete(domain);
    devices::disk::complete(domain);
    devices::disk::check(domain, faults);
    devices::filesystem::complete(domain, faults);
    devices::interface::complete(domain, faults);
    devices::input::complete(domain);
    devices::rng::complete(domain);
    devices::sound::complete(domain);
    devices::tpm::complete(domain);
    devices::graphics::complete(domain, facts);
    devices::memory_device::complete(domain, faults);
    devices::video::complete(domain, faults);
    devices::hostdev::complete(domain);
    devices::hostdev::check(domain, faults);
    devices::vsock::complete(domain, facts, faults);
    devices::iommu::check(domain, faults);
    devices::panic::complete(domain);
    devices::shmem::complete(domain);
    devices::pstore::complete(domain, facts);
    devices::controller::complete(domain, faults);
}

fn accelerator(domain: &Domain, facts: &HostFacts, faults: &Faults) {
    let what = match domain.kind {
        DomainType::Kvm if facts.accelerators.kvm => return,
        DomainType::Qemu if facts.accelerators.tcg => return,
        DomainType::Kvm => "the host has no KVM; use type='qemu' or load the module kvm",
        DomainType::Qemu => "QEMU has no translator on this host; use type='kvm'",
    };
    faults.push(domain.place.refused(format!("domain type '{}': {what}", domain.kind)));
}
