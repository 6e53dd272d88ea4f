//! The port by which a guest says that it is ready.

use std::time::Duration;

use domain::devices::{
    Channel, ChannelPort, Chardev, ChardevSource, DeviceInfo, SocketMode, UnixSocket,
};
use domain::{Domain, Faults, ReadinessChannel};

use crate::command::Command;
use crate::plan::GuestReady;

/// The port's name, by which the guest finds it in `/dev/virtio-ports`.
const PORT: &str = "org.glassbox.notify.0";

/// Adds the port where the guest is to have one and its definition does not.
pub(crate) fn add_implicit(domain: &mut Domain, faults: &Faults) {
    let Some(readiness) = &domain.readiness else { return };
    let place = readiness.place.clone();
    if readiness.channel == ReadinessChannel::Vsock {
        faults.push(
            place.refused("channel='vsock' is not supported yet; use channel='virtio-serial'"),
        );
        return;
    }
    if domain.devices.channels.iter().any(|channel| channel.name() == Some(PORT)) {
        return;
    }
    let source = ChardevSource::Unix(UnixSocket::default());
    let chardev = Chardev::new(place.clone(), source);
    let (port, info) = (ChannelPort::Virtio(Some(PORT.to_owned())), DeviceInfo::default());
    domain.devices.channels.push(Channel { place, chardev, port, info });
}

/// Notes where this channel is served, if it is the one.
pub(crate) fn note(command: &mut Command<'_>, channel: &Channel, own_socket: &str) {
    let Some(readiness) = command.domain.readiness.as_ref() else { return };
    if channel.name() != Some(PORT) {
        return;
    }
    let Some(socket) = served_at(channel, own_socket) else {
        let what = "glassbox-qemu listens to this port; use type='unix' with <source mode='bind'/>";
        command.refuse(&channel.place, what);
        return;
    };
    let timeout = Duration::from_secs(readiness.timeout.into());
    command.ready = Some(GuestReady { port: PORT.to_owned(), socket: socket.to_owned(), timeout });
}

/// The path at which QEMU serves a channel; none when it does not.
fn served_at<'c>(channel: &'c Channel, own_socket: &'c str) -> Option<&'c str> {
    let ChardevSource::Unix(socket) = &channel.chardev.source else { return None };
    match (&socket.path, socket.mode) {
        (None, _) => Some(own_socket),
        (Some(path), Some(SocketMode::Bind)) => Some(path),
        (Some(_), Some(SocketMode::Connect) | None) => None,
    }
}
