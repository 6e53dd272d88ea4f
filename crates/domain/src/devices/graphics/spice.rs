//! SPICE, `<graphics type='spice'>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

use super::{Gl, GraphicsType, Listen, Password, write_address, write_gl};

crate::keywords! {
    /// Whether a channel is encrypted.
    pub enum ChannelMode {
        /// As the client wishes.
        Any = "any",
        /// Always.
        Secure = "secure",
        /// Never.
        Insecure = "insecure",
    }
}

crate::keywords! {
    /// Channels of SPICE.
    pub enum SpiceChannelName {
        /// The session itself.
        Main = "main",
        /// Pictures.
        Display = "display",
        /// Keyboard and mouse.
        Inputs = "inputs",
        /// The pointer's picture.
        Cursor = "cursor",
        /// Sound of the guest.
        Playback = "playback",
        /// Sound of the client.
        Record = "record",
        /// Smart cards.
        Smartcard = "smartcard",
        /// USB devices.
        Usbredir = "usbredir",
    }
}

crate::keywords! {
    /// How pictures are compressed.
    pub enum ImageCompression {
        /// GLZ or QUIC, picture by picture.
        AutoGlz = "auto_glz",
        /// LZ or QUIC, picture by picture.
        AutoLz = "auto_lz",
        /// QUIC.
        Quic = "quic",
        /// GLZ.
        Glz = "glz",
        /// LZ.
        Lz = "lz",
        /// Not at all.
        Off = "off",
    }
}

crate::keywords! {
    /// Whether pictures are compressed for slow networks.
    pub enum WanCompression {
        /// When the network is slow.
        Auto = "auto",
        /// Never.
        Never = "never",
        /// Always.
        Always = "always",
    }
}

crate::keywords! {
    /// Which moving pictures are sent as video.
    pub enum Streaming {
        /// Those that look like one.
        Filter = "filter",
        /// All.
        All = "all",
        /// None.
        Off = "off",
    }
}

crate::keywords! {
    /// Who draws the pointer.
    pub enum MouseMode {
        /// The guest.
        Server = "server",
        /// The client.
        Client = "client",
    }
}

/// How one channel is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpiceChannel {
    /// The channel.
    pub name: SpiceChannelName,
    /// Whether it is encrypted.
    pub mode: ChannelMode,
}

/// SPICE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spice {
    /// Where the element stands.
    pub place: Place,
    /// The TCP port.
    pub port: Option<u16>,
    /// The TCP port of encrypted channels.
    pub tls_port: Option<u16>,
    /// Whether free ports are looked for.
    pub autoport: bool,
    /// Whether channels are encrypted of which nothing is said.
    pub default_mode: Option<ChannelMode>,
    /// The keyboard's layout.
    pub keymap: Option<String>,
    /// What a client must know.
    pub password: Password,
    /// What it listens on.
    pub listens: Vec<Listen>,
    /// Channels of which something is said, in the order of their names' list.
    pub channels: Vec<SpiceChannel>,
    /// How pictures are compressed.
    pub image: Option<ImageCompression>,
    /// Whether JPEG is used for slow networks.
    pub jpeg: Option<WanCompression>,
    /// Whether zlib is used for slow networks.
    pub zlib: Option<WanCompression>,
    /// Whether sound is compressed.
    pub playback: Option<bool>,
    /// Which moving pictures are sent as video.
    pub streaming: Option<Streaming>,
    /// Who draws the pointer.
    pub mouse: Option<MouseMode>,
    /// Whether text can be copied between guest and client.
    pub copy_paste: Option<bool>,
    /// Whether the client can send files.
    pub file_transfer: Option<bool>,
    /// Rendering by the host's GPU.
    pub gl: Option<Gl>,
}

impl Spice {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let child = |name: &str| reader.child(name);
        let (port, tls_port) = (port(reader, "port"), port(reader, "tlsPort"));
        // Before the attribute autoport there were ports of -1.
        let autoport =
            reader.yes_no("autoport") == Some(true) || (port == Some(-1) && tls_port == Some(-1));
        let number = |port: Option<i32>| {
            port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0 && !autoport)
        };
        Self {
            place: reader.place(),
            port: number(port),
            tls_port: number(tls_port),
            autoport,
            default_mode: reader.keyword("defaultMode"),
            keymap: reader.string("keymap"),
            password: Password::read(reader),
            listens: Listen::all(reader, GraphicsType::Spice),
            channels: channels(reader),
            image: child("image").and_then(|r| r.keyword("compression")),
            jpeg: child("jpeg").and_then(|r| r.keyword("compression")),
            zlib: child("zlib").and_then(|r| r.keyword("compression")),
            playback: child("playback").and_then(|r| r.on_off("compression")),
            streaming: child("streaming").and_then(|r| r.keyword("mode")),
            mouse: child("mouse").and_then(|r| r.keyword("mode")),
            copy_paste: child("clipboard").and_then(|r| r.yes_no("copypaste")),
            file_transfer: child("filetransfer").and_then(|r| r.yes_no("enable")),
            gl: child("gl").map(|gl| Gl::parse(&gl)),
        }
    }

    /// Whether the host's GPU renders.
    #[must_use]
    pub fn renders(&self) -> bool {
        self.gl.as_ref().and_then(|gl| gl.enable) == Some(true)
    }

    pub(super) fn write(&self, element: OpenElement<'_>) {
        let element = match self.listens.first() {
            Some(Listen::Address(_) | Listen::Network(_)) => element
                .optional("port", self.port)
                .optional("tlsPort", self.tls_port)
                .yes_no("autoport", Some(self.autoport)),
            Some(Listen::Socket(path)) => element.optional("socket", path.as_ref()),
            Some(Listen::None) | None => element,
        };
        let mode = self.default_mode.filter(|mode| *mode != ChannelMode::Any);
        let element = write_address(element, &self.listens)
            .optional("keymap", self.keymap.as_ref())
            .optional("defaultMode", mode);
        self.password.write_attributes(element).children(|w| self.write_children(w));
    }

    fn write_children(&self, w: &mut Writer) {
        self.listens.iter().for_each(|listen| listen.write(w));
        for channel in &self.channels {
            w.element("channel")
                .attribute("name", channel.name)
                .attribute("mode", channel.mode)
                .empty();
        }
        w.element("image").optional("compression", self.image).empty_if_any();
        w.element("jpeg").optional("compression", self.jpeg).empty_if_any();
        w.element("zlib").optional("compression", self.zlib).empty_if_any();
        w.element("playback").on_off("compression", self.playback).empty_if_any();
        w.element("streaming").optional("mode", self.streaming).empty_if_any();
        w.element("mouse").optional("mode", self.mouse).empty_if_any();
        w.element("clipboard").yes_no("copypaste", self.copy_paste).empty_if_any();
        w.element("filetransfer").yes_no("enable", self.file_transfer).empty_if_any();
        write_gl(self.gl.as_ref(), w);
    }
}

fn port(reader: &Reader<'_>, name: &str) -> Option<i32> {
    let port: Option<i32> = reader.value(name);
    if let Some(port) = port.filter(|port| !(-1..=65_535).contains(port)) {
        reader.refuse_attribute(name, format!("{port} is no TCP port; use 1 to 65535, or -1"));
    }
    port
}

/// The channels in the order of their names; of two about one channel the last counts.
fn channels(reader: &Reader<'_>) -> Vec<SpiceChannel> {
    let mut channels: Vec<SpiceChannel> = Vec::new();
    for channel in reader.children("channel") {
        let _ = (channel.required("name", "main"), channel.required("mode", "secure")); // Read next.
        let (name, mode) = (channel.keyword("name"), channel.keyword("mode"));
        let (Some(name), Some(mode)) = (name, mode) else { continue };
        channels.retain(|other| other.name != name);
        if mode != ChannelMode::Any {
            channels.push(SpiceChannel { name, mode });
        }
    }
    channels.sort_by_key(|channel| channel.name);
    channels
}
