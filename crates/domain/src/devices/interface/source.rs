//! What an interface is connected to.

use crate::pci_address::PciAddress;
use crate::reader::Reader;
use crate::writer::Writer;

use super::super::hostdev::HostDriver;
use super::InterfaceType;
use super::ip::IpSettings;

crate::keywords! {
    /// How a macvtap device shares its host interface.
    pub enum DirectMode {
        /// Frames go through the switch outside.
        Vepa = "vepa",
        /// Guests reach one another at once.
        Private = "private",
        /// Guests do not reach one another.
        Bridge = "bridge",
        /// The interface is the guest's alone.
        Passthrough = "passthrough",
    }
}

crate::keywords! {
    /// Who waits at a vhost-user socket.
    pub enum VhostUserMode {
        /// QEMU connects.
        Client = "client",
        /// QEMU listens.
        Server = "server",
    }
}

crate::attributes! {
    /// An address with a port.
    pub struct SocketAddress {
        /// The address.
        pub address: String = string "address",
        /// The port.
        pub port: u16 = number "port",
    }
}

crate::attributes! {
    /// Whether QEMU connects again when the other side went away.
    pub struct Reconnect {
        /// Whether it does.
        pub enabled: bool = yes_no "enabled",
        /// Seconds between attempts.
        pub timeout: u32 = number "timeout",
    }
}

/// What an interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceSource {
    /// A network that QEMU or passt translates, perhaps by way of one host interface.
    User {
        /// The host interface.
        dev: Option<String>,
    },
    /// A tap device with what the host's end is given.
    Ethernet(IpSettings),
    /// A vhost-user server; passt has no socket of the user's.
    VhostUser {
        /// The socket's path.
        path: Option<String>,
        /// Who waits.
        mode: Option<VhostUserMode>,
        /// Whether QEMU connects again.
        reconnect: Reconnect,
        /// The host interface that passt uses.
        dev: Option<String>,
    },
    /// A listening socket.
    Server(SocketAddress),
    /// A socket of another guest.
    Client(SocketAddress),
    /// A multicast group.
    Mcast(SocketAddress),
    /// UDP, to an address and from a local one.
    Udp(SocketAddress, SocketAddress),
    /// A virtual network.
    Network {
        /// Its name.
        network: String,
        /// The group of its ports.
        portgroup: Option<String>,
    },
    /// A bridge of the host.
    Bridge(String),
    /// An internal network of this name.
    Internal(String),
    /// A host interface by macvtap.
    Direct {
        /// The host interface.
        dev: String,
        /// How it is shared; vepa when nothing is written.
        mode: Option<DirectMode>,
    },
    /// A PCI function of the host.
    Hostdev {
        /// The host's driver for it.
        driver: HostDriver,
        /// Its address on the host.
        address: PciAddress,
    },
    /// A vDPA device of the host with this path.
    Vdpa(String),
    /// A port of a distributed switch of VMware.
    Vds,
    /// Nothing.
    Null,
}

impl InterfaceSource {
    pub(super) fn parse(reader: &Reader<'_>, kind: InterfaceType) -> Option<Self> {
        let source = reader.child("source");
        let source = source.as_ref();
        let text = |name: &str, example: &str| match source {
            Some(source) => source.required(name, example).map(str::to_owned),
            None => {
                reader.refuse(format!(
                    "<source> is missing; add one such as <source {name}='{example}'/>"
                ));
                None
            }
        };
        let optional = |name: &str| source.and_then(|source| source.string(name));
        let socket = || SocketAddress::read(reader, source);
        Some(match kind {
            InterfaceType::User => Self::User { dev: optional("dev") },
            InterfaceType::Ethernet => {
                Self::Ethernet(source.map(IpSettings::parse).unwrap_or_default())
            }
            InterfaceType::VhostUser => Self::vhost_user(reader, source)?,
            InterfaceType::Server => Self::Server(socket()?),
            InterfaceType::Client => Self::Client(socket()?.with_address(reader)?),
            InterfaceType::Mcast => Self::Mcast(socket()?.with_address(reader)?),
            InterfaceType::Udp => Self::udp(reader, source)?,
            InterfaceType::Network => {
                // The port's id is the one of the last run.
                let _ = optional("portid");
                Self::Network {
                    portgroup: optional("portgroup"),
                    network: text("network", "default")?,
                }
            }
            InterfaceType::Bridge => Self::Bridge(text("bridge", "br0")?),
            InterfaceType::Internal => Self::Internal(text("name", "inner")?),
            InterfaceType::Direct => Self::Direct {
                mode: source.and_then(|source| source.keyword("mode")),
                dev: text("dev", "eth0")?,
            },
            InterfaceType::Hostdev => Self::hostdev(reader, source)?,
            InterfaceType::Vdpa => Self::Vdpa(text("dev", "/dev/vhost-vdpa-0")?),
            InterfaceType::Vds => Self::Vds,
            InterfaceType::Null => Self::Null,
        })
    }

    fn vhost_user(reader: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<Self> {
        let Some(source) = source else {
            return Some(Self::VhostUser {
                path: None,
                mode: None,
                reconnect: Reconnect::default(),
                dev: None,
            });
        };
        if let Some(kind) = source.attribute("type")
            && kind != "unix"
        {
            source
                .refuse_attribute("type", format!("'{kind}' is no kind of socket here; use unix"));
            return None;
        }
        let reconnect = source.child("reconnect").map(|r| Reconnect::parse(&r));
        let reconnect = reconnect.unwrap_or_default();
        let mode = source.keyword("mode");
        if reconnect.enabled == Some(true) && mode == Some(VhostUserMode::Server) {
            reader.refuse("<reconnect> is for mode='client'; remove it");
        }
        if reconnect.enabled == Some(true) && matches!(reconnect.timeout, None | Some(0)) {
            reader.refuse("<reconnect> has no time to wait; add timeout='10'");
        }
        let (path, dev) = (source.string("path"), source.string("dev"));
        Some(Self::VhostUser { path, mode, reconnect, dev })
    }

    fn udp(reader: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<Self> {
        let remote = SocketAddress::read(reader, source)?.with_address(reader)?;
        let Some(local) = source.and_then(|source| source.child("local")) else {
            reader.refuse(
                "<local> is missing in <source>; add <local address='127.0.0.1' port='5555'/>",
            );
            return None;
        };
        let local = SocketAddress::read(&local, Some(&local))?.with_address(&local)?;
        Some(Self::Udp(remote, local))
    }

    fn hostdev(reader: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<Self> {
        let driver = reader.child("driver").map(|driver| HostDriver::parse(&driver));
        let Some(address) = source.and_then(|source| source.child("address")) else {
            reader.refuse("<source> has no <address>; add <address type='pci' .../> of the host");
            return None;
        };
        if address.required("type", "pci")? != "pci" {
            let _ = address.raw(); // The address is refused whole.
            address.refuse_attribute("type", "only PCI devices are network devices; use pci");
            return None;
        }
        let driver = driver.unwrap_or_default();
        Some(Self::Hostdev { driver, address: PciAddress::parse(&address)? })
    }

    /// The value of the interface's attribute `type`.
    #[must_use]
    pub fn kind(&self) -> InterfaceType {
        match self {
            Self::User { .. } => InterfaceType::User,
            Self::Ethernet(_) => InterfaceType::Ethernet,
            Self::VhostUser { .. } => InterfaceType::VhostUser,
            Self::Server(_) => InterfaceType::Server,
            Self::Client(_) => InterfaceType::Client,
            Self::Mcast(_) => InterfaceType::Mcast,
            Self::Udp(..) => InterfaceType::Udp,
            Self::Network { .. } => InterfaceType::Network,
            Self::Bridge(_) => InterfaceType::Bridge,
            Self::Internal(_) => InterfaceType::Internal,
            Self::Direct { .. } => InterfaceType::Direct,
            Self::Hostdev { .. } => InterfaceType::Hostdev,
            Self::Vdpa(_) => InterfaceType::Vdpa,
            Self::Vds => InterfaceType::Vds,
            Self::Null => InterfaceType::Null,
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        let source = |w: &mut Writer, name: &str, value: &str| {
            w.element("source").attribute(name, value).empty();
        };
        match self {
            Self::User { dev } => w.element("source").optional("dev", dev.as_ref()).empty_if_any(),
            Self::Ethernet(ip) => w.element("source").children_if_any(|w| ip.write(w)),
            Self::VhostUser { path, mode, reconnect, dev } => w
                .element("source")
                .optional("type", path.as_ref().map(|_| "unix"))
                .optional("path", path.as_ref())
                .optional("mode", *mode)
                .optional("dev", dev.as_ref())
                .children_if_any(|w| reconnect.write("reconnect", w)),
            Self::Server(socket) | Self::Client(socket) | Self::Mcast(socket) => {
                socket.write("source", w);
            }
            Self::Udp(remote, local) => {
                let source = remote.write_attributes(w.element("source"));
                source.children(|w| local.write("local", w));
            }
            Self::Network { network, portgroup } => w
                .element("source")
                .attribute("network", network)
                .optional("portgroup", portgroup.as_ref())
                .empty(),
            Self::Bridge(bridge) => source(w, "bridge", bridge),
            Self::Internal(name) => source(w, "name", name),
            Self::Direct { dev, mode } => {
                w.element("source").attribute("dev", dev).optional("mode", *mode).empty();
            }
            Self::Hostdev { driver, address } => {
                driver.write("driver", w);
                w.element("source").children(|w| {
                    let element = w.element("address").attribute("type", "pci");
                    address.write_attributes(element).empty();
                });
            }
            Self::Vdpa(dev) => source(w, "dev", dev),
            Self::Vds | Self::Null => {}
        }
    }
}

impl SocketAddress {
    fn read(reader: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<Self> {
        let Some(source) = source else {
            reader.refuse("<source> is missing; add <source address='127.0.0.1' port='5558'/>");
            return None;
        };
        let _ = source.required("port", "5558")?; // The number itself is read next.
        Some(Self::parse(source))
    }

    fn with_address(self, reader: &Reader<'_>) -> Option<Self> {
        if self.address.is_none() {
            reader.refuse("the socket has no address; add one such as address='127.0.0.1'");
            return None;
        }
        Some(self)
    }

    /// The address as QEMU and URLs write it, `192.168.0.1:5558`; an address of IPv6 stands in brackets.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let address = self.address.as_deref().unwrap_or_default();
        let port = self.port.unwrap_or_default();
        if address.contains(':') {
            return format!("[{address}]:{port}");
        }
        format!("{address}:{port}")
    }
}
