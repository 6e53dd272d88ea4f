//! How a guest says that it is ready: over a port, or as its systemd does, over a vsock.

use std::time::Duration;

use domain::devices::{
    Channel, ChannelPort, Chardev, ChardevSource, DeviceInfo, GuestCid, SocketMode, UnixSocket,
    VirtioOptions, Vsock,
};
use domain::{Domain, Place, ReadinessChannel};

use crate::command::Command;
use crate::credentials;
use crate::plan::{GuestReady, ReadyAt};

/// The port's name, by which the guest finds it in `/dev/virtio-ports`.
const PORT: &str = "org.glassbox.notify.0";

/// The credential by which systemd in a guest is told where to say so, systemd.system-credentials(7).
const NOTIFY_SOCKET: &str = "vmm.notify_socket";

/// The host's number, `VMADDR_CID_HOST` of vsock(7).
const HOST_CID: u32 = 2;

/// The first port that takes no privilege, as with TCP (`PROT_SOCK` of Linux).
const FIRST_FREE_PORT: u32 = 1024;

/// Adds the device where the guest is to have one and its definition does not.
pub(crate) fn add_implicit(domain: &mut Domain) {
    let Some(readiness) = &domain.readiness else { return };
    let place = readiness.place.clone();
    match readiness.channel {
        ReadinessChannel::VirtioSerial => add_port(domain, place),
        ReadinessChannel::Vsock if domain.devices.vsocks.is_empty() => {
            let (cid, info) = (GuestCid { auto: Some(true), address: None }, DeviceInfo::default());
            let (model, virtio) = (None, VirtioOptions::default());
            domain.devices.vsocks.push(Vsock { place, model, cid, virtio, info });
        }
        ReadinessChannel::Vsock => {}
    }
}

fn add_port(domain: &mut Domain, place: Place) {
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
    if channel.name() != Some(PORT) || readiness.channel != ReadinessChannel::VirtioSerial {
        return;
    }
    let Some(socket) = served_at(channel, own_socket) else {
        let what = "glassbox-qemu listens to this port; use type='unix' with <source mode='bind'/>";
        command.refuse(&channel.place, what);
        return;
    };
    let timeout = Duration::from_secs(readiness.timeout.into());
    let at = ReadyAt::Port { name: PORT.to_owned(), socket: socket.to_owned() };
    command.ready = Some(GuestReady { at, timeout });
}

/// Tells the guest with this number where to say so, if it is to do that over its vsock.
pub(crate) fn note_vsock(command: &mut Command<'_>, cid: u32) {
    // Numbers of guests are each used once on a host, and so are the ports.
    let port = if cid < FIRST_FREE_PORT { u32::MAX - FIRST_FREE_PORT + cid } else { cid };
    note_at(command, port, |place| ReadyAt::Vsock { cid, port, place });
}

/// As [`note_vsock`], where a program serves the vsock: it has a Unix socket for each port, for this guest alone.
pub(crate) fn note_vsock_program(command: &mut Command<'_>, ports: &str) {
    let path = format!("{ports}_{FIRST_FREE_PORT}");
    note_at(command, FIRST_FREE_PORT, |place| ReadyAt::VsockProgram { path, place });
}

fn note_at(command: &mut Command<'_>, port: u32, at: impl FnOnce(Place) -> ReadyAt) {
    let readiness = command.domain.readiness.as_ref();
    let Some(readiness) = readiness.filter(|it| it.channel == ReadinessChannel::Vsock) else {
        return;
    };
    if command.facts.credentials.iter().any(|credential| credential.name == NOTIFY_SOCKET) {
        let what = format!(
            "the unit has a credential {NOTIFY_SOCKET} already; remove it, or this element"
        );
        command.refuse(&readiness.place, what);
        return;
    }
    credentials::add_text(command, NOTIFY_SOCKET, &format!("vsock-stream:{HOST_CID}:{port}"));
    let timeout = Duration::from_secs(readiness.timeout.into());
    command.ready = Some(GuestReady { at: at(readiness.place.clone()), timeout });
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
