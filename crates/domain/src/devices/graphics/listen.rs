//! What a display listens on, `<listen>`.

use crate::reader::Reader;
use crate::writer::Writer;

use super::GraphicsType;

crate::keywords! {
    /// What a display listens on.
    pub enum ListenType {
        /// Nothing.
        None = "none",
        /// An address of the host.
        Address = "address",
        /// The address of a virtual network.
        Network = "network",
        /// A Unix socket.
        Socket = "socket",
    }
}

/// What a display listens on, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nothing: clients get a descriptor of the running guest.
    None,
    /// An address of the host; none takes the host's default.
    Address(Option<String>),
    /// The host's address on this virtual network.
    Network(Option<String>),
    /// A Unix socket; none is one in the guest's runtime directory.
    Socket(Option<String>),
}

impl Listen {
    /// The `<listen>` elements of a display; without one, what the attributes `socket` and `listen` say.
    pub(super) fn all(display: &Reader<'_>, kind: GraphicsType) -> Vec<Self> {
        let elements = display.children("listen");
        let mut listens: Vec<Self> =
            elements.iter().filter_map(|element| Self::parse(element, kind)).collect();
        if let Some(second) = elements.get(1) {
            second.refuse("a display of QEMU listens on one thing; remove all <listen> but one");
        }
        let own_socket = matches!(kind, GraphicsType::Vnc | GraphicsType::Spice);
        let socket = display.string("socket").filter(|_| own_socket);
        let address = display.string("listen").filter(|address| !address.is_empty());
        match listens.first_mut() {
            None if socket.is_some() => listens.push(Self::Socket(socket)),
            None => listens.push(Self::Address(address)),
            Some(Self::Socket(path)) => agree(display, "socket", path, socket),
            Some(Self::Address(own)) => agree(display, "listen", own, address),
            // What the last run resolved.
            Some(Self::Network(_) | Self::None) => {}
        }
        listens
    }

    fn parse(reader: &Reader<'_>, kind: GraphicsType) -> Option<Self> {
        let _ = reader.required("type", "address"); // The keyword itself is read next.
        let kind_of_listen: ListenType = reader.keyword("type")?;
        let sockets = matches!(kind, GraphicsType::Vnc | GraphicsType::Spice);
        if matches!(kind_of_listen, ListenType::None | ListenType::Socket) && !sockets {
            let what = format!("a display of type '{kind}' cannot do this; use address");
            reader.refuse_attribute("type", what);
        }
        let foreign = |name: &str, owner: &str| {
            if reader.attribute(name).is_some_and(|value| !value.is_empty()) {
                reader.refuse_attribute(name, format!("counts only with type='{owner}'"));
            }
        };
        if !matches!(kind_of_listen, ListenType::Address | ListenType::Network) {
            foreign("address", "address");
        }
        if kind_of_listen != ListenType::Network {
            foreign("network", "network");
        }
        if kind_of_listen != ListenType::Socket {
            foreign("socket", "socket");
        }
        let text = |name: &str| reader.string(name).filter(|text| !text.is_empty());
        Some(match kind_of_listen {
            ListenType::None => Self::None,
            ListenType::Address => Self::Address(text("address")),
            ListenType::Network => {
                let _ = reader.attribute("address"); // What the last run resolved.
                Self::Network(text("network"))
            }
            ListenType::Socket => Self::Socket(text("socket")),
        })
    }

    /// The address, if one is given.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Address(address) => address.as_deref(),
            Self::None | Self::Network(_) | Self::Socket(_) => None,
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let element = writer.element("listen");
        match self {
            Self::None => element.attribute("type", ListenType::None),
            Self::Address(address) => {
                element.attribute("type", ListenType::Address).optional("address", address.as_ref())
            }
            Self::Network(network) => {
                element.attribute("type", ListenType::Network).optional("network", network.as_ref())
            }
            Self::Socket(socket) => {
                element.attribute("type", ListenType::Socket).optional("socket", socket.as_ref())
            }
        }
        .empty();
    }
}

/// An attribute of the display may repeat what its first `<listen>` says, or say it in its place.
fn agree(display: &Reader<'_>, name: &str, own: &mut Option<String>, given: Option<String>) {
    match (own.as_deref(), given) {
        (None, given) => *own = given,
        (Some(own), Some(given)) if own != given => {
            let what = format!("'{given}' is not the '{own}' of the first <listen>; remove one");
            display.refuse_attribute(name, what);
        }
        (Some(_), _) => {}
    }
}
