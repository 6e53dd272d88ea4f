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

crate::keywords! {
    /// How a sample is written down.
    pub enum SampleFormat {
        /// 8 bits without sign.
        U8 = "u8",
        /// 8 bits.
        S8 = "s8",
        /// 16 bits without sign.
        U16 = "u16",
        /// 16 bits.
        S16 = "s16",
        /// 32 bits without sign.
        U32 = "u32",
        /// 32 bits.
        S32 = "s32",
        /// A floating point number.
        F32 = "f32",
    }
}

crate::keywords! {
    /// SDL's own backends.
    pub enum SdlAudioDriver {
        /// The enlightened sound daemon.
        Esd = "esd",
        /// ALSA.
        Alsa = "alsa",
        /// aRts.
        Arts = "arts",
        /// PulseAudio.
        Pulseaudio = "pulseaudio",
    }
}

crate::attributes! {
    /// What the backend sounds like when that does not follow the guest.
    pub struct AudioSettings {
        /// Samples a second.
        pub frequency: u32 = number "frequency",
        /// How many channels there are.
        pub channels: u32 = number "channels",
        /// How a sample is written down.
        pub format: SampleFormat = keyword "format",
    }
}

crate::attributes! {
    /// Attributes of one direction of sound: those of all backends, then those of some.
    pub struct AudioDirection {
        /// Whether QEMU mixes and converts what several voices play.
        pub mixing_engine: bool = yes_no "mixingEngine",
        /// Whether the backend has settings of its own, `<settings>`.
        pub fixed_settings: bool = yes_no "fixedSettings",
        /// How many voices there are.
        pub voices: u32 = number "voices",
        /// The length of the buffer, in microseconds.
        pub buffer_length: u32 = number "bufferLength",
        /// How many buffers there are (CoreAudio, OSS, SDL).
        pub buffer_count: u32 = number "bufferCount",
        /// The device of the host (ALSA, OSS).
        pub device: String = string "dev",
        /// Whether the device is polled (OSS).
        pub try_poll: bool = yes_no "tryPoll",
        /// The server's name (JACK).
        pub server_name: String = string "serverName",
        /// The name that QEMU gives itself (JACK).
        pub client_name: String = string "clientName",
        /// The ports to connect to, a regular expression (JACK).
        pub connect_ports: String = string "connectPorts",
        /// Whether the client's name must not be changed (JACK).
        pub exact_name: bool = yes_no "exactName",
        /// The sink or source (PulseAudio, PipeWire).
        pub name: String = string "name",
        /// The stream's name (PulseAudio, PipeWire).
        pub stream_name: String = string "streamName",
        /// The wished latency in microseconds (PulseAudio, PipeWire).
        pub latency: u32 = number "latency",
    }
}

crate::attributes! {
    /// Attributes of some backends.
    pub struct AudioOptions {
        /// How often, in microseconds, sound is moved.
        pub timer_period: u32 = number "timerPeriod",
        /// The server (PulseAudio).
        pub server_name: String = string "serverName",
        /// The folder of the server's socket (PipeWire).
        pub runtime_dir: String = string "runtimeDir",
        /// SDL's own backend.
        pub driver: SdlAudioDriver = keyword "driver",
        /// The file (of type file).
        pub path: String = string "path",
        /// Whether memory of the device is mapped (OSS).
        pub try_mmap: bool = yes_no "tryMMap",
        /// Whether the device is held alone (OSS).
        pub exclusive: bool = yes_no "exclusive",
        /// The policy of timing, -1 to 10 (OSS).
        pub dsp_policy: i32 = value "dspPolicy",
    }
}

/// One direction of sound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AudioIo {
    /// Its attributes.
    pub options: AudioDirection,
    /// What it sounds like.
    pub settings: AudioSettings,
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
    /// Attributes of some backends.
    pub options: AudioOptions,
    /// What the guest records.
    pub input: Option<AudioIo>,
    /// What the guest plays.
    pub output: Option<AudioIo>,
}

impl Audio {
    /// A backend that defaults add.
    #[must_use]
    pub fn new(kind: AudioType) -> Self {
        let (place, options) = (Place::default(), AudioOptions::default());
        Self { place, id: 1, kind, options, input: None, output: None }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = (reader.required("id", "1"), reader.required("type", "none")); // Read below.
        let io = |name: &str| reader.child(name).map(|child| AudioIo::parse(&child));
        let options = AudioOptions::parse(reader);
        let (input, output) = (io("input"), io("output"));
        let id: Option<u32> = reader.number("id");
        if id == Some(0) {
            reader.refuse_attribute("id", "0 is no number of a backend; count from 1");
        }
        let kind = reader.keyword("type")?;
        Some(Self { place: reader.place(), id: id?, kind, options, input, output })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("audio").attribute("id", self.id).attribute("type", self.kind);
        self.options.write_attributes(element).children(|w| {
            for (name, io) in [("input", &self.input), ("output", &self.output)] {
                if let Some(io) = io {
                    io.write(name, w);
                }
            }
        });
    }
}

impl AudioIo {
    fn parse(reader: &Reader<'_>) -> Self {
        let settings = reader.child("settings").map(|settings| AudioSettings::parse(&settings));
        let options = AudioDirection::parse(reader);
        if options.fixed_settings == Some(true) && options.mixing_engine == Some(false) {
            let what = "settings of its own need the mixer; give mixingEngine='yes'";
            reader.refuse_attribute("fixedSettings", what);
        }
        if settings.is_some() && options.fixed_settings != Some(true) {
            reader.refuse("<settings> counts only with fixedSettings='yes'; add it");
        }
        Self { options, settings: settings.unwrap_or_default() }
    }

    fn write(&self, name: &'static str, writer: &mut Writer) {
        self.options
            .write_attributes(writer.element(name))
            .children_if_any(|w| self.settings.write("settings", w));
    }
}
