//! Parallel ports, `<parallel>`.

use domain::devices::Parallel;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Parallel) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
