//! Threads that serve devices.

use crate::command::Command;
use crate::json::Object;

/// Adds an object for each thread.
pub(crate) fn arguments(command: &mut Command<'_>) {
    for id in command.domain.iothreads.ids() {
        command.object(&Object::new("qom-type", "iothread").set("id", format!("iothread{id}")));
    }
}
