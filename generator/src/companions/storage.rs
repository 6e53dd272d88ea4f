//! Programs that disks have beside QEMU: nbdkit for an image on a server, and qemu-pr-helper for reservations.

use domain::devices::{NetworkProtocol, SecretKey};
use domain::tree::Element;
use domain::{DiskTarget, DomainUuid, Keyword, NbdkitParts, secret_credential};

use super::Companion;
use crate::facts::{Image, attribute, children, images, is_remote};

/// The programs of all disks.
pub(super) fn of<'e>(
    disks: impl Iterator<Item = &'e Element<'e>>,
    nbdkit: NbdkitParts,
) -> Vec<Companion> {
    let mut companions = Vec::new();
    let mut reserves = false;
    for disk in disks {
        let target = children(disk, "target").find_map(|target| attribute(target, "dev"));
        // The planner refuses a disk without one.
        let target = target.and_then(|target| target.parse::<DiskTarget>().ok());
        for image in images(disk) {
            reserves |= wants_helper(image.source);
            let target = target.as_ref().filter(|_| is_served(image.source, nbdkit));
            companions.extend(target.map(|target| of_image(target, &image)));
        }
    }
    let helper = || Companion::new("qemu-pr-helper", "Disk reservations", "pr-helper0".to_owned());
    companions.extend(reserves.then(helper));
    companions
}

/// Whether nbdkit reaches the image at this source in QEMU's place.
pub(crate) fn is_served(source: &Element<'_>, nbdkit: NbdkitParts) -> bool {
    let protocol = attribute(source, "protocol");
    let protocol = protocol.and_then(NetworkProtocol::from_word);
    protocol.is_some_and(|protocol| nbdkit.serves(protocol)) && is_remote(source)
}

fn of_image(target: &DiskTarget, image: &Image<'_>) -> Companion {
    let device = format!("{}{}", target.as_str(), image.suffix);
    let mut companion = Companion::new("nbdkit", "Disk on a server", device);
    companion.network = true;
    // Before libvirt 3.9 it stood in the disk itself.
    let logins = children(image.source, "auth").chain(children(image.owner, "auth"));
    let secrets = logins.flat_map(|auth| children(auth, "secret"));
    companion.credentials.extend(secrets.filter_map(credential));
    companion
}

fn credential(secret: &Element<'_>) -> Option<String> {
    let uuid = attribute(secret, "uuid").and_then(|uuid| uuid.parse::<DomainUuid>().ok());
    let usage = || attribute(secret, "usage").map(|usage| SecretKey::Usage(usage.to_owned()));
    secret_credential(&uuid.map(|uuid| SecretKey::Uuid(uuid.to_string())).or_else(usage)?)
}

/// Whether the guest's own helper answers for reservations on this source.
fn wants_helper(source: &Element<'_>) -> bool {
    children(source, "reservations").any(|it| attribute(it, "managed") == Some("yes"))
}
