//! Secrets as QEMU gets them: `-object secret`, sealed by the guest's master key.

use domain::Place;
use domain::devices::DiskSource;

use crate::command::Command;
use crate::devices::disk::nbdkit_serves;
use crate::json::Object;
use crate::storage::{SecretNeed, secrets_of_qemu};

/// The id of the master key.
const MASTER_KEY: &str = "masterKey0";

/// Adds the master key if a secret is needed.
pub(crate) fn master_key(command: &mut Command<'_>) {
    let facts = command.facts;
    let served = |source: &DiskSource| {
        source.kind.protocol().is_some_and(|protocol| nbdkit_serves(facts, protocol))
    };
    if secrets_of_qemu(command.domain, served).is_empty() {
        return;
    }
    let path = format!("{}/master-key.aes", command.facts.directories.guest);
    let key = Object::new("qom-type", "secret").set("id", MASTER_KEY);
    command.object(&key.set("format", "raw").set("file", path));
}

/// Adds a secret; the result is its id.
pub(crate) fn add(
    command: &mut Command<'_>,
    id: String,
    need: &SecretNeed,
    place: &Place,
) -> String {
    let Some(sealed) = command.facts.storage.secrets.get(need) else {
        let what = match need {
            SecretNeed::Stored(domain::devices::SecretKey::Uuid(uuid)) => {
                format!("the host has no secret with the UUID {uuid}; store it first")
            }
            SecretNeed::Stored(domain::devices::SecretKey::Usage(usage)) => {
                format!("the host has no secret for '{usage}'; store it first")
            }
            SecretNeed::Text(_) => "cookies could not be sealed for QEMU".to_owned(),
        };
        command.refuse(place, what);
        return id;
    };
    let secret = Object::new("qom-type", "secret")
        .set("id", &id)
        .set("data", &sealed.data)
        .set("keyid", MASTER_KEY)
        .set("iv", &sealed.iv)
        .set("format", "base64");
    command.object(&secret);
    id
}
