//! VNC: `-vnc`.

use domain::devices::{Graphics, Listen, Vnc};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::audio;

/// VNC's displays are counted from this TCP port.
const FIRST_PORT: u16 = 5900;

/// Fills in whether a free port is looked for.
pub(crate) fn complete(vnc: &mut Vnc) {
    vnc.autoport = vnc.socket().is_none().then(|| vnc.is_autoport());
    if vnc.autoport != Some(false) {
        vnc.port = None;
    }
}

/// Adds `-vnc`.
pub(crate) fn arguments(command: &mut Command<'_>, vnc: &Vnc) {
    let Some(options) = address(command, vnc) else { return };
    let websocket = vnc.websocket.map(|port| match port {
        -1 => "on".to_owned(),
        port => port.to_string(),
    });
    let options = options
        .some("websocket", websocket)
        .some("share", vnc.share_policy)
        .some("audiodev", audio::default_id(command.domain));
    command.argv.options("-vnc", options);
    if let Some(keymap) = &vnc.keymap {
        command.argv.plain("-k", keymap);
    }
}

fn address(command: &Command<'_>, vnc: &Vnc) -> Option<Options> {
    match vnc.listens.first() {
        Some(Listen::Socket(Some(path))) => Some(socket(path)),
        Some(Listen::Socket(None)) => {
            Some(socket(&format!("{}/vnc.sock", command.facts.directories.guest)))
        }
        Some(Listen::Address(address)) => Some(tcp(command, vnc, address.as_deref())),
        Some(Listen::None) => Some(Options::new("none")),
        None => Some(tcp(command, vnc, None)),
    }
}

fn socket(path: &str) -> Options {
    Options::pair("vnc", format!("unix:{path}"))
}

fn tcp(command: &Command<'_>, vnc: &Vnc, address: Option<&str>) -> Options {
    let displays = &command.facts.displays;
    let address = address.unwrap_or(&displays.vnc_listen);
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let port =
        vnc.port.filter(|_| !vnc.is_autoport()).unwrap_or_else(|| automatic_port(command, vnc));
    Options::new(format!("{address}:{}", port.saturating_sub(FIRST_PORT)))
}

/// The displays before this one that look for a port take one each.
fn automatic_port(command: &Command<'_>, vnc: &Vnc) -> u16 {
    let before = command.domain.devices.graphics.iter().map_while(|graphics| match graphics {
        Graphics::Vnc(other) if std::ptr::eq(other, vnc) => None,
        Graphics::Vnc(other) => Some(u16::from(other.is_autoport() && other.socket().is_none())),
    });
    command.facts.displays.vnc_port.saturating_add(before.sum())
}
