//! Where the guest's sound goes: `-audiodev`.

use domain::Domain;
use domain::devices::{Audio, AudioType, Graphics};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;

/// Adds a backend to a domain that has none, as its display says.
pub(crate) fn add_implicit(domain: &mut Domain, _facts: &HostFacts) {
    if !domain.devices.audios.is_empty() {
        return;
    }
    let mut kind = Some(AudioType::None);
    for graphics in &domain.devices.graphics {
        kind = match graphics {
            // Sound stays inside unless the host's configuration lets VNC clients have it.
            Graphics::Vnc(_) => Some(AudioType::None),
        };
    }
    domain.devices.audios.extend(kind.map(Audio::new));
}

/// The id of the backend that a display uses by itself: the first one.
pub(crate) fn default_id(domain: &Domain) -> Option<String> {
    domain.devices.audios.first().map(id)
}

/// The id of a backend.
pub(crate) fn id(audio: &Audio) -> String {
    format!("audio{}", audio.id)
}

/// Adds `-audiodev`.
pub(crate) fn arguments(command: &mut Command<'_>, audio: &Audio) {
    let driver = match audio.kind {
        AudioType::None => "none",
        AudioType::Alsa => "alsa",
        AudioType::Coreaudio => "coreaudio",
        AudioType::Jack => "jack",
        AudioType::Oss => "oss",
        AudioType::Pulseaudio => "pa",
        AudioType::Sdl => "sdl",
        AudioType::Spice => "spice",
        AudioType::File => "wav",
        AudioType::Dbus => "dbus",
        AudioType::Pipewire => "pipewire",
    };
    let object = Object::new("id", id(audio)).set("driver", driver);
    command.argv.json("-audiodev", &object.some("timer-period", audio.timer_period));
}
