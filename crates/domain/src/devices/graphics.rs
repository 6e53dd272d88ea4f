//! Displays that people look at, `<graphics>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

mod listen;
mod local;
mod rdp;
mod spice;
mod vnc;

pub use listen::{Listen, ListenType};
pub use local::{DbusDisplay, EglHeadless, Sdl};
pub use rdp::Rdp;
pub use spice::{
    ChannelMode, ImageCompression, MouseMode, Spice, SpiceChannel, SpiceChannelName, Streaming,
    WanCompression,
};
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
    /// What becomes of the session before when a client gives a password.
    pub enum Connected {
        /// It ends.
        Disconnect = "disconnect",
        /// It stays.
        Keep = "keep",
        /// The password cannot be set.
        Fail = "fail",
    }
}

crate::attributes! {
    /// What a client must know.
    pub struct Password {
        /// The password.
        pub passwd: String = string "passwd",
        /// Until when it counts, such as `2030-04-09T15:51:00`, in UTC.
        pub valid_to: String = string "passwdValidTo",
        /// What becomes of clients that are there when it is set.
        pub connected: Connected = keyword "connected",
    }
}

crate::attributes! {
    /// Rendering by the host's GPU, `<gl>`.
    pub struct Gl {
        /// Whether it is on.
        pub enable: bool = yes_no "enable",
        /// The GPU's device, below `/dev/dri`.
        pub render_node: String = string "rendernode",
    }
}

/// A display that people look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Graphics {
    /// VNC.
    Vnc(Vnc),
    /// SPICE.
    Spice(Spice),
    /// A window on the host.
    Sdl(Sdl),
    /// RDP.
    Rdp(Rdp),
    /// D-Bus.
    Dbus(DbusDisplay),
    /// None, but a GPU renders.
    EglHeadless(EglHeadless),
}

impl Graphics {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "vnc"); // The keyword itself is read next.
        match reader.keyword("type")? {
            GraphicsType::Vnc => Some(Self::Vnc(Vnc::parse(reader))),
            GraphicsType::Spice => Some(Self::Spice(Spice::parse(reader))),
            GraphicsType::Sdl => Some(Self::Sdl(Sdl::parse(reader))),
            GraphicsType::Rdp => Some(Self::Rdp(Rdp::parse(reader))),
            GraphicsType::Dbus => Some(Self::Dbus(DbusDisplay::parse(reader))),
            GraphicsType::EglHeadless => Some(Self::EglHeadless(EglHeadless::parse(reader))),
            GraphicsType::Desktop => {
                let _ = reader.raw(); // The display is refused whole.
                reader.refuse_attribute("type", "no QEMU guest has this display; use vnc");
                None
            }
        }
    }

    /// The kind of display.
    #[must_use]
    pub fn kind(&self) -> GraphicsType {
        match self {
            Self::Vnc(_) => GraphicsType::Vnc,
            Self::Spice(_) => GraphicsType::Spice,
            Self::Sdl(_) => GraphicsType::Sdl,
            Self::Rdp(_) => GraphicsType::Rdp,
            Self::Dbus(_) => GraphicsType::Dbus,
            Self::EglHeadless(_) => GraphicsType::EglHeadless,
        }
    }

    /// Where the element stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Vnc(vnc) => &vnc.place,
            Self::Spice(spice) => &spice.place,
            Self::Sdl(sdl) => &sdl.place,
            Self::Rdp(rdp) => &rdp.place,
            Self::Dbus(dbus) => &dbus.place,
            Self::EglHeadless(egl) => &egl.place,
        }
    }

    /// Removes the password.
    pub fn forget_password(&mut self) {
        match self {
            Self::Vnc(vnc) => vnc.password.passwd = None,
            Self::Spice(spice) => spice.password.passwd = None,
            Self::Rdp(rdp) => rdp.password.passwd = None,
            Self::Sdl(_) | Self::Dbus(_) | Self::EglHeadless(_) => {}
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("graphics").attribute("type", self.kind());
        match self {
            Self::Vnc(vnc) => vnc.write(element),
            Self::Spice(spice) => spice.write(element),
            Self::Sdl(sdl) => sdl.write(element),
            Self::Rdp(rdp) => rdp.write(element),
            Self::Dbus(dbus) => dbus.write(element),
            Self::EglHeadless(egl) => egl.write(element),
        }
    }
}

impl Password {
    fn read(reader: &Reader<'_>) -> Self {
        let password = Self::parse(reader);
        if password.connected == Some(Connected::Fail) && reader.name() == "graphics" {
            let vnc = reader.attribute("type") == Some(GraphicsType::Vnc.as_str());
            if !vnc {
                reader.refuse_attribute("connected", "only VNC knows 'fail'; use 'keep'");
            }
        }
        password
    }
}

fn write_gl(gl: Option<&Gl>, writer: &mut Writer) {
    if let Some(gl) = gl {
        gl.write("gl", writer);
    }
}

/// Adds the attribute that repeats the first address.
fn write_address<'w>(element: OpenElement<'w>, listens: &[Listen]) -> OpenElement<'w> {
    element.optional("listen", listens.first().and_then(Listen::address))
}
