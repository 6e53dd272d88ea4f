//! VNC: `-vnc`.

use domain::devices::{Listen, Vnc};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::audio;
use crate::json::Object;
use crate::plan::PasswordProtocol;

use super::{refuse_network, set_password};

/// VNC's displays are counted from this TCP port.
const FIRST_PORT: u16 = 5900;

/// The id of the credentials of an encrypted display.
const CREDENTIALS: &str = "vnc-tls-creds0";

/// Fills in whether a free port is looked for.
pub(crate) fn complete(vnc: &mut Vnc) {
    vnc.autoport = vnc.has_port().then(|| vnc.is_autoport());
    if vnc.autoport != Some(false) {
        vnc.port = None;
    }
}

/// Adds `-vnc`.
pub(crate) fn arguments(command: &mut Command<'_>, vnc: &Vnc) {
    let Some(options) = address(command, vnc) else { return };
    let websocket = vnc.websocket.filter(|_| vnc.has_port()).map(|port| match port {
        -1 => "on".to_owned(),
        port => port.to_string(),
    });
    let audio = vnc.audio.map(audio::id_of).or_else(|| audio::default_id(command.domain));
    let options = options.some("websocket", websocket).some("share", vnc.share_policy);
    let options = secured(command, vnc, options)
        .some_on_off("power-control", vnc.power_control)
        .some("audiodev", audio);
    command.argv.options("-vnc", options);
    if let Some(keymap) = &vnc.keymap {
        command.argv.plain("-k", keymap);
    }
    set_password(command, PasswordProtocol::Vnc, &vnc.password, &vnc.place);
}

/// Adds what clients must have or know.
fn secured(command: &mut Command<'_>, vnc: &Vnc, options: Options) -> Options {
    // The password itself is set later, by QMP, so that no list of processes shows it.
    let password = vnc.password.passwd.as_ref().map(|_| true);
    let options = options.some_on_off("password", password);
    let displays = &command.facts.displays;
    let credentials = displays.vnc_tls.as_ref().map(|folder| {
        Object::new("qom-type", "tls-creds-x509")
            .set("id", CREDENTIALS)
            .set("dir", folder)
            .set("endpoint", "server")
            .set("verify-peer", true)
    });
    let options = options
        .some("tls-creds", credentials.as_ref().map(|_| CREDENTIALS))
        .some_on_off("sasl", displays.vnc_sasl.then_some(true));
    if let Some(credentials) = &credentials {
        command.object(credentials);
    }
    options
}

fn address(command: &Command<'_>, vnc: &Vnc) -> Option<Options> {
    let own = || socket(&format!("{}/vnc.sock", command.facts.directories.guest));
    match vnc.listens.first() {
        Some(Listen::Socket(Some(path))) => Some(socket(path)),
        Some(Listen::Socket(None)) => Some(own()),
        Some(Listen::Address(None)) if command.facts.displays.vnc_socket && vnc.is_autoport() => {
            Some(own())
        }
        Some(Listen::Address(address)) => Some(tcp(command, vnc, address.as_deref())),
        Some(Listen::Network(Some(network))) => {
            refuse_network(command, &vnc.place, network);
            None
        }
        Some(Listen::None) => Some(Options::new("none")),
        Some(Listen::Network(None)) | None => Some(tcp(command, vnc, None)),
    }
}

fn socket(path: &str) -> Options {
    Options::pair("vnc", format!("unix:{path}"))
}

fn tcp(command: &Command<'_>, vnc: &Vnc, address: Option<&str>) -> Options {
    let displays = &command.facts.displays;
    let address = address.unwrap_or(&displays.vnc_listen);
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let port = vnc.port.filter(|_| !vnc.is_autoport()).unwrap_or(displays.vnc_port);
    Options::new(format!("{address}:{}", port.saturating_sub(FIRST_PORT)))
}
