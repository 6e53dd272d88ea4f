//! The host's side of character devices: `-chardev`.

use domain::devices::{
    Chardev, ChardevSource, Log, SocketMode, TcpProtocol, TcpSocket, UnixSocket,
};

use crate::argv::Options;
use crate::command::Command;
use crate::plan::FdKind;

/// The path of the socket of a channel that names none.
pub(crate) fn channel_socket(command: &Command<'_>, name: &str) -> String {
    // A channel's name is the guest's business and may have slashes; a file's name may not.
    format!("{}/{}", command.facts.directories.channel, name.replace('/', "_"))
}

/// Adds `-chardev` for the device with this alias; the result is its id. A Unix socket without a path listens
/// at `own_socket`.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    chardev: &Chardev,
    alias: &str,
    own_socket: Option<&str>,
) -> String {
    named_arguments(command, chardev, alias, own_socket, "vdagent")
}

/// As [`arguments`], for a device to which a SPICE client speaks by this name.
pub(crate) fn named_arguments(
    command: &mut Command<'_>,
    chardev: &Chardev,
    alias: &str,
    own_socket: Option<&str>,
    spice: &str,
) -> String {
    let id = format!("char{alias}");
    let Some(options) = backend(command, chardev, (alias, spice), own_socket) else { return id };
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
    (alias, spice): (&str, &str),
    own_socket: Option<&str>,
) -> Option<Options> {
    let kind = |name: &str| Options::new(name).set("id", format!("char{alias}"));
    Some(match &chardev.source {
        ChardevSource::Null => kind("null"),
        ChardevSource::Vc => kind("vc"),
        ChardevSource::Pty => kind("pty"),
        ChardevSource::Stdio => kind("stdio"),
        ChardevSource::Dev(path) => kind("serial").set("path", path),
        ChardevSource::Pipe(path) => kind("pipe").set("path", path),
        ChardevSource::SpiceVmc => kind("spicevmc").set("name", spice),
        ChardevSource::File { path, append } => {
            let output = FdKind::Output { path: path.clone(), truncate: *append != Some(true) };
            let path = command.pass_fd_set(output, &format!("{alias}-source"));
            kind("file").set("path", path).on_off("append", true)
        }
        ChardevSource::Tcp(socket) => return tcp(command, chardev, socket, kind("socket")),
        ChardevSource::Unix(socket) => {
            return unix(command, chardev, socket, own_socket, kind("socket"));
        }
    })
}

fn unix(
    command: &mut Command<'_>,
    chardev: &Chardev,
    socket: &UnixSocket,
    own_socket: Option<&str>,
    options: Options,
) -> Option<Options> {
    let (path, listens) = match (&socket.path, own_socket) {
        (Some(path), _) => (path.as_str(), socket.mode == Some(SocketMode::Bind)),
        (None, Some(path)) => (path, true),
        (None, None) => {
            command.refuse(&chardev.place, "the socket has no path; add <source path='...'/>");
            return None;
        }
    };
    if !listens {
        return Some(options.set("path", path));
    }
    let fd = command.pass_fd(FdKind::Listener { path: path.to_owned() });
    Some(options.set("fd", fd).on_off("server", true).on_off("wait", false))
}

fn tcp(
    command: &Command<'_>,
    chardev: &Chardev,
    socket: &TcpSocket,
    options: Options,
) -> Option<Options> {
    let (Some(host), Some(port)) = (&socket.host, &socket.service) else {
        let what = "the socket has no address; add <source host='...' service='...'/>";
        command.refuse(&chardev.place, what);
        return None;
    };
    let options = options.set("host", host).set("port", port);
    let options = match socket.protocol {
        TcpProtocol::Raw => options,
        TcpProtocol::Telnet => options.on_off("telnet", true),
        TcpProtocol::Telnets | TcpProtocol::Tls => {
            command.refuse(&chardev.place, "TLS is not supported yet by glassbox; use type='raw'");
            return None;
        }
    };
    if socket.mode == SocketMode::Bind {
        return Some(options.on_off("server", true).on_off("wait", false));
    }
    Some(options)
}

fn logged(command: &mut Command<'_>, log: Option<&Log>, alias: &str, options: Options) -> Options {
    let Some((log, path)) = log.and_then(|log| Some((log, log.file.as_ref()?))) else {
        return options;
    };
    let output = FdKind::Output { path: path.clone(), truncate: log.append != Some(true) };
    let path = command.pass_fd_set(output, &format!("{alias}-log"));
    options.set("logfile", path).on_off("logappend", true)
}
