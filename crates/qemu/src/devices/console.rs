//! Consoles: the first one is a serial port seen again, others are virtio ports.

use domain::Domain;
use domain::devices::{Console, ConsoleTarget, Serial, SerialModel, SerialTarget};

use crate::command::Command;
use crate::devices::{addressed, chardev};
use crate::json::Object;

/// Makes the first console and the first serial port one, whichever of them the domain has.
pub(crate) fn complete(domain: &mut Domain) {
    let devices = &mut domain.devices;
    if devices.consoles.first().is_some_and(Console::is_serial) && devices.serials.is_empty() {
        let console = &devices.consoles[0];
        devices.serials.push(Serial {
            place: console.place.clone(),
            chardev: console.chardev.clone(),
            target: Some(SerialTarget::Isa),
            model: Some(SerialModel::Isa),
            port: Some(0),
            info: console.info.clone(),
        });
    }
    let first = devices.serials.first();
    if let Some(serial) = first.filter(|serial| serial.target != Some(SerialTarget::IsaDebug)) {
        let console = Console {
            place: serial.place.clone(),
            chardev: serial.chardev.clone(),
            target: Some(ConsoleTarget::Serial),
            port: Some(0),
            info: serial.info.clone(),
        };
        match devices.consoles.first_mut() {
            Some(first) if first.is_serial() => *first = console,
            Some(_) | None => devices.consoles.insert(0, console),
        }
    }
    for (port, console) in (0..).zip(&mut devices.consoles) {
        console.target.get_or_insert(ConsoleTarget::Serial);
        console.port.get_or_insert(port);
    }
}

/// Adds a virtio port; the first serial port stands for the console that is one.
pub(crate) fn arguments(command: &mut Command<'_>, console: &Console) {
    if console.is_serial() {
        if console.port != Some(0) {
            let what = "only the first console can be a serial port; use <target type='virtio'/>";
            command.refuse(&console.place, what);
        }
        return;
    }
    let alias = console.info.alias();
    let backend = chardev::arguments(command, &console.chardev, alias, None);
    let device = Object::new("driver", "virtconsole").set("chardev", backend).set("id", alias);
    command.device(&addressed(command, &console.info, device));
}
