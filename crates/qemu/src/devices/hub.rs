//! USB hubs, `<hub>`.

use domain::devices::Hub;

use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;

/// Adds a hub.
pub(crate) fn arguments(command: &mut Command<'_>, hub: &Hub) {
    let device = Object::new("driver", "usb-hub");
    command.device(&placed(command, &hub.info, device));
}
