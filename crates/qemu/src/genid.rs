//! The number by which a guest knows that it is a copy, or was set back.

use crate::command::Command;
use crate::json::Object;

/// Adds the device that shows the number.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let Some(genid) = domain.genid else { return };
    if !domain.features.acpi {
        let place = domain.place.child("genid");
        command.refuse(&place, "a generation id is told by ACPI; add <acpi/> to <features>");
    }
    let device = Object::new("driver", "vmgenid").set("guid", genid.to_string());
    command.device(&device.set("id", "vmgenid0"));
}
