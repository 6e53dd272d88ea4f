//! The host's side of a character device, shared by serial ports, consoles, channels and others.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

crate::keywords! {
    /// What is at the host's side.
    pub enum ChardevType {
        /// Nothing.
        Null = "null",
        /// A text console of the display.
        Vc = "vc",
        /// A new pseudo terminal.
        Pty = "pty",
        /// A device of the host.
        Dev = "dev",
        /// A file.
        File = "file",
        /// A pair of named pipes.
        Pipe = "pipe",
        /// QEMU's standard input and output.
        Stdio = "stdio",
        /// UDP.
        Udp = "udp",
        /// TCP.
        Tcp = "tcp",
        /// A Unix socket.
        Unix = "unix",
        /// A channel of a SPICE client.
        SpiceVmc = "spicevmc",
        /// A named port of a SPICE client.
        SpicePort = "spiceport",
        /// A pair of FreeBSD's null modems.
        Nmdm = "nmdm",
        /// QEMU's own SPICE agent.
        QemuVdagent = "qemu-vdagent",
        /// A port of the D-Bus display.
        Dbus = "dbus",
    }
}

crate::keywords! {
    /// Who waits for whom.
    pub enum SocketMode {
        /// QEMU connects.
        Connect = "connect",
        /// QEMU is connected to.
        Bind = "bind",
    }
}

crate::keywords! {
    /// What is spoken over TCP.
    pub enum TcpProtocol {
        /// Plain bytes.
        Raw = "raw",
        /// Telnet.
        Telnet = "telnet",
        /// Telnet over TLS.
        Telnets = "telnets",
        /// TLS.
        Tls = "tls",
    }
}

crate::attributes! {
    /// A file that gets a copy of what the guest writes.
    pub struct Log {
        /// Its path.
        pub file: String = string "file",
        /// Whether it is kept when QEMU starts.
        pub append: bool = on_off "append",
    }
}

/// A Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Who waits for whom.
    pub mode: Option<SocketMode>,
    /// Its path; a channel without one gets one below the guest's runtime directory.
    pub path: Option<String>,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    /// Who waits for whom; QEMU connects when nothing is written.
    pub mode: SocketMode,
    /// The host.
    pub host: Option<String>,
    /// The port's number or name.
    pub service: Option<String>,
    /// What is spoken; plain bytes when nothing is written.
    pub protocol: TcpProtocol,
}

/// What is at the host's side, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChardevSource {
    /// Nothing.
    Null,
    /// A text console of the display.
    Vc,
    /// A new pseudo terminal.
    Pty,
    /// The device of the host with this path.
    Dev(String),
    /// A file.
    File {
        /// Its path.
        path: String,
        /// Whether it is kept when QEMU starts.
        append: Option<bool>,
    },
    /// The named pipes `PATH.in` and `PATH.out`, or the one `PATH`.
    Pipe(String),
    /// QEMU's standard input and output.
    Stdio,
    /// TCP.
    Tcp(TcpSocket),
    /// A Unix socket.
    Unix(UnixSocket),
    /// A channel of a SPICE client.
    SpiceVmc,
}

/// The host's side of a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chardev {
    /// Where `<source>` stands, or the device when there is none.
    pub place: Place,
    /// What it is.
    pub source: ChardevSource,
    /// The copy of what the guest writes.
    pub log: Option<Log>,
}

impl Chardev {
    /// Reads the attribute `type` of a device and its children that say more.
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "pty"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        let log = reader.child("log").map(|log| Log::parse(&log));
        let source = ChardevSource::parse(reader, kind)?;
        Some(Self { place: reader.place(), source, log })
    }

    /// The value of the device's attribute `type`.
    #[must_use]
    pub fn kind(&self) -> ChardevType {
        self.source.kind()
    }

    /// Adds the attribute `type` to a device's element.
    pub(crate) fn write_type<'w>(&self, element: OpenElement<'w>) -> OpenElement<'w> {
        element.attribute("type", self.kind())
    }

    /// Writes the children that say more than the type.
    pub(crate) fn write(&self, writer: &mut Writer) {
        self.source.write(writer);
        if let Some(log) = &self.log {
            log.write("log", writer);
        }
    }
}

impl ChardevSource {
    fn parse(device: &Reader<'_>, kind: ChardevType) -> Option<Self> {
        let source = device.child("source");
        if let Some(source) = &source {
            source.refuse_children(&["seclabel", "reconnect", "clipboard", "mouse"]);
        }
        let source = source.as_ref();
        match kind {
            ChardevType::Null => Some(Self::Null),
            ChardevType::Vc => Some(Self::Vc),
            ChardevType::Pty => {
                // The path is the one of the last run.
                let _ = source.and_then(|source| source.attribute("path"));
                Some(Self::Pty)
            }
            ChardevType::Dev => path(device, source).map(Self::Dev),
            ChardevType::File => {
                let append = source.and_then(|source| source.on_off("append"));
                Some(Self::File { path: path(device, source)?, append })
            }
            ChardevType::Pipe => path(device, source).map(Self::Pipe),
            ChardevType::Stdio => Some(Self::Stdio),
            ChardevType::Tcp => Some(Self::Tcp(TcpSocket::parse(device, source))),
            ChardevType::Unix => {
                let path = source.and_then(|source| source.string("path"));
                let mode = source.and_then(|source| source.keyword("mode"));
                // A mode without a path says nothing: such a channel always listens.
                Some(Self::Unix(UnixSocket { mode: mode.filter(|_| path.is_some()), path }))
            }
            ChardevType::SpiceVmc => Some(Self::SpiceVmc),
            ChardevType::Udp
            | ChardevType::SpicePort
            | ChardevType::Nmdm
            | ChardevType::QemuVdagent
            | ChardevType::Dbus => {
                let _ = (device.children("source"), source.map(Reader::raw)); // Refused whole.
                device.refuse_attribute("type", "not supported yet by glassbox; use pty");
                None
            }
        }
    }

    fn kind(&self) -> ChardevType {
        match self {
            Self::Null => ChardevType::Null,
            Self::Vc => ChardevType::Vc,
            Self::Pty => ChardevType::Pty,
            Self::Dev(_) => ChardevType::Dev,
            Self::File { .. } => ChardevType::File,
            Self::Pipe(_) => ChardevType::Pipe,
            Self::Stdio => ChardevType::Stdio,
            Self::Tcp(_) => ChardevType::Tcp,
            Self::Unix(_) => ChardevType::Unix,
            Self::SpiceVmc => ChardevType::SpiceVmc,
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Null | Self::Vc | Self::Pty | Self::Stdio | Self::SpiceVmc => {}
            Self::Dev(path) | Self::Pipe(path) => {
                writer.element("source").attribute("path", path).empty();
            }
            Self::File { path, append } => {
                writer.element("source").attribute("path", path).on_off("append", *append).empty();
            }
            Self::Tcp(tcp) => tcp.write(writer),
            Self::Unix(socket) => {
                if let Some(path) = &socket.path {
                    writer
                        .element("source")
                        .optional("mode", socket.mode)
                        .attribute("path", path)
                        .empty();
                }
            }
        }
    }
}

impl TcpSocket {
    fn parse(device: &Reader<'_>, source: Option<&Reader<'_>>) -> Self {
        if let Some(source) = source {
            source.refuse_attributes(&["tls"]);
        }
        Self {
            mode: source.and_then(|source| source.keyword("mode")).unwrap_or(SocketMode::Connect),
            host: source.and_then(|source| source.string("host")),
            service: source.and_then(|source| source.string("service")),
            protocol: device
                .child("protocol")
                .and_then(|protocol| protocol.keyword("type"))
                .unwrap_or(TcpProtocol::Raw),
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element("source")
            .attribute("mode", self.mode)
            .optional("host", self.host.as_ref())
            .optional("service", self.service.as_ref())
            .empty();
        writer.element("protocol").attribute("type", self.protocol).empty();
    }
}

fn path(device: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<String> {
    match source {
        Some(source) => source.required("path", "/dev/ttyS0").map(str::to_owned),
        None => {
            device.refuse("<source path='...'/> is missing; add it, or use type='pty'");
            None
        }
    }
}
