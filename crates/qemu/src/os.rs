//! What the guest boots: firmware, kernel, tables.

use domain::{Domain, Faults, LoaderType};

use crate::argv::Options;
use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;
use crate::machine::Board;
use crate::plan::Access;

/// Fills in architecture and machine type, and refuses machines that are not PCs.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    let os = &mut domain.os;
    let arch = os.arch.get_or_insert_with(|| "x86_64".to_owned());
    if arch != "x86_64" && arch != "i686" {
        faults.push(os.place.refused(format!("no guest of architecture '{arch}'; use x86_64")));
    }
    let machine = os.machine.get_or_insert_with(|| facts.default_machine.clone());
    if let Some(name) = facts.machine_aliases.get(machine) {
        name.clone_into(machine);
    }
    match Board::of(machine) {
        Some(Board::I440fx | Board::Q35 | Board::Isa) => {}
        Some(Board::Microvm) | None => {
            let what = format!("machine type '{machine}' is not supported; use q35 or pc");
            faults.push(os.place.refused(what));
        }
    }
    if domain.devices.emulator.is_none() {
        domain.devices.emulator = Some(facts.emulator.clone());
    }
}

/// Adds the block nodes of firmware in flash.
pub(crate) fn firmware_arguments(command: &mut Command<'_>) {
    let os = &command.domain.os;
    let pflash = os.loader.as_ref().is_some_and(|loader| loader.kind == Some(LoaderType::Pflash));
    if os.firmware.is_some() || pflash || os.nvram.is_some() {
        command.refuse(&os.place, "firmware in flash is not supported yet by glassbox; remove it");
    }
}

/// Adds `-bios`.
pub(crate) fn rom_arguments(command: &mut Command<'_>) {
    let Some(loader) = &command.domain.os.loader else { return };
    if let Some(path) = loader.path.as_ref() {
        command.argv.plain("-bios", path);
        command.needs_file(path, Access::Read, &loader.place);
    }
}

/// Adds `-kernel`, `-initrd` and `-append`.
pub(crate) fn kernel_arguments(command: &mut Command<'_>) {
    let os = &command.domain.os;
    for (option, element, file) in
        [("-kernel", "kernel", &os.kernel), ("-initrd", "initrd", &os.initrd)]
    {
        if let Some(path) = file {
            command.argv.plain(option, path);
            command.needs_file(path, Access::Read, &os.place.child(element));
        }
    }
    if let Some(cmdline) = &os.cmdline {
        command.argv.plain("-append", cmdline);
    }
}

/// Adds the device by which a guest tells where its crash notes lie.
pub(crate) fn vmcoreinfo_arguments(command: &mut Command<'_>) {
    if command.domain.features.vmcoreinfo == Some(true) {
        command.device(&Object::new("driver", "vmcoreinfo"));
    }
    if command.domain.os.bios.use_serial == Some(true) {
        command.argv.options("-device", Options::new("sga"));
    }
}
