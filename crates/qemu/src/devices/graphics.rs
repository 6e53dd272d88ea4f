//! Displays that people look at.

use domain::Domain;
use domain::devices::Graphics;

use crate::command::Command;

mod vnc;

/// Fills in whether displays look for a free port.
pub(crate) fn complete(domain: &mut Domain) {
    for graphics in &mut domain.devices.graphics {
        match graphics {
            Graphics::Vnc(vnc) => vnc::complete(vnc),
        }
    }
}

/// Adds a display.
pub(crate) fn arguments(command: &mut Command<'_>, graphics: &Graphics) {
    match graphics {
        Graphics::Vnc(vnc) => vnc::arguments(command, vnc),
    }
}
