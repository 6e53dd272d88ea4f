//! Devices by which a guest tells that it crashed, `<panic>`.

use domain::devices::Panic;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Panic) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
