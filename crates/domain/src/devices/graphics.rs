//! Displays that people look at, `<graphics>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

mod vnc;

pub use vnc::{SharePolicy, Vnc};

crate::keywords! {
    /// A protocol or a window.
    pub enum GraphicsType {
        /// A window on the host.
        Sdl = "sdl",
        /// VNC.
        Vnc = "vnc",
        /// RDP.
        Rdp = "rdp",
        /// A window of VirtualBox.
        Desktop = "desktop",
        /// SPICE.
        Spice = "spice",
        /// None, but a GPU renders.
        EglHeadless = "egl-headless",
        /// D-Bus.
        Dbus = "dbus",
    }
}

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
    /// A Unix socket; none is one in the guest's runtime directory.
    Socket(Option<String>),
}

/// A display that people look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Graphics {
    /// VNC.
    Vnc(Vnc),
}

impl Graphics {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "vnc"); // The keyword itself is read next.
        match reader.keyword("type")? {
            GraphicsType::Vnc => Vnc::parse(reader).map(Self::Vnc),
            GraphicsType::Sdl
            | GraphicsType::Rdp
            | GraphicsType::Desktop
            | GraphicsType::Spice
            | GraphicsType::EglHeadless
            | GraphicsType::Dbus => {
                let _ = reader.raw(); // The display is refused whole.
                reader.refuse_attribute("type", "not supported yet by glassbox; use vnc");
                None
            }
        }
    }

    /// Where the element stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Vnc(vnc) => &vnc.place,
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Vnc(vnc) => vnc.write(writer),
        }
    }
}

impl Listen {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "address"); // The keyword itself is read next.
        match reader.keyword("type")? {
            ListenType::None => Some(Self::None),
            ListenType::Address => Some(Self::Address(reader.string("address"))),
            ListenType::Socket => Some(Self::Socket(reader.string("socket"))),
            ListenType::Network => {
                let _ = reader.raw(); // The element is refused whole.
                reader.refuse_attribute("type", "not supported yet by glassbox; use address");
                None
            }
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let element = writer.element("listen");
        match self {
            Self::None => element.attribute("type", ListenType::None),
            Self::Address(address) => {
                element.attribute("type", ListenType::Address).optional("address", address.as_ref())
            }
            Self::Socket(socket) => {
                element.attribute("type", ListenType::Socket).optional("socket", socket.as_ref())
            }
        }
        .empty();
    }
}
