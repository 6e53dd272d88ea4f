//! What time it is on the host.

use qemu::HostClock;

use crate::sys;

/// The time, if the clock was ever set. It is for the guest's own clock, and nothing is decided by it.
#[allow(clippy::disallowed_types)] // The one place that is to know the time of day.
pub(super) fn now() -> Option<HostClock> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()?;
    Some(HostClock { now, local_offset: sys::local_offset(now) })
}
