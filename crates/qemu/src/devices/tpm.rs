//! Trusted platform modules, `<tpm>`.

use domain::devices::Tpm;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &Tpm) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
