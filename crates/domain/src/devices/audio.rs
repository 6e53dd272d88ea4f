//! Where the guest's sound goes on the host, `<audio>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// Where sound goes.
    pub enum AudioType {
        /// Nowhere.
        None = "none",
        /// ALSA.
        Alsa = "alsa",
        /// macOS.
        Coreaudio = "coreaudio",
        /// JACK.
        Jack = "jack",
        /// The open sound system.
        Oss = "oss",
        /// PulseAudio.
        Pulseaudio = "pulseaudio",
        /// SDL.
        Sdl = "sdl",
        /// A SPICE client.
        Spice = "spice",
        /// A file.
        File = "file",
        /// A client on D-Bus.
        Dbus = "dbus",
        /// PipeWire.
        Pipewire = "pipewire",
    }
}

/// Where sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Where the element stands.
    pub place: Place,
    /// Its number, by which sound cards name it.
    pub id: u32,
    /// Where sound goes.
    pub kind: AudioType,
    /// How often, in microseconds, sound is moved.
    pub timer_period: Option<u32>,
}

impl Audio {
    /// A backend that defaults add.
    #[must_use]
    pub fn new(kind: AudioType) -> Self {
        Self { place: Place::default(), id: 1, kind, timer_period: None }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_attributes(&["serverName", "driver", "path", "runtimeDir"]);
        reader.refuse_attributes(&["tryMMap", "exclusive", "dspPolicy"]);
        reader.refuse_children(&["input", "output"]);
        let _ = (reader.required("id", "1"), reader.required("type", "none")); // Read below.
        let timer_period = reader.number("timerPeriod");
        let id = reader.number("id");
        let kind = reader.keyword("type")?;
        Some(Self { place: reader.place(), id: id?, kind, timer_period })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("audio")
            .attribute("id", self.id)
            .attribute("type", self.kind)
            .optional("timerPeriod", self.timer_period)
            .empty();
    }
}
