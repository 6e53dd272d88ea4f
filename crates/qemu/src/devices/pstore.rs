//! Where a crashing guest leaves its last words, `<pstore>`.

use domain::devices::Pstore;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Pstore) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
