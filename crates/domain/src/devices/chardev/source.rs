//! `<source>` and `<protocol>` of a character device.

use crate::reader::Reader;
use crate::seclabel::DeviceLabel;
use crate::writer::{OpenElement, Writer};

use super::{
    ChardevSource, ChardevType, Reconnect, SocketMode, TcpProtocol, TcpSocket, UdpEnd, UdpSocket,
    UnixSocket, Vdagent,
};

/// Reads what stands in `sources`, the children of that name of `device`.
pub(super) fn parse(
    device: &Reader<'_>,
    sources: &[Reader<'_>],
    kind: ChardevType,
) -> Option<ChardevSource> {
    let source = sources.first();
    let again = if kind == ChardevType::Udp { 2 } else { 1 };
    for other in sources.iter().skip(again) {
        other.ignore("<source> stands here once too often; the first counts, remove this one");
    }
    let path = || required(device, source, "path", "/dev/ttyS0");
    Some(match kind {
        ChardevType::Null => ChardevSource::Null,
        ChardevType::Vc => ChardevSource::Vc,
        ChardevType::Pty => {
            // The path is the one of the last run.
            let _ = source.and_then(|source| source.attribute("path"));
            ChardevSource::Pty
        }
        ChardevType::Dev => ChardevSource::Dev(path()?),
        ChardevType::File => {
            let append = source.and_then(|source| source.on_off("append"));
            ChardevSource::File { path: path()?, append }
        }
        ChardevType::Pipe => ChardevSource::Pipe(path()?),
        ChardevType::Stdio => ChardevSource::Stdio,
        ChardevType::Udp => ChardevSource::Udp(udp(device, sources)),
        ChardevType::Tcp => ChardevSource::Tcp(tcp(device, source)?),
        ChardevType::Unix => ChardevSource::Unix(unix(source)),
        ChardevType::SpiceVmc => ChardevSource::SpiceVmc,
        ChardevType::SpicePort => {
            let channel = required(device, source, "channel", "org.example.0")?;
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if !channel.chars().all(fits) {
                let what =
                    format!("'{channel}' is no name of a channel; use letters, digits and _-.");
                device.refuse(what);
            }
            ChardevSource::SpicePort(channel)
        }
        ChardevType::QemuVdagent => {
            let child = |name: &str| source.and_then(|source| source.child(name));
            ChardevSource::QemuVdagent(Vdagent {
                clipboard: child("clipboard").and_then(|clipboard| clipboard.yes_no("copypaste")),
                mouse: child("mouse").and_then(|mouse| mouse.keyword("mode")),
            })
        }
        ChardevType::Dbus => ChardevSource::Dbus(match (usual_channel(device), source) {
            (Some(usual), source) => source
                .and_then(|source| source.string("channel"))
                .unwrap_or_else(|| usual.to_owned()),
            (None, source) => required(device, source, "channel", "org.example.0")?,
        }),
        ChardevType::Nmdm => {
            let _ = source.map(Reader::raw); // Refused whole.
            device.refuse_attribute("type", "Linux has no such device; use pty");
            return None;
        }
    })
}

/// The channel of a D-Bus display that serves a device by QEMU's own convention.
fn usual_channel(device: &Reader<'_>) -> Option<&'static str> {
    match device.name() {
        "redirdev" => Some("org.qemu.usbredir"),
        "smartcard" => Some("org.qemu.smartcard"),
        _ => None,
    }
}

fn required(
    device: &Reader<'_>,
    source: Option<&Reader<'_>>,
    name: &str,
    example: &str,
) -> Option<String> {
    match source {
        Some(source) => source.required(name, example).map(str::to_owned),
        None => {
            device.refuse(format!("<source {name}='{example}'/> is missing; add it"));
            None
        }
    }
}

fn reconnect(source: &Reader<'_>, mode: SocketMode) -> Option<Reconnect> {
    let child = source.child("reconnect")?;
    let reconnect = Reconnect::parse(&child);
    let _ = child.required("enabled", "yes"); // It is read above.
    if reconnect.enabled == Some(true) {
        if reconnect.timeout == Some(0) {
            child.refuse_attribute("timeout", "0 would try without pause; give seconds from 1");
        } else if reconnect.timeout.is_none() {
            let _ = child.required("timeout", "5"); // The message is all that is wanted.
        }
    }
    if mode == SocketMode::Bind {
        child.refuse("only who connects can connect again; use <source mode='connect'/>");
    }
    Some(reconnect)
}

fn unix(source: Option<&Reader<'_>>) -> UnixSocket {
    let Some(source) = source else { return UnixSocket::default() };
    let path = source.string("path");
    let mode: Option<SocketMode> = source.keyword("mode");
    let reconnect = reconnect(source, mode.unwrap_or(SocketMode::Connect));
    // A mode without a path says nothing: such a channel always listens.
    UnixSocket { mode: mode.filter(|_| path.is_some()), path, reconnect }
}

fn tcp(device: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<TcpSocket> {
    let protocol = device
        .child("protocol")
        .and_then(|protocol| protocol.keyword("type"))
        .unwrap_or(TcpProtocol::Raw);
    let host = required(device, source, "host", "127.0.0.1");
    let source = source?;
    let mode = source.keyword("mode").unwrap_or(SocketMode::Connect);
    let tls = source.yes_no("tls");
    let reconnect = reconnect(source, mode);
    let service = source.required("service", "4555").map(str::to_owned);
    Some(TcpSocket { mode, host: host?, service: service?, tls, protocol, reconnect })
}

fn udp(device: &Reader<'_>, sources: &[Reader<'_>]) -> UdpSocket {
    let mut socket = UdpSocket::default();
    for source in sources.iter().take(2) {
        let end = UdpEnd { host: source.string("host"), service: source.string("service") };
        match source.keyword("mode").unwrap_or(SocketMode::Connect) {
            SocketMode::Bind => socket.bind = end,
            SocketMode::Connect => socket.connect = end,
        }
    }
    if socket.connect.service.is_none() {
        device.refuse("<source mode='connect' service='4555'/> is missing; add it");
    }
    socket
}

/// Writes what [`parse`] reads.
pub(super) fn write(source: &ChardevSource, labels: &[DeviceLabel], writer: &mut Writer) {
    let labelled = |element: OpenElement<'_>| {
        element.children(|w| labels.iter().for_each(|label| label.write(w)));
    };
    match source {
        ChardevSource::Null
        | ChardevSource::Vc
        | ChardevSource::Pty
        | ChardevSource::Stdio
        | ChardevSource::SpiceVmc => {}
        ChardevSource::Dev(path) | ChardevSource::Pipe(path) => {
            labelled(writer.element("source").attribute("path", path));
        }
        ChardevSource::File { path, append } => {
            labelled(writer.element("source").attribute("path", path).on_off("append", *append));
        }
        ChardevSource::Udp(udp) => {
            udp_end(SocketMode::Bind, &udp.bind, writer);
            udp_end(SocketMode::Connect, &udp.connect, writer);
        }
        ChardevSource::Tcp(tcp) => write_tcp(tcp, writer),
        ChardevSource::Unix(socket) => write_unix(socket, labels, writer),
        ChardevSource::SpicePort(channel) | ChardevSource::Dbus(channel) => {
            writer.element("source").attribute("channel", channel).empty();
        }
        ChardevSource::QemuVdagent(agent) => writer.element("source").children_if_any(|w| {
            w.element("clipboard").yes_no("copypaste", agent.clipboard).empty_if_any();
            w.element("mouse").optional("mode", agent.mouse).empty_if_any();
        }),
    }
}

fn write_unix(socket: &UnixSocket, labels: &[DeviceLabel], writer: &mut Writer) {
    let Some(path) = &socket.path else { return };
    writer.element("source").optional("mode", socket.mode).attribute("path", path).children(|w| {
        write_reconnect(socket.reconnect.as_ref(), w);
        labels.iter().for_each(|label| label.write(w));
    });
}

fn write_tcp(tcp: &TcpSocket, writer: &mut Writer) {
    writer
        .element("source")
        .attribute("mode", tcp.mode)
        .attribute("host", &tcp.host)
        .attribute("service", &tcp.service)
        .yes_no("tls", tcp.tls)
        .children(|w| write_reconnect(tcp.reconnect.as_ref(), w));
    writer.element("protocol").attribute("type", tcp.protocol).empty();
}

fn udp_end(mode: SocketMode, end: &UdpEnd, writer: &mut Writer) {
    if end.host.is_none() && end.service.is_none() {
        return;
    }
    writer
        .element("source")
        .attribute("mode", mode)
        .optional("host", end.host.as_ref())
        .optional("service", end.service.as_ref())
        .empty();
}

fn write_reconnect(reconnect: Option<&Reconnect>, writer: &mut Writer) {
    if let Some(reconnect) = reconnect {
        reconnect.write("reconnect", writer);
    }
}
