//! The last events of all guests, numbered, so that who was away can ask for what was missed. Pure.
//!
//! Numbers grow by one. Those of a daemon begin where no former daemon can have come to, so a client that brings a
//! number of a former daemon's learns that it missed something, and never takes one event for another.

use std::collections::VecDeque;

use domain::{DomainName, DomainUuid};

use crate::happening::Happening;

/// How many events are kept.
pub(crate) const KEPT: usize = 2048;

/// Something that happened, with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number.
    pub(crate) sequence: u64,
    /// When it happened, in microseconds of `CLOCK_REALTIME`.
    pub(crate) time: u64,
    /// The name of its guest.
    pub(crate) name: DomainName,
    /// The UUID of its guest.
    pub(crate) uuid: DomainUuid,
    /// What happened.
    pub(crate) what: Happening,
}

/// The events since one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Since<'a> {
    /// Whether there were others, which are not kept.
    pub(crate) gap: bool,
    /// The events, the oldest first.
    pub(crate) events: Vec<&'a Event>,
}

/// The last events.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Event>,
    /// The number of the last event, or of the one before the first.
    last: u64,
    /// The number of the last one that is not kept.
    lost: u64,
}

impl Ring {
    /// A ring whose first event has the number after `start`: the microseconds of `CLOCK_REALTIME` when the daemon
    /// started, which no daemon reaches that tells less than a million events a second.
    pub(crate) fn new(start: u64) -> Self {
        Self { events: VecDeque::new(), last: start, lost: start }
    }

    /// Adds an event, which drops the oldest when there are too many.
    pub(crate) fn push(&mut self, time: u64, name: DomainName, uuid: DomainUuid, what: Happening) {
        if self.events.len() == KEPT
            && let Some(oldest) = self.events.pop_front()
        {
            self.lost = self.lost.max(oldest.sequence);
        }
        self.last += 1;
        self.events.push_back(Event { sequence: self.last, time, name, uuid, what });
    }

    /// Counts an event that is not kept.
    pub(crate) fn skip(&mut self) {
        self.last += 1;
        self.lost = self.last;
    }

    /// The number of the last event, or of the one before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// What happened after the event with this number.
    pub(crate) fn since(&self, sequence: u64) -> Since<'_> {
        // A number that is still to come is of another daemon, whose clock was ahead.
        let is_foreign = sequence > self.last;
        let known = if is_foreign { 0 } else { sequence };
        let skipped = self.events.partition_point(|event| event.sequence <= known);
        let gap = is_foreign || sequence < self.lost;
        Since { gap, events: self.events.iter().skip(skipped).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::happening::Kind;

    fn ring(start: u64, count: usize) -> Ring {
        let mut ring = Ring::new(start);
        for _ in 0..count {
            let what = Happening::plain(Kind::Lifecycle, "started");
            let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap();
            ring.push(7, "web".parse().unwrap(), uuid, what);
        }
        ring
    }

    #[test]
    fn everything_since_a_number_is_there_or_a_gap_is_said() {
        let kept = u64::try_from(KEPT).unwrap();
        for (events, since, gap, first, count) in [
            (0, 100, false, None, 0),
            (0, 99, true, None, 0),
            (0, 0, true, None, 0),
            (3, 100, false, Some(101), 3),
            (3, 102, false, Some(103), 1),
            (3, 103, false, None, 0),
            (3, 104, true, Some(101), 3),
            (3, 0, true, Some(101), 3),
            (KEPT + 5, 105, false, Some(106), KEPT),
            (KEPT + 5, 104, true, Some(106), KEPT),
            (KEPT + 5, 104 + kept, false, Some(105 + kept), 1),
        ] {
            let ring = ring(100, events);
            let since_it = ring.since(since);
            let got = (since_it.gap, since_it.events.first().map(|event| event.sequence));
            assert_eq!((got, since_it.events.len()), ((gap, first), count), "{events}, {since}");
        }
    }

    #[test]
    fn what_is_not_kept_leaves_a_hole_in_the_numbers() {
        let mut ring = ring(100, 2);
        ring.skip();
        assert_eq!((ring.last(), ring.since(101).gap, ring.since(103).gap), (103, true, false));
        let numbers =
            |since| ring.since(since).events.iter().map(|it| it.sequence).collect::<Vec<_>>();
        assert_eq!((numbers(101), numbers(103)), (vec![102], vec![]));
    }

    #[test]
    fn no_number_of_one_daemon_means_another_s_event() {
        let former = ring(1_000_000, 500);
        let next = ring(1_000_900, 3);
        assert!(next.since(former.last()).gap);
    }
}
