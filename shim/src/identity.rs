//! The guest's UUID where its definition gives none.

use domain::{DomainName, DomainUuid};

/// The UUID that this machine gives the guest: derived from the machine's id, so that it stays the same.
///
/// Without a machine id (a container image, a chroot) there is nothing to derive it from; it is then random.
pub(crate) fn uuid(name: &DomainName) -> std::io::Result<DomainUuid> {
    match machine_id() {
        Some(id) => Ok(DomainUuid::derived(id, name)),
        None => random().map(DomainUuid::from_random),
    }
}

/// The id of machine-id(5): 32 hexadecimal digits. `uninitialized` is none.
fn machine_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id: DomainUuid = text.trim().parse().ok()?;
    Some(*id.as_bytes())
}

/// A word that no other run has, for names of files.
pub(crate) fn mark() -> String {
    // Without randomness there is still the pid, which nobody else has at this time in this place.
    let bytes = random().map_or(u128::from(std::process::id()), u128::from_ne_bytes);
    format!("{:016x}", bytes & u128::from(u64::MAX))
}

fn random() -> std::io::Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
