//! RDP, `<graphics type='rdp'>`: a program beside QEMU that shows the display on D-Bus.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::OpenElement;

use super::{Listen, Password, write_address};

/// RDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdp {
    /// Where the element stands.
    pub place: Place,
    /// The TCP port; none is any free one.
    pub port: Option<u16>,
    /// Whether a free port is looked for.
    pub autoport: Option<bool>,
    /// Whether a new client ends the session of the one before.
    pub replace_user: Option<bool>,
    /// Whether several clients may look at once.
    pub multi_user: Option<bool>,
    /// Who may log in.
    pub username: Option<String>,
    /// What a client must know.
    pub password: Password,
    /// What it listens on.
    pub listens: Vec<Listen>,
}

impl Rdp {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let port: Option<i32> = reader.value("port");
        if let Some(port) = port.filter(|port| !(-1..=65_535).contains(port)) {
            reader.refuse_attribute("port", format!("{port} is no TCP port; use 1 to 65535"));
        }
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let autoport = reader.yes_no("autoport");
        Self {
            place: reader.place(),
            port: port.filter(|_| autoport != Some(true)),
            autoport: (port.is_none() || autoport == Some(true)).then_some(true),
            replace_user: reader.yes_no("replaceUser"),
            multi_user: reader.yes_no("multiUser"),
            username: reader.string("username"),
            password: Password::read(reader),
            listens: Listen::all(reader, super::GraphicsType::Rdp),
        }
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        let element = element
            .attribute("port", self.port.unwrap_or_default())
            .yes_no("autoport", self.autoport)
            .yes_no("replaceUser", self.replace_user.filter(|yes| *yes))
            .yes_no("multiUser", self.multi_user.filter(|yes| *yes));
        let element =
            write_address(element, &self.listens).optional("username", self.username.as_ref());
        self.password
            .write_attributes(element)
            .children(|w| self.listens.iter().for_each(|listen| listen.write(w)));
    }
}
