//! Consoles: the first one is a serial port seen again, others are virtio ports.

use domain::Domain;
use domain::devices::{Console, ConsoleTarget, Serial};

use crate::board::Board;
use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{addressed, chardev};
use crate::json::Object;

/// Makes the first console and the first serial port one, whichever of them the domain has.
pub(crate) fn complete(domain: &mut Domain) {
    let (target, model) = Board::of_domain(domain).uart();
    let devices = &mut domain.devices;
    if devices.consoles.first().is_some_and(Console::is_serial) && devices.serials.is_empty() {
        let console = &devices.consoles[0];
        devices.serials.push(Serial {
            place: console.place.clone(),
            chardev: console.chardev.clone(),
            target: Some(target),
            model: Some(model),
            port: Some(0),
            info: console.info.clone(),
        });
    }
    if let Some(serial) = devices.serials.first() {
        let console = Console {
            place: serial.place.clone(),
            chardev: serial.chardev.clone(),
            target: Some(ConsoleTarget::Serial),
            port: serial.port,
            info: serial.info.clone(),
        };
        // A port on PCI, on USB or for debugging is a console only to a domain that says so.
        let usual = serial.target.is_none_or(|own| own == target);
        match devices.consoles.first_mut() {
            Some(first) if first.is_serial() => *first = console,
            Some(_) | None if usual => {
                devices.consoles.insert(0, console);
            }
            Some(_) | None => {}
        }
    }
    for (port, console) in (0..).zip(&mut devices.consoles) {
        console.target.get_or_insert(ConsoleTarget::Serial);
        // The one that is a serial port seen again has that port's number.
        if port > 0 || !console.is_serial() {
            console.port = Some(port);
        }
        console.port.get_or_insert(port);
    }
}

/// Adds a virtio port; the first serial port stands for the console that is one.
pub(crate) fn arguments(command: &mut Command<'_>, console: &Console) {
    if console.is_serial() {
        let first = command.domain.devices.consoles.first();
        if !first.is_some_and(|first| std::ptr::eq(first, console)) {
            let what = "only the first console can be a serial port; use <target type='virtio'/>";
            command.refuse(&console.place, what);
        }
        return;
    }
    let alias = console.info.alias();
    let backend = chardev::arguments(command, &console.chardev, alias, Purpose::Port);
    let device = Object::new("driver", "virtconsole").set("chardev", backend).set("id", alias);
    command.device(&addressed(command, &console.info, device));
}
