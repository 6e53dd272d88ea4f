//! Memory that can be plugged, `<memory>` below `<devices>`.

use domain::devices::MemoryDevice;

use crate::command::Command;

/// Refuses the device, which is not turned into arguments yet.
pub(crate) fn arguments(command: &mut Command<'_>, device: &MemoryDevice) {
    command.refuse(&device.place, "the device is not supported yet by glassbox; remove it");
}
