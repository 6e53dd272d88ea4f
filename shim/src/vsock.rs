//! The guest's vsock: its number, and the kernel's device.

use std::fs::File;
use std::io;

use domain::{DomainUuid, Fault, Place};

use crate::sys;

/// The kernel's device.
pub(crate) const DEVICE: &str = "/dev/vhost-vsock";

/// Numbers from 3 on are guests' (vsock(7)); the largest of 32 bits stands for any.
const FIRST: u32 = 3;

/// How many numbers are tried for a guest.
const TRIES: u32 = 1000;

/// The number of a guest that leaves it to us: made of its UUID, so that it mostly is the same at each start, and
/// the next one that is free when the kernel's device opens.
///
/// Another guest can take it before this one does, which is then refused when the number is set.
pub(crate) fn free(uuid: &DomainUuid) -> u32 {
    let taken = |cid| {
        File::options().read(true).write(true).open(DEVICE).is_ok_and(|device| {
            let set = sys::set_guest_cid(&device, cid);
            set.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        })
    };
    first_free(uuid, taken)
}

/// The number that a guest has when nothing is known of others.
pub(crate) fn derived(uuid: &DomainUuid) -> u32 {
    first_free(uuid, |_| false)
}

fn first_free(uuid: &DomainUuid, taken: impl Fn(u32) -> bool) -> u32 {
    let words = uuid
        .as_bytes()
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte)));
    let hash = words.fold(0, |hash, word| hash ^ word);
    let first = FIRST + hash % (u32::MAX - FIRST - TRIES);
    (first..first + TRIES).find(|cid| !taken(*cid)).unwrap_or(first)
}

/// The guest's vsock with its number.
pub(crate) fn open(cid: u32, place: &Place) -> Result<File, Fault> {
    let device = File::options().read(true).write(true).open(DEVICE).map_err(|error| {
        place.refused(format!("'{DEVICE}' cannot be opened: {error}; pass it as a file descriptor"))
    })?;
    sys::set_guest_cid(&device, cid).map_err(|error| {
        let advice = "give another one in <cid address='...'/>";
        place.refused(format!("the guest cannot have the number {cid}: {error}; {advice}"))
    })?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_guests_own_and_free() {
        let uuid = |text: &str| text.parse::<DomainUuid>().unwrap();
        let one = uuid("3bc0b8b8-8849-4f68-a58b-c38ae2e8e579");
        let cid = derived(&one);
        assert!(cid >= FIRST);
        assert_eq!(derived(&one), cid, "the same at each start");
        assert_eq!(first_free(&one, |tried| tried == cid), cid + 1);
        assert_eq!(first_free(&one, |_| true), cid, "the kernel then says that it is taken");
        let last = uuid("ffffffff-0000-0000-0000-000000000000");
        let cid = derived(&last);
        assert!((FIRST..u32::MAX - TRIES).contains(&cid), "{cid}: there is room for more");
    }
}
