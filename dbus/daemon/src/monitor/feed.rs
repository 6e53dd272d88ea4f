//! What one QEMU tells, word for word, for those who follow its guest.
//!
//! Nothing is kept for anybody who comes later, and nobody is waited for: whoever is too slow learns so, and has missed
//! something. D-Bus has the events of all guests, with numbers by which to ask for what was missed.

use std::sync::Mutex;

use qmp::Event;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::lock;

/// How many events are kept for the slowest. QEMU's socket is read by 4096 bytes at once, which have fewer.
const KEPT: usize = 256;

/// The longest data of an event that is passed on, in bytes; QEMU's own have some hundred. It is the guest's, and not
/// trusted.
const LONGEST_DATA: usize = 4096;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its name, such as `SHUTDOWN`.
    pub(crate) name: String,
    /// The event as systemd writes it, JSON.
    pub(crate) text: String,
}

/// Passes on what QEMU tells. It takes memory only while somebody follows: most guests have nobody.
#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Option<Sender<Said>>>);

/// Follows what QEMU tells.
#[derive(Debug)]
pub(crate) struct Following(Receiver<Said>);

impl Feed {
    /// Follows from now on.
    pub(super) fn follow(&self) -> Following {
        let mut sender = lock(&self.0);
        Following(sender.get_or_insert_with(|| broadcast::channel(KEPT).0).subscribe())
    }

    /// QEMU told this.
    pub(super) fn said(&self, event: &Event) {
        let mut sender = lock(&self.0);
        let Some(feed) = &*sender else { return };
        let said = Said { name: event.name.clone(), text: written(event) };
        if feed.send(said).is_err() {
            // All who followed are gone.
            *sender = None;
        }
    }
}

impl Following {
    /// The next event; none when some were missed, or when there is nothing to follow any more.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        self.0.recv().await.ok()
    }
}

/// An event, without data that would be too long.
fn written(event: &Event) -> String {
    let data = Some(&event.data).filter(|data| data.to_string().len() <= LONGEST_DATA);
    match data {
        None | Some(Value::Null) => json!({ "event": event.name }).to_string(),
        Some(data) => json!({ "event": event.name, "data": data }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: Value) -> Event {
        Event { name: name.to_owned(), data, time: None }
    }

    #[test]
    fn events_are_passed_on_to_all_who_follow() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let feed = Feed::default();
            feed.said(&event("EARLY", Value::Null));
            let mut all = [feed.follow(), feed.follow()];
            feed.said(&event("STOP", Value::Null));
            feed.said(&event("RESET", json!({ "guest": true })));
            feed.said(&event("LONG", json!({ "text": "x".repeat(LONGEST_DATA) })));
            for following in &mut all {
                for text in [
                    r#"{"event":"STOP"}"#,
                    r#"{"data":{"guest":true},"event":"RESET"}"#,
                    r#"{"event":"LONG"}"#,
                ] {
                    assert_eq!(following.next().await.unwrap().text, text);
                }
            }
            drop(feed);
            assert_eq!(all[0].next().await, None);
        });
    }

    #[test]
    fn whoever_is_too_slow_learns_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let feed = Feed::default();
            let mut slow = feed.follow();
            (0..=KEPT).for_each(|_| feed.said(&event("STOP", Value::Null)));
            assert_eq!(slow.next().await, None);
        });
    }
}
