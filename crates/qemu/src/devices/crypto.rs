//! Cryptographic accelerators.

use domain::devices::{Crypto, CryptoBackend};

use crate::command::Command;
use crate::devices::{placed, virtio};
use crate::json::Object;

/// Adds what computes, and the device.
pub(crate) fn arguments(command: &mut Command<'_>, crypto: &Crypto) {
    let id = format!("obj{}", crypto.info.alias());
    let kind = match crypto.backend {
        CryptoBackend::Builtin => "cryptodev-backend-builtin",
        CryptoBackend::Lkcf => "cryptodev-backend-lkcf",
    };
    command.object(&Object::new("qom-type", kind).set("id", &id).some("queues", crypto.queues));
    let device = virtio(&crypto.virtio, Object::new("driver", "virtio-crypto-pci"));
    command.device(&placed(command, &crypto.info, device.set("cryptodev", id)));
}
