//! The service manager's watchdog (`WatchdogSec=`, sd_watchdog_enabled(3)), fed while QEMU answers.
//!
//! ```text
//!   half of the time passes          QEMU answers
//!   ---------------------------> ask -------------> WATCHDOG=1, and so on
//! ```
//!
//! QEMU answers its monitor from its main loop, paused guests included, so an answer says that QEMU is well,
//! whatever its guest does. While an answer is awaited nothing more is asked and the service manager hears
//! nothing. Without a watchdog there is no clock.

use std::time::{Duration, Instant};

use qmp::CommandId;

/// A watchdog that waits to be fed.
#[derive(Debug)]
pub(crate) struct Watchdog {
    interval: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AskAt(Instant),
    Asked(CommandId),
}

impl Watchdog {
    /// A watchdog that wants to be fed within this time. QEMU is to be asked at once.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        // What sd_watchdog_enabled(3) advises.
        Self { interval: limit / 2, state: State::AskAt(now) }
    }

    /// When to ask QEMU; none while it owes an answer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::AskAt(at) => Some(at),
            State::Asked(_) => None,
        }
    }

    /// QEMU was asked by this command.
    pub(crate) fn asked(&mut self, id: CommandId) {
        self.state = State::Asked(id);
    }

    /// Whether this is the answer that was awaited, and the service manager is to hear of it.
    pub(crate) fn is_answer(&mut self, id: CommandId, now: Instant) -> bool {
        let awaited = self.state == State::Asked(id);
        if awaited {
            self.state = State::AskAt(now + self.interval);
        }
        awaited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_asked_again_only_when_it_has_answered() {
        let mut session = qmp::Session::new(1 << 20);
        let [first, second] =
            [(); 2].map(|()| session.execute("query-status", serde_json::Value::Null));
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(20), start);
        assert_eq!(watchdog.deadline(), Some(start));
        watchdog.asked(first);
        assert_eq!(watchdog.deadline(), None);
        assert!(!watchdog.is_answer(second, start));
        let later = start + Duration::from_secs(1);
        assert!(watchdog.is_answer(first, later));
        assert_eq!(watchdog.deadline(), Some(later + Duration::from_secs(10)));
        assert!(!watchdog.is_answer(first, later), "one answer feeds once");
    }
}
