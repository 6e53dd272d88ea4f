//! An event as clients are told of it, and as the ring keeps it. Pure.
//!
//! Kept is it as JSON in a slot of fixed size, behind its length and a check over it: a daemon that is killed while it
//! writes leaves a slot that the next one sees to be none. The names in it are fixed by what older daemons wrote.

use std::collections::BTreeMap;

use domain::{DomainName, DomainUuid};
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::happening::{Detail, Happening, Kind};

/// The size of a slot, in bytes. It divides a page, so that no slot is in two.
pub(crate) const SLOT: usize = 1024;

/// Where the text of a slot begins: behind the check, of eight bytes, and the length, of two.
const TEXT: usize = 10;

/// To how many characters the texts of an event that fills more than a slot are cut, one after the other.
const CUTS: [usize; 3] = [64, 16, 0];

/// Something that happened to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Its number.
    pub(crate) sequence: u64,
    /// When it happened, in microseconds of `CLOCK_REALTIME`.
    pub(crate) time: u64,
    /// The name of its guest.
    pub(crate) domain: String,
    /// The UUID of its guest.
    pub(crate) uuid: String,
    /// What it is about, by its word on the bus.
    pub(crate) kind: String,
    /// What happened.
    pub(crate) event: String,
    /// What else is known of it.
    pub(crate) details: BTreeMap<String, Detail>,
    /// The digest of what QEMU said, if it was QEMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) said: Option<u64>,
}

impl Event {
    /// The event with this number.
    pub(crate) fn new(
        sequence: u64,
        time: u64,
        (name, uuid): (&DomainName, &DomainUuid),
        what: Happening,
        said: Option<u64>,
    ) -> Self {
        let details = what.details.into_iter();
        Self {
            sequence,
            time,
            domain: name.to_string(),
            uuid: uuid.to_string(),
            kind: what.kind.word().to_owned(),
            event: what.event.to_owned(),
            details: details.map(|(name, detail)| (name.to_owned(), detail)).collect(),
            said,
        }
    }

    /// Stands for what happened and is not kept; it has a number, and clients do not see it.
    pub(crate) fn skipped(sequence: u64) -> Self {
        let (time, said, details) = (0, None, BTreeMap::new());
        let [domain, uuid, kind, event] = [const { String::new() }; 4];
        Self { sequence, time, domain, uuid, kind, event, details, said }
    }

    /// Whether it is no event, but stands for some.
    pub(crate) fn is_skipped(&self) -> bool {
        // No guest's name is empty.
        self.domain.is_empty()
    }

    /// Whether it says that the guest ended.
    pub(crate) fn is_end(&self) -> bool {
        self.kind == Kind::Lifecycle.word() && self.event == ENDED
    }

    /// The bytes of its slot, at most [`SLOT`]. Its texts are cut where they are too long for that.
    pub(crate) fn to_slot(&self) -> Vec<u8> {
        let mut event = self.clone();
        let mut cuts = CUTS.into_iter();
        loop {
            let text = serde_json::to_vec(&event).expect("an event has string keys only");
            if let Ok(length) = u16::try_from(text.len())
                && TEXT + text.len() <= SLOT
            {
                let mut slot = digest([&text[..]]).to_le_bytes().to_vec();
                slot.extend_from_slice(&length.to_le_bytes());
                slot.extend_from_slice(&text);
                return slot;
            }
            let cut = cuts.next().expect("names and details without texts fit");
            event.cut_texts(cut);
        }
    }

    /// The event in a slot, if there is a whole one.
    pub(crate) fn of_slot(slot: &[u8]) -> Option<Self> {
        let (check, rest) = slot.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let text = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
        if digest([text]) != u64::from_le_bytes(*check) {
            return None;
        }
        serde_json::from_slice(text).ok()
    }

    fn cut_texts(&mut self, cut: usize) {
        for detail in self.details.values_mut() {
            if let Detail::Text(text) = detail {
                *text = text.chars().take(cut).collect();
            }
        }
    }
}

/// The event that is the last of each guest.
pub(crate) const ENDED: &str = "stopped";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(name: &str, details: &[(&'static str, Detail)], said: Option<u64>) -> Event {
        let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse().unwrap();
        let details = details.iter().cloned().collect();
        let what = Happening { kind: Kind::IoError, event: "failed", details };
        Event::new(u64::MAX, u64::MAX, (&name.parse().unwrap(), &uuid), what, said)
    }

    #[test]
    fn the_slot_is_stable() {
        let detail = ("device", Detail::Text("virtio-disk0".to_owned()));
        let slot = event("web", &[detail, ("nospace", Detail::Flag(true))], Some(7)).to_slot();
        let text = r#"{"sequence":18446744073709551615,"time":18446744073709551615,"domain":"web","uuid":"c7a5fdbd-edaf-9455-926a-d65c16db1809","kind":"io-error","event":"failed","details":{"device":"virtio-disk0","nospace":true},"said":7}"#;
        assert_eq!(std::str::from_utf8(&slot[TEXT..]).unwrap(), text);
        assert_eq!(slot[..TEXT], [253, 107, 95, 246, 210, 68, 200, 18, 217, 0]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_rest_is_kept() {
        let name = "x".repeat(231);
        // A control character is six in JSON.
        let long = |member| (member, Detail::Text("\u{1}".repeat(256)));
        let members = ["device", "node-name", "operation", "action", "reason"];
        let event = event(&name, &members.map(long), Some(u64::MAX));
        let slot = event.to_slot();
        assert!(slot.len() <= SLOT, "{}", slot.len());
        let kept = Event::of_slot(&slot).unwrap();
        assert_eq!((&kept.domain, kept.details.len(), kept.said), (&name, 5, Some(u64::MAX)));
    }

    proptest! {
        #[test]
        fn a_slot_is_read_whole_or_not_at_all(
            text in ".{0,40}",
            number in any::<i64>(),
            said in any::<Option<u64>>(),
            (at, byte) in (0..200usize, any::<u8>()),
        ) {
            let details = [("reason", Detail::Text(text)), ("offset", Detail::Number(number))];
            let event = event("web", &details, said);
            let mut slot = event.to_slot();
            prop_assert_eq!(Event::of_slot(&slot), Some(event));
            prop_assert_eq!(Event::of_slot(&slot[..slot.len() - 1]), None);
            if at < slot.len() && slot[at] != byte {
                slot[at] = byte;
                prop_assert_eq!(Event::of_slot(&slot), None);
            }
        }
    }
}
