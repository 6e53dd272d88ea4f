//! The command line's table of contents.

use domain::{Domain, Faults};

use crate::argv::Options;
use crate::command::Command;
use crate::facts::HostFacts;
use crate::launch::{Launch, StartMode};
use crate::plan::LaunchPlan;
use crate::{
    boot, clock, cpu, credentials, devices, genid, inherited, iothreads, launch_security, machine,
    memory, monitor, numa, os, overrides, pinning, pm, sandbox, secrets, sysinfo, throttle_groups,
    tuning, vcpu,
};

/// Plans the launch of a domain that [`crate::complete`] has completed. There is no plan when the domain is
/// refused; `faults` then says why.
#[must_use]
pub fn plan(
    domain: &Domain,
    facts: &HostFacts,
    launch: &Launch,
    faults: &Faults,
) -> Option<LaunchPlan> {
    if faults.any_refused() {
        return None;
    }
    let domain = crate::live(domain, facts, faults);
    let mut command = Command::new(&domain, facts, launch, faults);
    tuning::warn(&domain, faults);
    vcpu::warn(&domain, faults);
    machine_arguments(&mut command);
    device_arguments(&mut command);
    final_arguments(&mut command);
    pinning::threads(&mut command);
    inherited::refuse_unused(&command);
    (!faults.any_refused()).then(|| command.into_plan())
}

/// From the name to the boot order.
fn machine_arguments(command: &mut Command<'_>) {
    name(command);
    secrets::master_key(command);
    devices::disk::managed_reservations(command);
    os::firmware_arguments(command);
    machine::arguments(command);
    machine::smm_arguments(command);
    cpu::arguments(command);
    os::rom_arguments(command);
    memory::arguments(command);
    vcpu::arguments(command);
    iothreads::arguments(command);
    throttle_groups::arguments(command);
    numa::arguments(command);
    identity(command);
    sysinfo::smbios_arguments(command);
    sysinfo::config_arguments(command);
    credentials::arguments(command);
    genid::arguments(command);
    if command.domain.devices.graphics.is_empty() {
        command.argv.plain("-display", "none");
    }
    command.argv.flag("-no-user-config");
    command.argv.flag("-nodefaults");
    monitor::arguments(command);
    clock::arguments(command);
    pm::arguments(command);
    os::acpi_arguments(command);
    os::kernel_arguments(command);
    boot::arguments(command);
}

/// All devices, kind by kind.
fn device_arguments(command: &mut Command<'_>) {
    let devices = &command.domain.devices;
    devices.iommus.iter().for_each(|device| devices::iommu::arguments(command, device));
    devices::controller::all_arguments(command);
    devices.memories.iter().for_each(|device| devices::memory_device::arguments(command, device));
    devices.hubs.iter().for_each(|device| devices::hub::arguments(command, device));
    devices::controller::ccid_arguments(command);
    devices::disk::all_arguments(command);
    devices.filesystems.iter().for_each(|device| devices::filesystem::arguments(command, device));
    devices.interfaces.iter().for_each(|device| devices::interface::arguments(command, device));
    devices.smartcards.iter().for_each(|device| devices::smartcard::arguments(command, device));
    devices.serials.iter().for_each(|device| devices::serial::arguments(command, device));
    devices.parallels.iter().for_each(|device| devices::parallel::arguments(command, device));
    devices.channels.iter().for_each(|device| devices::channel::arguments(command, device));
    devices.consoles.iter().for_each(|device| devices::console::arguments(command, device));
    devices.tpms.iter().for_each(|device| devices::tpm::arguments(command, device));
    devices.inputs.iter().for_each(|device| devices::input::arguments(command, device));
    devices.audios.iter().for_each(|device| devices::audio::arguments(command, device));
    devices.graphics.iter().for_each(|device| devices::graphics::arguments(command, device));
    devices.videos.iter().for_each(|device| devices::video::arguments(command, device));
    devices.sounds.iter().for_each(|device| devices::sound::arguments(command, device));
    devices::watchdog::all_arguments(command);
    devices.redirdevs.iter().for_each(|device| devices::redirdev::arguments(command, device));
    devices::hostdev::all_arguments(command);
    incoming(command);
    devices.memballoons.iter().for_each(|device| devices::memballoon::arguments(command, device));
    devices.rngs.iter().for_each(|device| devices::rng::arguments(command, device));
}

/// What stands behind the devices.
fn final_arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let devices = &domain.devices;
    os::vmcoreinfo_arguments(command);
    launch_security::arguments(command);
    overrides::deprecation_arguments(command);
    overrides::arguments(command);
    sandbox::arguments(command);
    devices.panics.iter().for_each(|device| devices::panic::arguments(command, device));
    devices.shmems.iter().for_each(|device| devices::shmem::arguments(command, device));
    devices.vsocks.iter().for_each(|device| devices::vsock::arguments(command, device));
    devices.cryptos.iter().for_each(|device| devices::crypto::arguments(command, device));
    devices.pstores.iter().for_each(|device| devices::pstore::arguments(command, device));
    command.argv.options("-msg", Options::pair("timestamp", "on"));
}

fn name(command: &mut Command<'_>) {
    let name = Options::pair("guest", &command.domain.name).on_off("debug-threads", true);
    command.argv.options("-name", name);
    // The guest waits until its threads are pinned and its state is known; the shim lets it go. One that comes
    // in by a migration waits for that, and then goes on as it was, running or paused.
    if !matches!(command.launch.start, StartMode::Incoming(_)) {
        command.argv.flag("-S");
    }
}

fn identity(command: &mut Command<'_>) {
    if let Some(uuid) = command.domain.uuid {
        command.argv.plain("-uuid", uuid);
    }
}

fn incoming(command: &mut Command<'_>) {
    if let StartMode::Incoming(address) = &command.launch.start {
        command.argv.plain("-incoming", address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::complete;

    #[test]
    fn only_a_guest_that_comes_in_is_not_held() {
        let text = "<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os></domain>";
        for (start, held, incoming) in [
            (StartMode::Boot, true, None),
            (StartMode::Paused, true, None),
            (StartMode::Incoming("defer".to_owned()), false, Some("defer")),
        ] {
            let faults = Faults::new();
            let facts = HostFacts::local("a");
            let mut domain = Domain::parse(text, &faults).unwrap();
            complete(&mut domain, &facts, &faults);
            let launch = Launch { start, ..Launch::default() };
            let arguments = plan(&domain, &facts, &launch, &faults).unwrap().arguments;
            assert_eq!(arguments.iter().any(|argument| argument == "-S"), held);
            let given = arguments.iter().position(|argument| argument == "-incoming");
            assert_eq!(given.map(|at| arguments[at + 1].as_str()), incoming);
        }
    }
}
