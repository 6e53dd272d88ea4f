//! Devices of the host in the guest, `<hostdev>`.

use domain::devices::Hostdev;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Hostdev) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
