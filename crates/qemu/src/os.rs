//! What the guest boots: firmware, kernel, tables.

use domain::devices::SourceKind;
use domain::{AcpiTableType, Domain, Loader, LoaderFormat, LoaderType, Nvram, Place};

use crate::argv::Options;
use crate::command::Command;
use crate::devices;
use crate::inherited::Opened;
use crate::json::{Json, Object};
use crate::plan::{Access, CopiedFile};

/// The names under which the caller may open firmware in flash: its code, and its variables.
const CODE: &str = "pflash0";
const VARIABLES: &str = "pflash1";

/// Adds the block nodes of firmware in flash.
pub(crate) fn firmware_arguments(command: &mut Command<'_>) {
    let os = &command.domain.os;
    let Some(loader) = flash(command.domain) else { return };
    let Some(path) = &loader.path else { return };
    let readonly = loader.readonly == Some(true);
    let access = if readonly { Access::Read } else { Access::ReadWrite };
    let place = said_at(&loader.place, &os.place);
    let format = loader.format.unwrap_or(LoaderFormat::Raw);
    let path = match command.inherits_set(CODE, &Opened::File(access), place) {
        Some(set) => Flash { path: set, driver: "file", readonly: Some(readonly) },
        None => {
            command.needs_openable(path, access, CODE.to_owned(), place);
            Flash { path: path.clone(), driver: "file", readonly: None }
        }
    };
    flash_storage(command, 0, path);
    flash_format(command, 0, format, readonly);
    if let Some(nvram) = &os.nvram {
        variables(command, nvram);
    }
}

/// Adds the block nodes of the firmware's variables.
fn variables(command: &mut Command<'_>, nvram: &Nvram) {
    let place = said_at(&nvram.place, &command.domain.os.place);
    let qcow2 = nvram.format == Some(LoaderFormat::Qcow2);
    // An image that the caller opened is open for writing, and no other way.
    let inherited = command.launch.inherited.has(VARIABLES);
    let readonly = (!qcow2 || inherited).then_some(false);
    let kind = nvram.source.as_ref().map(|source| (source, &source.kind));
    if let Some((source, SourceKind::Network(network))) = kind {
        let name = "libvirt-pflash1";
        if let Some(node) = devices::disk::firmware_storage(command, source, network, name) {
            command.argv.json("-blockdev", &opened(node, readonly));
        }
    } else if let Some(path) = &nvram.path {
        let block = matches!(kind, Some((_, SourceKind::Block(_))));
        let path = variables_path(command, nvram, path, block, place);
        let driver = if block { "host_device" } else { "file" };
        flash_storage(command, 1, Flash { path, driver, readonly });
    }
    if qcow2 {
        flash_format(command, 1, LoaderFormat::Qcow2, false);
    }
}

/// The path by which QEMU opens the firmware's variables.
fn variables_path(
    command: &mut Command<'_>,
    nvram: &Nvram,
    path: &str,
    block: bool,
    place: &Place,
) -> String {
    let kind = if block { Opened::Block } else { Opened::File };
    if let Some(set) = command.inherits_set(VARIABLES, &kind(Access::ReadWrite), place) {
        return set;
    }
    let descriptor = VARIABLES.to_owned();
    match nvram.template.as_ref().filter(|_| !block) {
        Some(template) => {
            let (path, template) = (path.to_owned(), template.clone());
            command.copies_file(CopiedFile { path, template, descriptor, place: place.clone() });
        }
        None => command.needs_openable(path, Access::ReadWrite, descriptor, place),
    }
    path.to_owned()
}

/// The place of an element, or of the one around it when completion added it.
fn said_at<'a>(own: &'a Place, around: &'a Place) -> &'a Place {
    if own.path.is_empty() { around } else { own }
}

/// The firmware, if it is in flash.
fn flash(domain: &Domain) -> Option<&Loader> {
    domain.os.loader.as_ref().filter(|loader| loader.kind == Some(LoaderType::Pflash))
}

/// The ends of the block nodes, for `-machine`: code and variables.
pub(crate) fn flash_nodes(domain: &Domain) -> (Option<&'static str>, Option<&'static str>) {
    if flash(domain).is_none() {
        return (None, None);
    }
    let variables = domain.os.nvram.as_ref().map(|nvram| match nvram.format {
        Some(LoaderFormat::Qcow2) => "libvirt-pflash1-format",
        Some(LoaderFormat::Raw) | None => "libvirt-pflash1-storage",
    });
    (Some("libvirt-pflash0-format"), variables)
}

/// Where one of the two parts of firmware in flash lies.
struct Flash {
    path: String,
    driver: &'static str,
    /// Whether it is opened for reading only; none as the node above it needs.
    readonly: Option<bool>,
}

fn flash_storage(command: &mut Command<'_>, number: u8, flash: Flash) {
    let node = Object::new("driver", flash.driver)
        .set("filename", flash.path)
        .set("node-name", format!("libvirt-pflash{number}-storage"));
    command.argv.json("-blockdev", &opened(node, flash.readonly));
}

/// A storage node that is used itself, or opened as the format above it needs.
fn opened(node: Object, readonly: Option<bool>) -> Object {
    match readonly {
        Some(readonly) => node.set("read-only", readonly),
        None => node.set("auto-read-only", true).set("discard", "unmap"),
    }
}

fn flash_format(command: &mut Command<'_>, number: u8, format: LoaderFormat, readonly: bool) {
    let node = Object::new("node-name", format!("libvirt-pflash{number}-format"))
        .set("read-only", readonly)
        .set("driver", format.as_str())
        .set("file", format!("libvirt-pflash{number}-storage"))
        // The image's own idea of a backing file is not to be followed.
        .some("backing", (format == LoaderFormat::Qcow2).then_some(Json::Null));
    command.argv.json("-blockdev", &node);
}

/// Adds ACPI tables that come from files.
pub(crate) fn acpi_arguments(command: &mut Command<'_>) {
    for table in &command.domain.os.acpi_tables {
        command.needs_file(&table.path, Access::Read, &table.place);
        let options = match table.kind {
            AcpiTableType::Raw | AcpiTableType::RawSet => Options::pair("file", &table.path),
            AcpiTableType::Slic => Options::pair("sig", "SLIC").set("file", &table.path),
            AcpiTableType::Msdm => Options::pair("sig", "MSDM").set("file", &table.path),
        };
        command.argv.options("-acpitable", options);
    }
}

/// Adds `-bios`.
pub(crate) fn rom_arguments(command: &mut Command<'_>) {
    let Some(loader) = &command.domain.os.loader else { return };
    if loader.kind == Some(LoaderType::Pflash) {
        return;
    }
    if let Some(path) = loader.path.as_ref() {
        command.argv.plain("-bios", path);
        command.needs_file(path, Access::Read, said_at(&loader.place, &command.domain.os.place));
    }
}

/// Adds `-kernel`, `-initrd`, `-append` and `-dtb`.
pub(crate) fn kernel_arguments(command: &mut Command<'_>) {
    let os = &command.domain.os;
    for (option, element, file) in [
        ("-kernel", "kernel", &os.kernel),
        ("-initrd", "initrd", &os.initrd),
        ("-shim", "shim", &os.shim),
    ] {
        if let Some(path) = file {
            command.argv.plain(option, path);
            command.needs_file(path, Access::Read, &os.place.child(element));
        }
    }
    if let Some(cmdline) = &os.cmdline {
        command.argv.plain("-append", cmdline);
    }
    if let Some(path) = &os.dtb {
        command.argv.plain("-dtb", path);
        command.needs_file(path, Access::Read, &os.place.child("dtb"));
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
