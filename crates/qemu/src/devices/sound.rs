//! Sound cards.

use domain::Domain;
use domain::devices::{Sound, SoundCodec, SoundModel};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::{audio, placed, virtio};
use crate::json::Object;

/// How many streams a virtio card has when nobody says, one to play and one to record.
const VIRTIO_STREAMS: u32 = 2;

/// Fills in the streams of virtio cards.
pub(crate) fn complete(domain: &mut Domain) {
    for sound in domain.devices.sounds.iter_mut().filter(|s| s.model == SoundModel::Virtio) {
        sound.streams.get_or_insert(VIRTIO_STREAMS);
    }
}

/// Adds a card, with the codecs behind it.
pub(crate) fn arguments(command: &mut Command<'_>, sound: &Sound) {
    let backend = backend(command, sound);
    let driver = match sound.model {
        // The loudspeaker is on the board; see `pcspk`.
        SoundModel::Pcspk | SoundModel::Ich7 => return,
        SoundModel::Sb16 => "sb16",
        SoundModel::Es1370 => "ES1370",
        SoundModel::Ac97 => "AC97",
        SoundModel::Ich6 => "intel-hda",
        SoundModel::Ich9 => "ich9-intel-hda",
        SoundModel::Usb => "usb-audio",
        SoundModel::Virtio => "virtio-sound-pci",
    };
    let device = virtio(&sound.virtio, Object::new("driver", driver));
    let device = device.some("multi", sound.multichannel).some("streams", sound.streams);
    // The codecs play, not their controller.
    let direct = backend.as_ref().filter(|_| !sound.has_codecs());
    let device = placed(command, &sound.info, device.some("audiodev", direct));
    command.device(&device);
    if !sound.has_codecs() {
        return;
    }
    let default = [SoundCodec::Duplex];
    let codecs = if sound.codecs.is_empty() { &default } else { sound.codecs.as_slice() };
    let alias = sound.info.alias();
    for (number, codec) in (0_u32..).zip(codecs) {
        let driver = match codec {
            SoundCodec::Duplex => "hda-duplex",
            SoundCodec::Micro => "hda-micro",
            SoundCodec::Output => "hda-output",
        };
        let codec = Object::new("driver", driver)
            .set("id", format!("{alias}-codec{number}"))
            .set("bus", format!("{alias}.0"))
            .set("cad", number)
            .some("audiodev", backend.as_ref());
        command.device(&codec);
    }
}

/// Adds the backend of the PC's loudspeaker, if the domain has one, to the machine's options.
pub(crate) fn pcspk(command: &Command<'_>, machine: Options) -> Options {
    let sounds = &command.domain.devices.sounds;
    let loudspeaker = sounds.iter().find(|sound| sound.model == SoundModel::Pcspk);
    machine.some("pcspk-audiodev", loudspeaker.and_then(|sound| backend(command, sound)))
}

fn backend(command: &Command<'_>, sound: &Sound) -> Option<String> {
    sound.audio.map(audio::id_of).or_else(|| audio::default_id(command.domain))
}
