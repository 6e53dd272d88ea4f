//! System calls that QEMU denies itself.

use crate::argv::Options;
use crate::command::Command;

/// Adds `-sandbox`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let sandbox = Options::new("on")
        .set("obsolete", "deny")
        .set("elevateprivileges", "deny")
        .set("spawn", "deny")
        .set("resourcecontrol", "deny");
    command.argv.options("-sandbox", sandbox);
}
