//! The host's side of a character device, shared by serial ports, consoles, channels and others.

use crate::fault::Place;
use crate::reader::Reader;
use crate::seclabel::DeviceLabel;
use crate::writer::{OpenElement, Writer};

use super::graphics::MouseMode;

mod source;

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

crate::attributes! {
    /// Whether a connection that broke is made again.
    pub struct Reconnect {
        /// Whether it is.
        pub enabled: bool = yes_no "enabled",
        /// After how many seconds.
        pub timeout: u32 = number "timeout",
    }
}

/// A Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Who waits for whom.
    pub mode: Option<SocketMode>,
    /// Its path; a channel without one gets one below the guest's runtime directory.
    pub path: Option<String>,
    /// Whether a connection that broke is made again.
    pub reconnect: Option<Reconnect>,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    /// Who waits for whom; QEMU connects when nothing is written.
    pub mode: SocketMode,
    /// The host.
    pub host: String,
    /// The port's number or name.
    pub service: String,
    /// Whether it is encrypted.
    pub tls: Option<bool>,
    /// What is spoken; plain bytes when nothing is written.
    pub protocol: TcpProtocol,
    /// Whether a connection that broke is made again.
    pub reconnect: Option<Reconnect>,
}

/// One end of UDP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpEnd {
    /// The host.
    pub host: Option<String>,
    /// The port's number or name.
    pub service: Option<String>,
}

/// UDP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpSocket {
    /// Where QEMU receives.
    pub bind: UdpEnd,
    /// Where QEMU sends to.
    pub connect: UdpEnd,
}

/// QEMU's own SPICE agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vdagent {
    /// Whether text can be copied between guest and client.
    pub clipboard: Option<bool>,
    /// Who draws the pointer.
    pub mouse: Option<MouseMode>,
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
    /// UDP.
    Udp(UdpSocket),
    /// TCP.
    Tcp(TcpSocket),
    /// A Unix socket.
    Unix(UnixSocket),
    /// A channel of a SPICE client.
    SpiceVmc,
    /// The port of a SPICE client with this name.
    SpicePort(String),
    /// QEMU's own SPICE agent.
    QemuVdagent(Vdagent),
    /// The port of the D-Bus display with this name.
    Dbus(String),
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
    /// How files of the source are labelled.
    pub labels: Vec<DeviceLabel>,
}

impl Chardev {
    /// A host's side of which nothing more is to be said than what it is.
    #[must_use]
    pub fn new(place: Place, source: ChardevSource) -> Self {
        Self { place, source, log: None, labels: Vec::new() }
    }

    /// Reads the attribute `type` of a device and its children that say more.
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "pty"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        let log = reader.child("log").map(|log| Log::parse(&log));
        let sources = reader.children("source");
        let labels = sources.iter().flat_map(DeviceLabel::all).collect();
        let source = source::parse(reader, &sources, kind)?;
        Some(Self { place: reader.place(), source, log, labels })
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
        source::write(&self.source, &self.labels, writer);
        if let Some(log) = &self.log {
            log.write("log", writer);
        }
    }
}

impl ChardevSource {
    fn kind(&self) -> ChardevType {
        match self {
            Self::Null => ChardevType::Null,
            Self::Vc => ChardevType::Vc,
            Self::Pty => ChardevType::Pty,
            Self::Dev(_) => ChardevType::Dev,
            Self::File { .. } => ChardevType::File,
            Self::Pipe(_) => ChardevType::Pipe,
            Self::Stdio => ChardevType::Stdio,
            Self::Udp(_) => ChardevType::Udp,
            Self::Tcp(_) => ChardevType::Tcp,
            Self::Unix(_) => ChardevType::Unix,
            Self::SpiceVmc => ChardevType::SpiceVmc,
            Self::SpicePort(_) => ChardevType::SpicePort,
            Self::QemuVdagent(_) => ChardevType::QemuVdagent,
            Self::Dbus(_) => ChardevType::Dbus,
        }
    }
}
