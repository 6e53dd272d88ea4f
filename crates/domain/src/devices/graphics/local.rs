//! Displays that no network has a part in: `<graphics type='sdl'>`, `'dbus'` and `'egl-headless'`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::OpenElement;

use super::{Gl, write_gl};

/// A window on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdl {
    /// Where the element stands.
    pub place: Place,
    /// The X display.
    pub display: Option<String>,
    /// The file with the X display's keys.
    pub xauth: Option<String>,
    /// Whether the window fills the screen.
    pub fullscreen: Option<bool>,
    /// Rendering by the host's GPU.
    pub gl: Option<Gl>,
}

/// A display on D-Bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbusDisplay {
    /// Where the element stands.
    pub place: Place,
    /// Whether clients get a connection of their own and no bus is used.
    pub p2p: Option<bool>,
    /// The bus; none is one of the guest's own.
    pub address: Option<String>,
    /// Rendering by the host's GPU.
    pub gl: Option<Gl>,
    /// The number of the backend that sound goes to.
    pub audio: Option<u32>,
}

/// No display, but a GPU renders for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EglHeadless {
    /// Where the element stands.
    pub place: Place,
    /// The GPU.
    pub gl: Option<Gl>,
}

impl Sdl {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        Self {
            place: reader.place(),
            display: reader.string("display"),
            xauth: reader.string("xauth"),
            fullscreen: reader.yes_no("fullscreen"),
            gl: gl(reader),
        }
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        element
            .optional("display", self.display.as_ref())
            .optional("xauth", self.xauth.as_ref())
            .yes_no("fullscreen", self.fullscreen.filter(|yes| *yes))
            .children(|w| write_gl(self.gl.as_ref(), w));
    }
}

impl DbusDisplay {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        Self {
            place: reader.place(),
            p2p: reader.yes_no("p2p"),
            address: reader.string("address"),
            gl: gl(reader),
            audio: reader.child("audio").and_then(|audio| audio.number("id")),
        }
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        element
            .yes_no("p2p", self.p2p.filter(|yes| *yes))
            .optional("address", self.address.as_ref())
            .children(|w| {
                write_gl(self.gl.as_ref(), w);
                w.element("audio").optional("id", self.audio).empty_if_any();
            });
    }
}

impl EglHeadless {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        Self { place: reader.place(), gl: gl(reader) }
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        element.children(|w| write_gl(self.gl.as_ref(), w));
    }
}

fn gl(reader: &Reader<'_>) -> Option<Gl> {
    reader.child("gl").map(|gl| Gl::parse(&gl))
}
