//! How many events one guest may have: so many at once, and so many a second for long. Pure.
//!
//! All guests' events share one ring and one bus. Without a bound a guest that has its QEMU tell of something all the time
//! would leave no room there for the others'.

use std::time::{Duration, Instant};

/// How many at once: more than a guest has in a day, and a quarter of what is kept of all guests.
const AT_ONCE: u32 = 512;

/// How long it takes until one more is allowed.
const EACH: Duration = Duration::from_millis(10);

/// What one guest has left.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    /// Up to when what is left counts.
    counted: Instant,
}

impl Allowance {
    /// All of it.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, counted: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted);
        let more = u32::try_from(since.as_millis() / EACH.as_millis()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.counted += EACH.saturating_mul(more);
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_a_quiet_guest_has_all_of_it_again() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut taken = |after_ms: u64, times: u32| {
            let now = start + Duration::from_millis(after_ms);
            (0..times).filter(|_| allowance.take(now)).count()
        };
        assert_eq!(taken(0, 10_000), 512);
        assert_eq!(taken(9, 10), 0);
        assert_eq!(taken(10, 10), 1);
        assert_eq!(taken(1010, 1000), 100, "a hundred a second");
        assert_eq!(taken(3_600_000, 1000), 512);
        assert_eq!(taken(3_600_015, 1000), 1);
        assert_eq!(taken(3_600_020, 1000), 1, "no part of the time is lost");
    }
}
