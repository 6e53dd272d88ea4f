//! Sources of randomness.

use domain::Domain;
use domain::devices::{Rng, RngBackend};

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, placed, virtio, virtio_driver};
use crate::json::Object;
use crate::plan::Access;

/// The file that randomness is read from when the domain names none.
const DEFAULT_FILE: &str = "/dev/random";

/// Fills in the file of a backend that reads one.
pub(crate) fn complete(domain: &mut Domain) {
    for rng in &mut domain.devices.rngs {
        if rng.backend == RngBackend::Random {
            rng.file.get_or_insert_with(|| DEFAULT_FILE.to_owned());
        }
    }
}

/// Adds the backend and the device.
pub(crate) fn arguments(command: &mut Command<'_>, rng: &Rng) {
    let id = format!("obj{}", rng.info.alias());
    let backend = match rng.backend {
        RngBackend::Random => {
            let file = rng.file.as_deref().unwrap_or(DEFAULT_FILE);
            command.needs_file(file, Access::Read, &rng.place.child("backend"));
            Object::new("qom-type", "rng-random").set("id", &id).set("filename", file)
        }
        RngBackend::Builtin => Object::new("qom-type", "rng-builtin").set("id", &id),
        RngBackend::Egd => {
            // The crate `domain` reads no such backend without a way to the daemon.
            let Some(chardev) = &rng.chardev else { return };
            let backend = chardev::arguments(command, chardev, rng.info.alias(), Purpose::Port);
            Object::new("qom-type", "rng-egd").set("id", &id).set("chardev", backend)
        }
    };
    command.object(&backend);
    let device = Object::new("driver", virtio_driver("virtio-rng", rng.model));
    let device = virtio(&rng.virtio, device)
        .set("rng", id)
        .some("max-bytes", rng.rate.bytes)
        .some("period", rng.rate.bytes.map(|_| rng.rate.period.unwrap_or(1000)));
    command.device(&placed(command, &rng.info, device));
}
