//! For how many guests the file descriptors suffice.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A guest's leader, lifeline, monitor, and control socket or the connection by which it registers.
const OF_A_GUEST: u64 = 4;

/// What the daemon needs for itself: bus, registry, log, runtime, clients.
const OWN: u64 = 64;

/// A guest's record, leader, lifeline and monitor in the file descriptor store.
const STORED_OF_A_GUEST: u64 = 4;

/// Raises the limit of open file descriptors as far as the daemon may, and says for how many guests there is room.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let limit = match raised {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("the limit of open file descriptors stays as it is: {error}");
            limit.current
        }
    };
    // systemd.exec(5): since version 254.
    let store = std::env::var("FDSTORE").ok().and_then(|most| most.parse().ok());
    match room(limit, store) {
        Some(guests) => tracing::info!("there are file descriptors for {guests} guests"),
        None => tracing::debug!("there is no limit of open file descriptors"),
    }
}

/// The number of guests; none when nothing limits it.
fn room(limit: Option<u64>, store: Option<u64>) -> Option<u64> {
    let open = limit.map(|limit| limit.saturating_sub(OWN) / OF_A_GUEST);
    // One has the events.
    let stored = store.map(|store| store.saturating_sub(1) / STORED_OF_A_GUEST);
    open.into_iter().chain(stored).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_counts() {
        for (limit, store, guests) in [
            (None, None, None),
            (Some(1024), None, Some(240)),
            (Some(18_432), Some(16_384), Some(4095)),
            (Some(1024), Some(16_384), Some(240)),
            (None, Some(2048), Some(511)),
            (Some(8), Some(0), Some(0)),
        ] {
            assert_eq!(room(limit, store), guests, "{limit:?}, {store:?}");
        }
    }
}
