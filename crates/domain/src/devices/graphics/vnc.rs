//! VNC, `<graphics type='vnc'>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{GraphicsType, Listen};

crate::keywords! {
    /// How clients share a display.
    pub enum SharePolicy {
        /// A client may ask to be alone.
        AllowExclusive = "allow-exclusive",
        /// The first client to say so is alone.
        ForceShared = "force-shared",
        /// All clients share.
        Ignore = "ignore",
    }
}

/// VNC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnc {
    /// Where the element stands.
    pub place: Place,
    /// The TCP port, 5900 and up; none is any free one.
    pub port: Option<u16>,
    /// Whether a free port is looked for.
    pub autoport: Option<bool>,
    /// The port for WebSocket clients; -1 is any free one.
    pub websocket: Option<i32>,
    /// How clients share the display.
    pub share_policy: Option<SharePolicy>,
    /// The keyboard's layout.
    pub keymap: Option<String>,
    /// What it listens on.
    pub listens: Vec<Listen>,
}

impl Vnc {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_attributes(&["passwd", "passwdValidTo", "connected", "powerControl"]);
        reader.refuse_attributes(&["multiUser", "wait"]);
        let port: Option<i32> = reader.value("port");
        if let Some(port) = port.filter(|port| *port != -1 && !(5900..=65_535).contains(port)) {
            reader.refuse_attribute("port", format!("{port} is no VNC port; use 5900 to 65535"));
        }
        let port = port.and_then(|port| u16::try_from(port).ok());
        Some(Self {
            place: reader.place(),
            port,
            autoport: reader.yes_no("autoport"),
            websocket: reader.value("websocket"),
            share_policy: reader.keyword("sharePolicy"),
            keymap: reader.string("keymap"),
            listens: listens(reader),
        })
    }

    /// Whether a free port is looked for when the guest starts.
    #[must_use]
    pub fn is_autoport(&self) -> bool {
        self.autoport.unwrap_or(self.port.is_none()) || self.port.is_none()
    }

    /// The Unix socket that it listens on: one with or without a path.
    #[must_use]
    pub fn socket(&self) -> Option<Option<&str>> {
        match self.listens.first()? {
            Listen::Socket(path) => Some(path.as_deref()),
            Listen::None | Listen::Address(_) => None,
        }
    }

    /// The address that it listens on, if the domain names one.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self.listens.first()? {
            Listen::Address(address) => address.as_deref(),
            Listen::None | Listen::Socket(_) => None,
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("graphics").attribute("type", GraphicsType::Vnc);
        let element = match self.socket() {
            Some(path) => element.optional("socket", path),
            None => element
                .attribute("port", self.port.filter(|_| !self.is_autoport()).map_or(-1, i32::from))
                .yes_no("autoport", Some(self.is_autoport()))
                .optional("websocket", self.websocket)
                .optional("listen", self.address()),
        };
        element
            .optional("keymap", self.keymap.as_ref())
            .optional("sharePolicy", self.share_policy)
            .children(|w| self.listens.iter().for_each(|listen| listen.write(w)));
    }
}

/// The `<listen>` elements; without one, what the attributes `socket` and `listen` say.
fn listens(reader: &Reader<'_>) -> Vec<Listen> {
    let elements = reader.children("listen");
    let mut listens: Vec<Listen> = elements.iter().filter_map(Listen::parse).collect();
    let socket = reader.string("socket");
    let address = reader.string("listen").filter(|address| !address.is_empty());
    match listens.first_mut() {
        None if socket.is_some() => listens.push(Listen::Socket(socket)),
        None => listens.push(Listen::Address(address)),
        Some(Listen::Socket(path @ None)) => *path = socket,
        Some(Listen::Address(own @ None)) => *own = address,
        Some(_) => {}
    }
    listens
}
