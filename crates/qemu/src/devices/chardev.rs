//! The host's side of character devices: `-chardev`.

use domain::devices::{
    Chardev, ChardevSource, Log, MouseMode, Reconnect, SocketMode, TcpProtocol, TcpSocket,
    UdpSocket, UnixSocket,
};

use crate::argv::Options;
use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;
use crate::plan::FdKind;

/// What the guest's side is, where that makes a difference.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'p> {
    /// A serial port, a console, a source of randomness.
    Port,
    /// A parallel port.
    Parallel,
    /// A channel; a Unix socket without a path listens at this one.
    Channel(&'p str),
    /// A redirected USB device.
    Redirection,
    /// A smart card.
    Smartcard,
}

/// The path of the socket of a channel that names none.
pub(crate) fn channel_socket(command: &Command<'_>, name: &str) -> String {
    // A channel's name is the guest's business and may have slashes; a file's name may not.
    format!("{}/{}", command.facts.directories.channel, name.replace('/', "_"))
}

/// Adds `-chardev` for the device with this alias; the result is its id.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    chardev: &Chardev,
    alias: &str,
    purpose: Purpose<'_>,
) -> String {
    let id = format!("char{alias}");
    if !chardev.labels.is_empty() {
        let what = "labels are not set by glassbox; label the file yourself";
        command.ignore(&chardev.place.child("source/seclabel"), what);
    }
    let Some(options) = backend(command, chardev, alias, purpose) else { return id };
    let options = logged(command, chardev.log.as_ref(), alias, options);
    if chardev.source == ChardevSource::Pty {
        command.offers_console(id.clone(), alias);
    }
    command.argv.options("-chardev", options);
    id
}

fn backend(
    command: &mut Command<'_>,
    chardev: &Chardev,
    alias: &str,
    purpose: Purpose<'_>,
) -> Option<Options> {
    let kind = |name: &str| Options::new(name).set("id", format!("char{alias}"));
    Some(match &chardev.source {
        ChardevSource::Null => kind("null"),
        ChardevSource::Vc => kind("vc"),
        ChardevSource::Pty => kind("pty"),
        ChardevSource::Stdio => kind("stdio"),
        ChardevSource::Dev(path) if matches!(purpose, Purpose::Parallel) => {
            kind("parallel").set("path", path)
        }
        ChardevSource::Dev(path) => kind("serial").set("path", path),
        ChardevSource::Pipe(path) => kind("pipe").set("path", path),
        ChardevSource::SpiceVmc => kind("spicevmc").set("name", spice_name(purpose)),
        ChardevSource::SpicePort(name) => kind("spiceport").set("name", name),
        ChardevSource::Dbus(name) => kind("dbus").set("name", name),
        ChardevSource::QemuVdagent(agent) => kind("qemu-vdagent")
            .set("name", "vdagent")
            .some_on_off("clipboard", agent.clipboard)
            .some_on_off("mouse", agent.mouse.map(|mouse| mouse == MouseMode::Client)),
        ChardevSource::File { path, append } => {
            let output = FdKind::Output { path: path.clone(), truncate: *append != Some(true) };
            let path = command.pass_fd_set(output, &format!("{alias}-source"));
            kind("file").set("path", path).on_off("append", true)
        }
        ChardevSource::Udp(socket) => udp(socket, kind("udp")),
        ChardevSource::Tcp(socket) => return tcp(command, chardev, socket, alias, kind("socket")),
        ChardevSource::Unix(socket) => {
            return unix(command, chardev, alias, (socket, purpose), kind("socket"));
        }
    })
}

/// The kind of a SPICE channel.
fn spice_name(purpose: Purpose<'_>) -> &'static str {
    match purpose {
        Purpose::Port | Purpose::Parallel | Purpose::Channel(_) => "vdagent",
        Purpose::Redirection => "usbredir",
        Purpose::Smartcard => "smartcard",
    }
}

fn unix(
    command: &mut Command<'_>,
    chardev: &Chardev,
    alias: &str,
    (socket, purpose): (&UnixSocket, Purpose<'_>),
    options: Options,
) -> Option<Options> {
    let (path, listens) = match (&socket.path, purpose) {
        (Some(path), _) => (path.as_str(), socket.mode == Some(SocketMode::Bind)),
        (None, Purpose::Channel(path)) => (path, true),
        (None, Purpose::Port | Purpose::Parallel | Purpose::Redirection | Purpose::Smartcard) => {
            command.refuse(&chardev.place, "the socket has no path; add <source path='...'/>");
            return None;
        }
    };
    if !listens {
        let options = options.set("path", path);
        return Some(reconnecting(command.facts, socket.reconnect.as_ref(), options));
    }
    command.serves_port(alias, path);
    let fd = command.pass_fd(FdKind::Listener { path: path.to_owned() });
    Some(options.set("fd", fd).on_off("server", true).on_off("wait", false))
}

fn udp(socket: &UdpSocket, options: Options) -> Options {
    let (bind, connect) = (&socket.bind, &socket.connect);
    // QEMU takes an empty name for any address and 0 for any port.
    options
        .set("host", connect.host.as_deref().unwrap_or_default())
        .set("port", connect.service.as_deref().unwrap_or_default())
        .set("localaddr", bind.host.as_deref().unwrap_or_default())
        .set("localport", bind.service.as_deref().unwrap_or("0"))
}

fn tcp(
    command: &mut Command<'_>,
    chardev: &Chardev,
    socket: &TcpSocket,
    alias: &str,
    options: Options,
) -> Option<Options> {
    let options = options.set("host", &socket.host).set("port", &socket.service);
    let options = match socket.protocol {
        TcpProtocol::Raw => options,
        TcpProtocol::Telnet => options.on_off("telnet", true),
        TcpProtocol::Telnets | TcpProtocol::Tls => {
            let what = "QEMU has no such protocol; use type='raw' and <source tls='yes'/>";
            command.refuse(&chardev.place, what);
            return None;
        }
    };
    let listens = socket.mode == SocketMode::Bind;
    let options = if listens {
        options.on_off("server", true).on_off("wait", false)
    } else {
        reconnecting(command.facts, socket.reconnect.as_ref(), options)
    };
    if !socket.tls.unwrap_or(command.facts.chardevs.tls) {
        return Some(options);
    }
    let credentials = format!("objchar{alias}_tls0");
    let object = Object::new("qom-type", "tls-creds-x509")
        .set("id", &credentials)
        .set("dir", &command.facts.chardevs.certificates)
        .set("endpoint", if listens { "server" } else { "client" })
        .set("verify-peer", true);
    command.object(&object);
    Some(options.set("tls-creds", credentials))
}

fn reconnecting(facts: &HostFacts, reconnect: Option<&Reconnect>, options: Options) -> Options {
    let Some(reconnect) = reconnect else { return options };
    match reconnect.enabled {
        None => options,
        Some(false) => reconnects(facts, options, 0),
        Some(true) => match reconnect.timeout {
            Some(seconds) => reconnects(facts, options, seconds),
            None => options,
        },
    }
}

/// After how many seconds a socket is connected to again, 0 for never, in the words of this QEMU.
pub(crate) fn reconnects(facts: &HostFacts, options: Options, seconds: u32) -> Options {
    if facts.abilities.chardev_reconnect_ms {
        options.set("reconnect-ms", u64::from(seconds) * 1000)
    } else {
        options.set("reconnect", seconds)
    }
}

fn logged(command: &mut Command<'_>, log: Option<&Log>, alias: &str, options: Options) -> Options {
    let Some((log, path)) = log.and_then(|log| Some((log, log.file.as_ref()?))) else {
        return options;
    };
    let output = FdKind::Output { path: path.clone(), truncate: log.append != Some(true) };
    let path = command.pass_fd_set(output, &format!("{alias}-log"));
    options.set("logfile", path).on_off("logappend", true)
}
