//! What firmware tells of the machine: `-smbios` and `-fw_cfg`.

use domain::{Domain, Faults, SmbiosBlock, SmbiosMode, Sysinfo, SysinfoType};

use crate::argv::Options;
use crate::command::Command;
use crate::plan::Access;

/// Checks that there are tables if they are asked for, and that the UUID is the guest's.
pub(crate) fn complete(domain: &Domain, faults: &Faults) {
    let smbios = || domain.sysinfo.iter().filter(|info| info.kind == SysinfoType::Smbios);
    match domain.os.smbios {
        Some(SmbiosMode::Sysinfo) if smbios().next().is_none() => {
            let what = "<smbios mode='sysinfo'/> needs <sysinfo type='smbios'>; add it";
            faults.push(domain.os.place.refused(what));
        }
        Some(SmbiosMode::Host) => {
            let what = "<smbios mode='host'/> is not supported by glassbox; write a <sysinfo>";
            faults.push(domain.os.place.refused(what));
        }
        Some(SmbiosMode::Sysinfo | SmbiosMode::Emulate) | None => {}
    }
    for info in smbios() {
        let entries = info.tables.iter().flat_map(|table| &table.entries);
        for (_, text) in entries.filter(|(name, _)| *name == "uuid") {
            let same = text.parse().is_ok_and(|uuid| Some(uuid) == domain.uuid);
            if !same {
                let what = "the uuid of <system> is not that of the domain; make both the same";
                faults.push(info.place.refused(what));
            }
        }
    }
}

/// Adds the tables.
pub(crate) fn smbios_arguments(command: &mut Command<'_>) {
    if command.domain.os.smbios != Some(SmbiosMode::Sysinfo) {
        return;
    }
    let domain = command.domain;
    let smbios = domain.sysinfo.iter().filter(|info| info.kind == SysinfoType::Smbios);
    for table in smbios.flat_map(|info| &info.tables) {
        let number = match table.block {
            SmbiosBlock::Bios => 0,
            SmbiosBlock::System => 1,
            SmbiosBlock::BaseBoard => 2,
            SmbiosBlock::Chassis => 3,
            SmbiosBlock::OemStrings => 11,
        };
        let key = |name: &'static str| if name.is_empty() { "value" } else { name };
        let entries = table.entries.iter();
        let options = entries.fold(Options::pair("type", number), |o, (n, v)| o.set(key(n), v));
        if !table.entries.is_empty() {
            command.argv.options("-smbios", options);
        }
    }
}

/// Adds the files of the firmware configuration.
pub(crate) fn config_arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    for info in &domain.sysinfo {
        files(command, info);
    }
}

fn files(command: &mut Command<'_>, info: &Sysinfo) {
    for entry in &info.config {
        if let Some(file) = &entry.file {
            command.needs_file(file, Access::Read, &entry.place);
        }
        let options = Options::pair("name", &entry.name)
            .some("string", entry.value.as_ref())
            .some("file", entry.file.as_ref());
        command.argv.options("-fw_cfg", options);
    }
}
