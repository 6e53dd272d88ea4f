//! Private channels between guest and host.

use domain::devices::{Channel, ChardevSource};

use crate::command::Command;
use crate::devices::{chardev, placed};
use crate::json::Object;

/// The name under which SPICE's agent is reached when the domain does not name the port.
const SPICE_AGENT: &str = "com.redhat.spice.0";

/// Adds the host's side and the port.
pub(crate) fn arguments(command: &mut Command<'_>, channel: &Channel) {
    let alias = channel.info.alias();
    let name = channel.name.as_deref();
    let socket = chardev::channel_socket(command, name.unwrap_or(alias));
    let backend = chardev::arguments(command, &channel.chardev, alias, Some(&socket));
    let agent = channel.chardev.source == ChardevSource::SpiceVmc;
    let name = name.or(agent.then_some(SPICE_AGENT));
    let device = Object::new("driver", "virtserialport").set("chardev", backend);
    let device = placed(command, &channel.info, device).some("name", name);
    command.device(&device);
}
