//! Displays that people look at.

use domain::devices::Graphics;

use crate::command::Command;

mod vnc;

/// Adds a display.
pub(crate) fn arguments(command: &mut Command<'_>, graphics: &Graphics) {
    match graphics {
        Graphics::Vnc(vnc) => vnc::arguments(command, vnc),
    }
}
