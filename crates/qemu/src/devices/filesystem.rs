//! Directories of the host in the guest, `<filesystem>`.

use domain::devices::Filesystem;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Filesystem) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
