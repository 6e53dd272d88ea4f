//! Where the guest's sound goes: `-audiodev`.

use domain::devices::{Audio, AudioDirection, AudioIo, AudioType, Graphics};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;

/// Adds a backend to a domain that has none, as its display says.
pub(crate) fn add_implicit(domain: &mut Domain, facts: &HostFacts) {
    if !domain.devices.audios.is_empty() {
        return;
    }
    let displays = &facts.displays;
    // Sound stays inside unless the host's configuration lets it out.
    let out = |allowed: bool| {
        let host = displays.host_audio.filter(|_| allowed);
        Some(host.unwrap_or(AudioType::None))
    };
    let graphics = &domain.devices.graphics;
    let mut kind = if graphics.is_empty() { out(displays.nographics_audio) } else { None };
    for graphics in graphics {
        match graphics {
            Graphics::Vnc(_) => kind = out(displays.vnc_audio),
            Graphics::Spice(_) => kind = Some(AudioType::Spice),
            Graphics::Sdl(_) => kind = displays.host_audio.or(kind),
            Graphics::Rdp(_) | Graphics::Dbus(_) | Graphics::EglHeadless(_) => {}
        }
    }
    domain.devices.audios.extend(kind.map(Audio::new));
}

/// Refuses numbers that two backends have, and cards that name none of them.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let audios = &domain.devices.audios;
    for (index, audio) in audios.iter().enumerate() {
        if audios.iter().take(index).any(|other| other.id == audio.id) {
            let what = format!("another <audio> has id='{}'; give another number", audio.id);
            faults.push(audio.place.refused(what));
        }
    }
    for graphics in &domain.devices.graphics {
        let id = match graphics {
            Graphics::Vnc(vnc) => vnc.audio,
            Graphics::Dbus(dbus) => dbus.audio,
            Graphics::Spice(_) | Graphics::Sdl(_) | Graphics::Rdp(_) | Graphics::EglHeadless(_) => {
                None
            }
        };
        if let Some(id) = id.filter(|id| !audios.iter().any(|audio| audio.id == *id)) {
            let what = format!("no <audio> has id='{id}'; add it or name another");
            faults.push(graphics.place().child("audio").refused(what));
        }
    }
    for sound in &domain.devices.sounds {
        if let Some(id) = sound.audio.filter(|id| !audios.iter().any(|audio| audio.id == *id)) {
            let what = format!("no <audio> has id='{id}'; add it or name another");
            faults.push(sound.place.child("audio").refused(what));
        }
    }
}

/// The id of the backend that a display uses by itself: the first one.
pub(crate) fn default_id(domain: &Domain) -> Option<String> {
    domain.devices.audios.first().map(id)
}

/// The id of a backend.
pub(crate) fn id(audio: &Audio) -> String {
    id_of(audio.id)
}

/// The id of the backend with this number.
pub(crate) fn id_of(number: u32) -> String {
    format!("audio{number}")
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
    let options = &audio.options;
    let object = Object::new("id", id(audio))
        .set("driver", driver)
        .some("timer-period", options.timer_period)
        .some("try-mmap", options.try_mmap)
        .some("exclusive", options.exclusive)
        .some("dsp-policy", options.dsp_policy)
        .some("server", options.server_name.as_ref())
        .some("path", options.path.as_ref());
    let object = object
        .some("in", audio.input.as_ref().and_then(|io| direction(audio.kind, io)))
        .some("out", audio.output.as_ref().and_then(|io| direction(audio.kind, io)));
    if let Some(driver) = options.driver {
        command.sets_variable("SDL_AUDIODRIVER", driver.as_str());
    }
    if let Some(folder) = &options.runtime_dir {
        command.sets_variable("PIPEWIRE_RUNTIME_DIR", folder);
    }
    command.argv.json("-audiodev", &object);
}

/// One direction; none when nothing is said of it.
fn direction(kind: AudioType, io: &AudioIo) -> Option<Object> {
    let (options, settings) = (&io.options, &io.settings);
    let object = Object::default()
        .some("mixing-engine", options.mixing_engine)
        .some("fixed-settings", options.fixed_settings)
        .some("voices", options.voices)
        .some("buffer-length", options.buffer_length)
        .some("frequency", settings.frequency)
        .some("channels", settings.channels)
        .some("format", settings.format.map(|format| format.as_str()));
    let object = special(kind, options, object);
    (!object.is_empty()).then_some(object)
}

/// What some backends have. An attribute of another backend says nothing, as in libvirt.
fn special(kind: AudioType, options: &AudioDirection, object: Object) -> Object {
    match kind {
        AudioType::Alsa => object.some("dev", options.device.as_ref()),
        AudioType::Oss => object
            .some("dev", options.device.as_ref())
            .some("buffer-count", options.buffer_count)
            .some("try-poll", options.try_poll),
        AudioType::Coreaudio | AudioType::Sdl => object.some("buffer-count", options.buffer_count),
        AudioType::Jack => object
            .some("server-name", options.server_name.as_ref())
            .some("client-name", options.client_name.as_ref())
            .some("connect-ports", options.connect_ports.as_ref())
            .some("exact-name", options.exact_name),
        AudioType::Pulseaudio | AudioType::Pipewire => object
            .some("name", options.name.as_ref())
            .some("stream-name", options.stream_name.as_ref())
            .some("latency", options.latency),
        AudioType::None | AudioType::Spice | AudioType::File | AudioType::Dbus => object,
    }
}
