//! The clocks, in microseconds.

use rustix::time::{ClockId, clock_gettime};

/// How long the host runs: no later daemon sees a smaller one.
pub(crate) fn boottime() -> u64 {
    microseconds(ClockId::Boottime)
}

/// The time of day, since 1970.
pub(crate) fn realtime() -> u64 {
    microseconds(ClockId::Realtime)
}

fn microseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is before its beginning.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}
