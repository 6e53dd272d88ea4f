//! The last events of all guests, numbered, so that who was away can ask for what was missed.
//!
//! They are in a file in memory, which the file descriptor store has too: a daemon that is killed leaves them to the
//! next one, which goes on with their numbers. The file has a header and [`KEPT`] slots of [`SLOT`] bytes, and the event
//! with a number is in the slot of the number modulo [`KEPT`]; so it never grows beyond that.
//!
//! Numbers grow by one. A ring that begins anew does so where no former one can have come to: a client that brings a
//! number of a former ring's learns that it missed something, and never takes one event for another.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use domain::{DomainName, DomainUuid};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::event::{Event, SLOT};
use crate::happening::Happening;

/// How many events are kept.
pub(crate) const KEPT: usize = 2048;

/// What the file begins with; the number before the first event and the end of the line follow. Another number of slots,
/// or slots of another form, would be another version.
const HEADER: &str = "glassbox events, version 1, after ";

/// The events since one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// Whether there were others, which are not kept.
    pub(crate) gap: bool,
    /// The events, the oldest first.
    pub(crate) events: Vec<Event>,
}

/// The last events.
#[derive(Debug)]
pub(crate) struct Ring {
    file: File,
    /// The number of the oldest event that is kept; the next one's when there is none.
    first: u64,
    /// The number of the last event, or of the one before the first.
    last: u64,
    /// Whether something happened since that is not kept.
    skipped: bool,
}

/// What the daemon that was killed told already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The digests of what QEMUs said.
    said: HashSet<u64>,
    /// By UUID, the number of each guest's last event, and whether it says that the guest ended.
    last: HashMap<String, (u64, bool)>,
}

/// A file is not a ring that this daemon knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingFault {
    /// Another version wrote it.
    #[error("they begin with {0:?}, this daemon knows {HEADER:?}")]
    Header(String),
    /// It cannot be read.
    #[error("they cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Ring {
    /// A ring whose first event has the number after `start`: the microseconds of `CLOCK_REALTIME` when the daemon
    /// started, which no daemon reaches that tells less than a million events a second.
    ///
    /// # Errors
    /// When the kernel has no memory.
    pub(crate) fn new(start: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("glassbox-events", MFdFlags::MFD_CLOEXEC)?);
        file.write_all_at(format!("{HEADER}{start}\n").as_bytes(), 0)?;
        Ok(Self { file, first: start + 1, last: start, skipped: false })
    }

    /// Goes on with the ring of the former daemon.
    ///
    /// # Errors
    /// [`RingFault`], when a new ring must do.
    pub(crate) fn take_over(file: OwnedFd) -> Result<(Self, Told), RingFault> {
        let file = File::from(file);
        let mut header = [0; 128];
        let length = file.read_at(&mut header, 0)?;
        let start = start_in(&header[..length])?;
        let mut ring = Self { file, first: start + 1, last: start, skipped: false };
        let (mut told, mut numbers) = (Told::default(), Vec::new());
        for event in (0..slots()).filter_map(|slot| ring.read(slot)) {
            numbers.push(event.sequence);
            told.take_in(&event);
        }
        if let (Some(first), Some(last)) = (numbers.iter().min(), numbers.iter().max()) {
            // Where a write failed, a slot has an event of long ago.
            (ring.first, ring.last) = ((*first).max((last + 1).saturating_sub(slots())), *last);
        }
        Ok((ring, told))
    }

    /// The file, for the file descriptor store.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Adds an event, which drops the oldest when there are too many.
    pub(crate) fn push(
        &mut self,
        time: u64,
        guest: (&DomainName, &DomainUuid),
        what: Happening,
        said: Option<u64>,
    ) {
        // What was skipped has one number, however much it was.
        let number = self.last + if std::mem::take(&mut self.skipped) { 2 } else { 1 };
        self.last = number;
        self.first = self.first.max(number.saturating_sub(slots() - 1));
        if !self.write(&Event::new(number, time, guest, what, said)) {
            self.first = number + 1;
        }
    }

    /// Something happened that is not kept, which clients see as a gap.
    pub(crate) fn skip(&mut self) {
        // The number is used with the next event, so that a flood takes no more numbers than there are events.
        if !std::mem::replace(&mut self.skipped, true) {
            self.write(&Event::skipped(self.last + 1));
        }
    }

    fn write(&self, event: &Event) -> bool {
        let number = event.sequence;
        let written = self.file.write_all_at(&event.to_slot(), place(number));
        written
            .inspect_err(|error| {
                tracing::warn!("event {number} is lost, which clients see as a gap: {error}");
            })
            .is_ok()
    }

    /// The number of the last event, or of the one before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The first event after the one with this number.
    pub(crate) fn after(&self, sequence: u64) -> Option<Event> {
        (self.first.max(sequence.saturating_add(1))..=self.last)
            .find_map(|number| self.event(number))
    }

    /// What happened after the event with this number.
    pub(crate) fn since(&self, sequence: u64) -> Since {
        // A number that is still to come is of another ring, whose clock was ahead.
        let gap = sequence > self.last || sequence + 1 < self.first;
        let first = if gap { self.first } else { sequence + 1 };
        let events: Vec<Event> =
            (first..=self.last).filter_map(|number| self.event(number)).collect();
        // None is missing but one that was skipped or half written.
        let lost = u64::try_from(events.len()) != Ok(self.last + 1 - first);
        Since { gap: gap || lost || self.skipped, events }
    }

    fn event(&self, number: u64) -> Option<Event> {
        let event = self.read(number % slots())?;
        (event.sequence == number && !event.is_skipped()).then_some(event)
    }

    fn read(&self, slot: u64) -> Option<Event> {
        let mut bytes = [0; SLOT];
        let mut length = 0;
        while length < SLOT {
            let offset = place(slot) + u64::try_from(length).ok()?;
            match self.file.read_at(&mut bytes[length..], offset) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let event = Event::of_slot(&bytes[..length])?;
        (event.sequence % slots() == slot).then_some(event)
    }
}

impl Told {
    /// Whether the former daemon told what QEMU said with this digest.
    pub(crate) fn has(&self, said: u64) -> bool {
        self.said.contains(&said)
    }

    /// Whether the former daemon told that this guest ended.
    pub(crate) fn has_ended(&self, uuid: &DomainUuid) -> bool {
        self.last.get(&uuid.to_string()).is_some_and(|(_, ended)| *ended)
    }

    fn take_in(&mut self, event: &Event) {
        self.said.extend(event.said);
        let last = (event.sequence, event.is_end());
        let known = self.last.entry(event.uuid.clone()).or_insert(last);
        *known = last.max(*known);
    }
}

/// The number before the first event, from the beginning of the file.
fn start_in(header: &[u8]) -> Result<u64, RingFault> {
    let line = header.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let start = line.strip_prefix(HEADER).and_then(|start| start.parse().ok());
    start.ok_or_else(|| RingFault::Header(line.into_owned()))
}

fn slots() -> u64 {
    u64::try_from(KEPT).expect("KEPT is small")
}

/// Where the slot of an event is in the file; the header has one of its own.
fn place(number: u64) -> u64 {
    let size = u64::try_from(SLOT).expect("SLOT is small");
    size * (1 + number % slots())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::happening::Kind;

    const UUID: &str = "c7a5fdbd-edaf-9455-926a-d65c16db1809";

    fn tell(ring: &mut Ring, event: &'static str, said: Option<u64>) {
        let guest = (&"web".parse().unwrap(), &UUID.parse().unwrap());
        ring.push(7, guest, Happening::plain(Kind::Lifecycle, event), said);
    }

    fn ring(start: u64, count: usize) -> Ring {
        let mut ring = Ring::new(start).unwrap();
        for number in 0..count {
            tell(&mut ring, "started", u64::try_from(number).ok());
        }
        ring
    }

    /// The ring as the next daemon has it.
    fn next(ring: &Ring) -> (Ring, Told) {
        Ring::take_over(ring.file().try_clone_to_owned().unwrap()).unwrap()
    }

    #[test]
    fn everything_since_a_number_is_there_or_a_gap_is_said() {
        let kept = slots();
        for (events, since, gap, first, count) in [
            (0, 100, false, None, 0),
            (0, 99, true, None, 0),
            (0, 0, true, None, 0),
            (3, 100, false, Some(101), 3),
            (3, 102, false, Some(103), 1),
            (3, 103, false, None, 0),
            (3, 104, true, Some(101), 3),
            (3, 0, true, Some(101), 3),
            (3, u64::MAX, true, Some(101), 3),
            (KEPT + 5, 105, false, Some(106), KEPT),
            (KEPT + 5, 104, true, Some(106), KEPT),
            (KEPT + 5, 104 + kept, false, Some(105 + kept), 1),
        ] {
            let ring = ring(100, events);
            for ring in [next(&ring).0, ring] {
                let got = ring.since(since);
                let numbers: Vec<u64> = got.events.iter().map(|event| event.sequence).collect();
                let expected: Vec<u64> =
                    (0..count).map(|nth| first.unwrap() + u64::try_from(nth).unwrap()).collect();
                assert_eq!((got.gap, numbers), (gap, expected), "{events}, {since}");
                assert_eq!(
                    ring.after(since).map(|event| event.sequence),
                    first.filter(|_| since <= ring.last())
                );
            }
        }
    }

    #[test]
    fn the_next_daemon_goes_on_with_the_numbers() {
        let mut former = ring(100, 5);
        let (mut ring, told) = next(&former);
        assert_eq!(ring.last(), 105);
        assert!(told.has(4) && !told.has(5));
        assert!(!told.has_ended(&UUID.parse().unwrap()));
        tell(&mut ring, "stopped", None);
        assert_eq!(ring.since(105).events[0].event, "stopped");
        // Both have one file, as a daemon and the store have.
        former.last += 1;
        let (_, told) = next(&former);
        assert!(told.has_ended(&UUID.parse().unwrap()));
        tell(&mut former, "started", None);
        assert!(!next(&former).1.has_ended(&UUID.parse().unwrap()));
    }

    #[test]
    fn what_is_half_written_is_no_event() {
        let ring = ring(100, 5);
        ring.file.write_all_at(b"torn", place(105) + 40).unwrap();
        let (torn, told) = next(&ring);
        assert_eq!(
            (torn.last(), torn.since(102).gap, torn.since(102).events.len()),
            (104, false, 2)
        );
        assert!(!told.has(4), "what nobody was told of is told again");
        ring.file.write_all_at(b"torn", place(103) + 40).unwrap();
        let since = next(&ring).0.since(102);
        assert_eq!((since.gap, since.events.len()), (true, 1), "a gap is said");
        assert!(ring.since(100).gap);
    }

    #[test]
    fn what_is_not_kept_leaves_a_hole_in_the_numbers() {
        let numbers = |ring: &Ring, since| -> Vec<u64> {
            ring.since(since).events.iter().map(|event| event.sequence).collect()
        };
        let mut ring = ring(100, 2);
        for _ in 0..5000 {
            ring.skip();
        }
        assert_eq!((ring.last(), ring.since(101).gap, ring.since(102).gap), (102, true, true));
        assert_eq!(numbers(&ring, 101), [102]);
        let (killed, _) = next(&ring);
        assert_eq!(
            (killed.last(), killed.since(102).gap, killed.since(103).gap),
            (103, true, false)
        );
        tell(&mut ring, "stopped", None);
        for ring in [next(&ring).0, ring] {
            assert_eq!((ring.last(), ring.since(102).gap, ring.since(103).gap), (104, true, false));
            assert_eq!(
                (numbers(&ring, 100), numbers(&ring, 102)),
                (vec![101, 102, 104], vec![104])
            );
            assert_eq!(ring.after(102).map(|event| event.sequence), Some(104));
        }
    }

    #[test]
    fn no_number_of_one_ring_means_another_s_event() {
        let former = ring(1_000_000, 500);
        let next = ring(1_000_900, 3);
        assert!(next.since(former.last()).gap);
    }

    /// What the first version writes; every later daemon must read it or say that it is lost.
    #[test]
    fn the_file_is_stable() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/kept/events-1");
        let mut ring = Ring::new(slots() * 1_000_000_000 - 1).unwrap();
        for event in ["started", "suspended", "resumed"] {
            tell(&mut ring, event, Some(7));
        }
        let mut written = Vec::new();
        std::io::Seek::rewind(&mut ring.file).unwrap();
        std::io::Read::read_to_end(&mut ring.file, &mut written).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &written).unwrap();
        }
        assert!(written == std::fs::read(path).unwrap(), "UPDATE_GOLDEN=1 writes the file");
    }

    #[test]
    fn another_version_is_refused() {
        for header in
            ["glassbox events, version 2, after 7\n", "", "glassbox events, version 1, after x\n"]
        {
            let ring = ring(1, 0);
            ring.file.set_len(0).unwrap();
            ring.file.write_all_at(header.as_bytes(), 0).unwrap();
            let fault = Ring::take_over(ring.file().try_clone_to_owned().unwrap()).unwrap_err();
            let words = format!("they begin with {:?}, this daemon knows", header.trim_end());
            assert!(fault.to_string().starts_with(&words), "{fault}");
        }
    }
}
