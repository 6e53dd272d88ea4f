//! VNC, `<graphics type='vnc'>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::OpenElement;

use super::{GraphicsType, Listen, Password, write_address};

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
    /// Whether clients may reset and power the guest off.
    pub power_control: Option<bool>,
    /// What a client must know.
    pub password: Password,
    /// The keyboard's layout.
    pub keymap: Option<String>,
    /// What it listens on.
    pub listens: Vec<Listen>,
    /// The number of the backend that sound goes to.
    pub audio: Option<u32>,
}

impl Vnc {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let port: Option<i32> = reader.value("port");
        if let Some(port) = port.filter(|port| *port != -1 && !(5900..=65_535).contains(port)) {
            reader.refuse_attribute("port", format!("{port} is no VNC port; use 5900 to 65535"));
        }
        let websocket: Option<i32> = reader.value("websocket");
        if let Some(port) = websocket.filter(|port| !(-1..=65_535).contains(port)) {
            let what = format!("{port} is no TCP port; use 1 to 65535, or -1");
            reader.refuse_attribute("websocket", what);
        }
        Self {
            place: reader.place(),
            port: port.and_then(|port| u16::try_from(port).ok()),
            autoport: reader.yes_no("autoport"),
            websocket: websocket.filter(|port| *port != 0),
            share_policy: reader.keyword("sharePolicy"),
            power_control: reader.yes_no("powerControl"),
            password: Password::read(reader),
            keymap: reader.string("keymap"),
            listens: Listen::all(reader, GraphicsType::Vnc),
            audio: reader.child("audio").and_then(|audio| audio.number("id")),
        }
    }

    /// Whether a free port is looked for when the guest starts.
    #[must_use]
    pub fn is_autoport(&self) -> bool {
        self.autoport.unwrap_or(self.port.is_none()) || self.port.is_none()
    }

    /// Whether it listens on TCP.
    #[must_use]
    pub fn has_port(&self) -> bool {
        match self.listens.first() {
            Some(Listen::Address(_) | Listen::Network(_)) | None => true,
            Some(Listen::Socket(_) | Listen::None) => false,
        }
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        let element = match self.listens.first() {
            Some(Listen::Socket(path)) => element.optional("socket", path.as_ref()),
            Some(Listen::None) => element,
            Some(Listen::Address(_) | Listen::Network(_)) | None => element
                .attribute("port", self.port.filter(|_| !self.is_autoport()).map_or(-1, i32::from))
                .yes_no("autoport", Some(self.is_autoport()))
                .optional("websocket", self.websocket),
        };
        let element = write_address(element, &self.listens)
            .optional("keymap", self.keymap.as_ref())
            .optional("sharePolicy", self.share_policy)
            .yes_no("powerControl", self.power_control);
        self.password.write_attributes(element).children(|w| {
            self.listens.iter().for_each(|listen| listen.write(w));
            w.element("audio").optional("id", self.audio).empty_if_any();
        });
    }
}
