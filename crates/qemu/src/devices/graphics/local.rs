//! Displays that no network has a part in: SDL, D-Bus, and the GPU without a display.

use domain::devices::{DbusDisplay, EglHeadless, Sdl};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::audio;

use super::render_node;

/// Adds a window on the host.
pub(super) fn sdl(command: &mut Command<'_>, sdl: &Sdl) {
    for (name, value) in [("XAUTHORITY", &sdl.xauth), ("DISPLAY", &sdl.display)] {
        if let Some(value) = value {
            command.sets_variable(name, value);
        }
    }
    if sdl.fullscreen == Some(true) {
        command.argv.flag("-full-screen");
    }
    let gl = sdl.gl.as_ref().and_then(|gl| gl.enable);
    command.argv.options("-display", Options::new("sdl").some_on_off("gl", gl));
}

/// Adds a display on D-Bus.
pub(super) fn dbus(command: &mut Command<'_>, dbus: &DbusDisplay) {
    let options = if dbus.p2p == Some(true) {
        Options::new("dbus").on_off("p2p", true)
    } else {
        let own = command.facts.helpers.dbus.as_ref().map(|path| format!("unix:path={path}"));
        let Some(address) = dbus.address.clone().or(own) else {
            let what =
                "glassbox starts no message bus for the guest; give p2p='yes' or address='...'";
            command.refuse(&dbus.place, what);
            return;
        };
        Options::new("dbus").set("addr", address)
    };
    let gl = dbus.gl.as_ref();
    let enabled = gl.and_then(|gl| gl.enable);
    let node = if enabled == Some(true) {
        render_node(command, gl.and_then(|gl| gl.render_node.as_ref()), &dbus.place)
    } else {
        None
    };
    let options = options
        .some_on_off("gl", enabled)
        .some("rendernode", node)
        .some("audiodev", dbus.audio.map(audio::id_of));
    command.argv.options("-display", options);
}

/// Adds the GPU that renders for a display without one.
pub(super) fn egl_headless(command: &mut Command<'_>, egl: &EglHeadless) {
    let named = egl.gl.as_ref().and_then(|gl| gl.render_node.as_ref());
    let node = render_node(command, named, &egl.place);
    command.argv.options("-display", Options::new("egl-headless").some("rendernode", node));
}
