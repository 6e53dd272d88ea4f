//! Memory shared between guests, `<shmem>`.

use domain::devices::Shmem;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Shmem) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
