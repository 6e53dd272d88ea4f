//! Private channels between guest and host.

use domain::devices::{Channel, ChannelPort, ChardevSource};

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, placed, ready};
use crate::json::Object;

/// The name under which SPICE's agent is reached.
const SPICE_AGENT: &str = "com.redhat.spice.0";

/// Adds the host's side and the port.
pub(crate) fn arguments(command: &mut Command<'_>, channel: &Channel) {
    let alias = channel.info.alias();
    let name = channel.name();
    let socket = chardev::channel_socket(command, name.unwrap_or(alias));
    ready::note(command, channel, &socket);
    let backend = chardev::arguments(command, &channel.chardev, alias, Purpose::Channel(&socket));
    if let ChannelPort::Guestfwd { address, port } = &channel.port {
        let forward = Object::new("str", format!("tcp:{address}:{port}-chardev:{backend}"));
        let network = Object::new("type", "user").set("guestfwd", vec![forward]).set("id", alias);
        command.argv.json("-netdev", &network);
        return;
    }
    let agent = channel.chardev.source == ChardevSource::SpiceVmc;
    if agent && name.is_some_and(|name| name != SPICE_AGENT) {
        let what = format!("a channel of a SPICE client is named '{SPICE_AGENT}'; use that");
        command.refuse(&channel.place, what);
    }
    let name = name.or(agent.then_some(SPICE_AGENT));
    let device = Object::new("driver", "virtserialport").set("chardev", backend);
    let device = placed(command, &channel.info, device).some("name", name);
    command.device(&device);
}
