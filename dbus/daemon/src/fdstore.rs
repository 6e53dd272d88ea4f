//! Claims and events in systemd's file descriptor store (sd_notify(3), `FDSTORE=1`), so that the daemon may die and lose
//! none.
//!
//! Three file descriptors make a claim: the record, the leader's pidfd, and the lifeline; a fourth one is the monitor
//! of a guest that has one. Systemd is told not to
//! drop the ones that hang up (`FDPOLL=0`), as it would by itself: a guest that ends while there is no daemon is
//! then taken back like the others, and ends the usual way, in machined too.
//!
//! Without systemd all of it does nothing, and the shims register again with the next daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use domain::DomainUuid;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sd_notify::NotifyState;

use crate::caller::Admission;
use crate::claims::Claim;
use crate::guest::Guest;
use crate::inherited::Inherited;
use crate::lifeline::Lifeline;
use crate::monitor::Link;
use crate::record;
use crate::registry::Request;
use crate::ring::{Ring, Told};

/// No record is longer: name and units are 255 bytes at most, and JSON may write six for one.
const LONGEST_RECORD: usize = 8192;

/// The parts of a claim, as the store names them.
const PARTS: [&str; 4] = ["record", "leader", "lifeline", "monitor"];

/// The events, as the store names them.
const EVENTS: &str = "events";

/// Stores a claim. A failure is logged: the guest runs all the same.
pub(crate) fn keep(guest: &Guest, lifeline: &Lifeline) {
    let claim = guest.claim();
    let monitor = guest.monitor().socket();
    let stored = record_file(claim).and_then(|record| {
        let monitor = monitor.as_ref().map(AsFd::as_fd);
        let fds = [Some(record.as_fd()), Some(guest.pidfd()), Some(lifeline.as_fd()), monitor];
        for (part, fd) in PARTS.iter().zip(fds) {
            let Some(fd) = fd else { continue };
            store(&fd_name(&claim.uuid, part), fd)?;
        }
        Ok(())
    });
    if let Err(error) = stored {
        let name = &claim.name;
        tracing::warn!(
            "guest '{name}' must register again when glassboxd restarts: cannot store its claim: {error}"
        );
    }
}

/// Goes on with the events of the former daemon, if it left some, or begins anew and stores those.
///
/// # Errors
/// When the kernel has no memory for events.
pub(crate) fn events(passed: &mut Vec<Inherited>, start: u64) -> io::Result<(Ring, Told)> {
    let stored = passed.iter().position(|one| one.name == EVENTS).map(|at| passed.remove(at).fd);
    match stored.map(Ring::take_over) {
        Some(Ok(taken)) => return Ok(taken),
        Some(Err(fault)) => {
            tracing::warn!("the former daemon's events are lost: {fault}");
            forget_part(EVENTS);
        }
        None => {}
    }
    let ring = Ring::new(start)?;
    if let Err(error) = store(EVENTS, ring.file()) {
        tracing::warn!(
            "events will be lost when glassboxd restarts: they cannot be stored: {error}"
        );
    }
    Ok((ring, Told::default()))
}

fn store(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    let state = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    sd_notify::notify_with_fds(&state, &[fd])
}

/// Takes a claim out of the store.
pub(crate) fn forget(uuid: &DomainUuid) {
    for part in PARTS {
        forget_part(&fd_name(uuid, part));
    }
}

fn forget_part(name: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
    {
        tracing::warn!("the file descriptor store keeps {name}: {error}");
    }
}

/// Takes the claims of the former daemon back from what systemd passed, and returns what else was passed.
///
/// What is incomplete or of another version is dropped and taken out of the store: its shim, if it lives,
/// registers again.
pub(crate) fn take_back(
    passed: Vec<Inherited>,
    admission: Admission,
) -> (Vec<Request>, Vec<Inherited>) {
    let mut rest = Vec::new();
    let mut stored: BTreeMap<String, BTreeMap<&str, OwnedFd>> = BTreeMap::new();
    for Inherited { name, fd } in passed {
        match part_of(&name) {
            Some((uuid, part)) => drop(stored.entry(uuid.to_owned()).or_default().insert(part, fd)),
            None => rest.push(Inherited { name, fd }),
        }
    }
    let mut requests = Vec::new();
    for (uuid, parts) in stored {
        match restore(&uuid, parts, admission) {
            Ok(request) => requests.push(request),
            Err(error) => {
                tracing::info!("dropped the stored claim on UUID {uuid}: {error:#}");
                for part in PARTS {
                    forget_part(&format!("claim-{uuid}-{part}"));
                }
            }
        }
    }
    (requests, rest)
}

fn restore(
    uuid: &str,
    mut parts: BTreeMap<&str, OwnedFd>,
    admission: Admission,
) -> anyhow::Result<Request> {
    let mut part = |name| parts.remove(name).ok_or_else(|| anyhow::anyhow!("it has no {name}"));
    let (record, pidfd, lifeline) = (part("record")?, part("leader")?, part("lifeline")?);
    // A guest of an older glassbox-qemu has none.
    let monitor = parts.remove("monitor").map(Link::open).transpose()?;
    let mut text = vec![0; LONGEST_RECORD];
    // At an offset of its own, for all copies of the file descriptor share one position.
    let length = File::from(record).read_at(&mut text, 0)?;
    let mut claim = record::read(&text[..length])?;
    anyhow::ensure!(claim.uuid.to_string() == uuid, "its record is of UUID {}", claim.uuid);
    let lifeline = Lifeline::watch(lifeline)?;
    claim.user = lifeline.maker().and_then(|uid| admission.user_of(uid, &claim));
    Ok(Request { claim, pidfd, lifeline, monitor })
}

fn record_file(claim: &Claim) -> io::Result<File> {
    let mut file = File::from(memfd_create("glassbox-claim", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&record::write(claim))?;
    Ok(file)
}

fn fd_name(uuid: &DomainUuid, part: &str) -> String {
    format!("claim-{uuid}-{part}")
}

/// The UUID and the part in the name of a stored file descriptor.
fn part_of(name: &str) -> Option<(&str, &'static str)> {
    let (uuid, part) = name.strip_prefix("claim-")?.rsplit_once('-')?;
    Some((uuid, PARTS.into_iter().find(|known| *known == part)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_store_turn_back() {
        let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
        for part in PARTS {
            let name = fd_name(&uuid.parse().unwrap(), part);
            // sd_notify(3): at most 255 characters, no control characters, no colon.
            assert!(name.len() < 255 && !name.contains(':'));
            assert_eq!(part_of(&name), Some((uuid, part)));
        }
        for other in ["registry", "claim-", "claim-x", "claim-x-screen", "stored", ""] {
            assert_eq!(part_of(other), None, "{other}");
        }
    }
}
