//! SPICE: `-spice`.

use domain::devices::{ChannelMode, Listen, MouseMode, Spice, SpiceChannel, SpiceChannelName};
use domain::{Keyword, Place};

use crate::argv::Pairs;
use crate::command::Command;
use crate::plan::PasswordProtocol;

use super::{refuse_network, render_node, set_password};

/// The TCP ports of one display.
#[derive(Debug, Clone, Copy, Default)]
struct Ports {
    plain: Option<u16>,
    tls: Option<u16>,
}

/// Says that a display without a port listens on nothing.
pub(super) fn complete(spice: &mut Spice) {
    let ports = spice.port.is_some() || spice.tls_port.is_some() || spice.autoport;
    if let Some(listen @ Listen::Address(_)) = spice.listens.first_mut()
        && !ports
    {
        *listen = Listen::None;
    }
}

/// Adds `-spice`.
pub(super) fn arguments(command: &mut Command<'_>, spice: &Spice) {
    let mut pairs = Pairs::default();
    let ports = listen(command, spice, &mut pairs);
    let displays = &command.facts.displays;
    if displays.spice_sasl {
        pairs.on_off("sasl", true);
    }
    let mouse = spice.mouse.map(|mouse| mouse == MouseMode::Client);
    pairs.some_on_off("agent-mouse", mouse);
    // A password is set later, by QMP, so that no list of processes shows it.
    if spice.password.passwd.is_none() && !displays.spice_password {
        pairs.on_off("disable-ticketing", true);
    }
    pairs.some("x509-dir", displays.spice_tls.as_ref().filter(|_| ports.tls.is_some()));
    channels(command, spice, ports, &mut pairs);
    pairs.some("image-compression", spice.image);
    pairs.some("jpeg-wan-compression", spice.jpeg);
    pairs.some("zlib-glz-wan-compression", spice.zlib);
    pairs.some_on_off("playback-compression", spice.playback);
    pairs.some("streaming-video", spice.streaming);
    if spice.copy_paste == Some(false) {
        pairs.on_off("disable-copy-paste", true);
    }
    if spice.file_transfer == Some(false) {
        pairs.on_off("disable-agent-file-xfer", true);
    }
    if spice.renders() {
        pairs.on_off("gl", true);
        let named = spice.gl.as_ref().and_then(|gl| gl.render_node.as_ref());
        pairs.some("rendernode", render_node(command, named, &spice.place));
    }
    pairs.on_off("seamless-migration", true);
    command.argv.pairs("-spice", pairs);
    if let Some(keymap) = &spice.keymap {
        command.argv.plain("-k", keymap);
    }
    set_password(command, PasswordProtocol::Spice, &spice.password, &spice.place);
}

fn listen(command: &mut Command<'_>, spice: &Spice, pairs: &mut Pairs) -> Ports {
    let displays = &command.facts.displays;
    let own = || format!("{}/spice.sock", command.facts.directories.guest);
    let mut socket = |path: &str| {
        pairs.on_off("unix", true);
        pairs.set("addr", path);
        Ports::default()
    };
    match spice.listens.first() {
        Some(Listen::Socket(Some(path))) => socket(path),
        Some(Listen::Socket(None)) => socket(&own()),
        Some(Listen::Address(None)) if displays.spice_socket && spice.port.is_none() => {
            socket(&own())
        }
        Some(Listen::None) => {
            // QEMU wants a port; 0 is none.
            pairs.set("port", 0);
            Ports::default()
        }
        Some(Listen::Network(Some(network))) => {
            refuse_network(command, &spice.place, network);
            Ports::default()
        }
        Some(Listen::Network(None)) | None => tcp(command, spice, None, pairs),
        Some(Listen::Address(address)) => tcp(command, spice, address.as_deref(), pairs),
    }
}

fn tcp(command: &Command<'_>, spice: &Spice, address: Option<&str>, pairs: &mut Pairs) -> Ports {
    let displays = &command.facts.displays;
    let ports = ports(command, spice);
    if ports.tls.is_some() && displays.spice_tls.is_none() {
        let what = "the host has no certificates for SPICE; remove tlsPort";
        command.refuse(&spice.place, what);
    }
    pairs.some("port", ports.plain);
    pairs.some("tls-port", ports.tls);
    if ports.plain.is_some() || ports.tls.is_some() {
        pairs.set("addr", address.unwrap_or(&displays.spice_listen));
    } else {
        pairs.set("port", 0);
    }
    ports
}

/// The ports that the domain gives, or free ones for the kinds of channels that it has.
fn ports(command: &Command<'_>, spice: &Spice) -> Ports {
    if !spice.autoport {
        return Ports { plain: spice.port, tls: spice.tls_port };
    }
    let displays = &command.facts.displays;
    let default = spice.default_mode.unwrap_or(ChannelMode::Any);
    let mut modes: Vec<ChannelMode> = spice.channels.iter().map(|channel| channel.mode).collect();
    if modes.len() < SpiceChannelName::ALL.len() {
        modes.push(default);
    }
    let any_tls = displays.spice_tls.is_some();
    let needs = |plain: bool| {
        modes.iter().any(|mode| match mode {
            ChannelMode::Any => plain || any_tls,
            ChannelMode::Secure => !plain,
            ChannelMode::Insecure => plain,
        })
    };
    Ports {
        plain: needs(true).then_some(displays.spice_port),
        tls: needs(false).then_some(displays.spice_port.saturating_add(1)),
    }
}

fn channels(command: &Command<'_>, spice: &Spice, ports: Ports, pairs: &mut Pairs) {
    let mut add = |name: &str, mode: ChannelMode, place: &Place| match mode {
        ChannelMode::Any => {}
        ChannelMode::Secure => {
            if ports.tls.is_none() {
                command.refuse(place, "encrypted channels need a port; give tlsPort");
            }
            pairs.set("tls-channel", name);
        }
        ChannelMode::Insecure => {
            if ports.plain.is_none() {
                command.refuse(place, "channels without encryption need a port; give port");
            }
            pairs.set("plaintext-channel", name);
        }
    };
    add("default", spice.default_mode.unwrap_or(ChannelMode::Any), &spice.place);
    for SpiceChannel { name, mode } in &spice.channels {
        add(name.as_str(), *mode, &spice.place.child("channel"));
    }
}
