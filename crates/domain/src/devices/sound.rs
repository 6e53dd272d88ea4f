//! Sound cards, `<sound>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// Models of sound cards.
    pub enum SoundModel {
        /// Creative's Sound Blaster 16, on ISA.
        Sb16 = "sb16",
        /// Ensoniq's AudioPCI.
        Es1370 = "es1370",
        /// The PC's loudspeaker.
        Pcspk = "pcspk",
        /// Intel's AC97.
        Ac97 = "ac97",
        /// Intel HDA of the ICH6.
        Ich6 = "ich6",
        /// Intel HDA of the ICH9.
        Ich9 = "ich9",
        /// A card on USB.
        Usb = "usb",
        /// Intel HDA of the ICH7.
        Ich7 = "ich7",
        /// virtio.
        Virtio = "virtio",
    }
}

crate::keywords! {
    /// What stands behind an Intel HDA controller.
    pub enum SoundCodec {
        /// Line in and line out.
        Duplex = "duplex",
        /// Microphone and loudspeaker.
        Micro = "micro",
        /// Line out.
        Output = "output",
    }
}

/// A sound card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// Where the element stands.
    pub place: Place,
    /// The model.
    pub model: SoundModel,
    /// Whether a USB card has more than two channels.
    pub multichannel: Option<bool>,
    /// How many streams a virtio card has.
    pub streams: Option<u32>,
    /// What stands behind an HDA controller; one duplex codec when there is none.
    pub codecs: Vec<SoundCodec>,
    /// The number of the backend that sound goes to; the first one when there is none.
    pub audio: Option<u32>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Sound {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("model", "ich9"); // The keyword itself is read below.
        let driver = reader.child("driver");
        let codecs = reader.children("codec");
        let streams: Option<u32> = reader.number("streams");
        let sound = Self {
            place: reader.place(),
            multichannel: reader.yes_no("multichannel"),
            streams,
            codecs: codecs.iter().filter_map(|codec| codec.keyword("type")).collect(),
            audio: reader.child("audio").and_then(|audio| audio.number("id")),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info: DeviceInfo::parse(reader),
            model: reader.keyword("model")?,
        };
        if sound.model == SoundModel::Ich7 {
            reader.refuse_attribute("model", "QEMU has no such card; use ich9");
        }
        if streams == Some(0) {
            reader.refuse_attribute("streams", "0 is too few; give a number from 1");
        }
        if streams.is_some() && sound.model != SoundModel::Virtio {
            reader.refuse_attribute("streams", "only a virtio card has streams; remove it");
        }
        if sound.multichannel.is_some() && sound.model != SoundModel::Usb {
            reader.refuse_attribute("multichannel", "only a USB card has it; remove it");
        }
        Some(sound)
    }

    /// Whether the card is a controller with codecs behind it.
    #[must_use]
    pub fn has_codecs(&self) -> bool {
        matches!(self.model, SoundModel::Ich6 | SoundModel::Ich9)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("sound")
            .attribute("model", self.model)
            .yes_no("multichannel", self.multichannel)
            .optional("streams", self.streams)
            .children(|w| {
                for codec in &self.codecs {
                    w.element("codec").attribute("type", codec).empty();
                }
                w.element("audio").optional("id", self.audio).empty_if_any();
                self.info.write(w);
                self.virtio.write("driver", w);
            });
    }
}
