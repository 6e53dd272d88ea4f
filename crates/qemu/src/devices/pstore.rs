//! Storage that survives a crash.

use domain::Domain;
use domain::devices::{Pstore, PstoreBackend};

use crate::command::Command;
use crate::devices::placed;
use crate::facts::HostFacts;
use crate::json::Object;

/// Fills in the file.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts) {
    let path = format!("{}/{}_PSTORE.raw", facts.directories.nvram, domain.name);
    for pstore in &mut domain.devices.pstores {
        pstore.path.get_or_insert_with(|| path.clone());
    }
}

/// Adds the file as memory, and the device.
pub(crate) fn arguments(command: &mut Command<'_>, pstore: &Pstore) {
    let first = command.domain.devices.pstores.first();
    if !first.is_some_and(|first| std::ptr::eq(first, pstore)) {
        command.refuse(&pstore.place, "a guest has one such storage; remove this one");
    }
    let memory = format!("mem{}", pstore.info.alias());
    let object = Object::new("qom-type", "memory-backend-file")
        .set("id", &memory)
        .some("mem-path", pstore.path.as_ref())
        .set("size", pstore.size.bytes())
        .set("share", true);
    command.object(&object);
    let driver = match pstore.backend {
        PstoreBackend::AcpiErst => "acpi-erst",
    };
    let device = Object::new("driver", driver).set("memdev", memory);
    command.device(&placed(command, &pstore.info, device));
}
