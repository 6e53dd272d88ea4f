//! The guest's ports, for those on the host who speak with it.

use domain::Domain;
use domain::devices::{Chardev, DeviceInfo};

use crate::plan::{Port, PortRole};

/// The ports of a domain with aliases. A console that is a serial port seen again is there once.
pub(crate) fn of(domain: &Domain, sockets: &[(String, String)]) -> Vec<Port> {
    let port = |info: &DeviceInfo, chardev: &Chardev, role| {
        let alias = info.alias().to_owned();
        let socket = sockets.iter().find(|(of, _)| *of == alias).map(|(_, path)| path.clone());
        Port { alias, role, kind: chardev.kind(), socket }
    };
    let devices = &domain.devices;
    let console = |info, chardev| port(info, chardev, PortRole::Console);
    // A console that is a serial port seen again has that one's alias.
    let consoles = devices.consoles.iter().map(|it| match devices.serials.first() {
        Some(serial) if it.is_serial() => console(&serial.info, &serial.chardev),
        Some(_) | None => console(&it.info, &it.chardev),
    });
    let serials = devices.serials.iter().map(|it| console(&it.info, &it.chardev));
    let parallels = devices.parallels.iter().map(|it| console(&it.info, &it.chardev));
    let channels = devices.channels.iter().map(|it| {
        let name = it.name().map(str::to_owned);
        port(&it.info, &it.chardev, PortRole::Channel(name))
    });
    let mut ports: Vec<Port> = Vec::new();
    for port in consoles.chain(serials).chain(parallels).chain(channels) {
        if ports.iter().all(|other| other.alias != port.alias) {
            ports.push(port);
        }
    }
    ports
}
