//! What state a guest is in, by what QEMU says. Pure.
//!
//! States and reasons have libvirt's words (`virDomainState` and the `virDomain*Reason` enumerations of
//! libvirt-domain.h), in lower case and without prefix.
//!
//! ```text
//!              RESUME                     SHUTDOWN
//!   paused <-------------> running ------------------> shutdown (and stays so, whatever stops)
//!              STOP           |  \---- SUSPEND / WAKEUP ----> pmsuspended
//!                             +------- GUEST_PANICKED ------> crashed
//! ```
//!
//! QEMU says why it is going to stop a guest in an event before `STOP`; the reason is kept until then.

use serde_json::Value;

/// The state of a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// QEMU has not said yet.
    #[default]
    Unknown,
    /// Its CPUs run.
    Running(WhyRunning),
    /// Its CPUs stand.
    Paused(WhyPaused),
    /// It shut down, and QEMU is about to end.
    Shutdown,
    /// It panicked.
    Crashed,
    /// It suspended itself to memory.
    Suspended,
    /// It has no process.
    Shutoff,
}

/// Why a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyRunning {
    /// It was so when the daemon came to know it.
    Unknown,
    /// It was started.
    Booted,
    /// Somebody resumed it.
    Unpaused,
    /// It woke up from its own suspension.
    Wakeup,
    /// It came from another host.
    Migrated,
}

/// Why a guest does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyPaused {
    /// QEMU is there, and its CPUs have never run.
    StartingUp,
    /// Somebody suspended it.
    User,
    /// A disk could not be read or written.
    IoError,
    /// Its watchdog ran out.
    Watchdog,
    /// It is on its way from or to another host.
    Migration,
    /// Its memory is being saved or restored.
    Snapshot,
    /// QEMU found a fault of its own, or a debugger holds it.
    Unknown,
}

impl State {
    /// The word of the state: `running`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "nostate",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Shutdown => "shutdown",
            Self::Crashed => "crashed",
            Self::Suspended => "pmsuspended",
            Self::Shutoff => "shutoff",
        }
    }

    /// The word of the reason: `booted`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Running(why) => match why {
                WhyRunning::Unknown => "unknown",
                WhyRunning::Booted => "booted",
                WhyRunning::Unpaused => "unpaused",
                WhyRunning::Wakeup => "wakeup",
                WhyRunning::Migrated => "migrated",
            },
            Self::Paused(why) => match why {
                WhyPaused::StartingUp => "starting-up",
                WhyPaused::User => "user",
                WhyPaused::IoError => "ioerror",
                WhyPaused::Watchdog => "watchdog",
                WhyPaused::Migration => "migration",
                WhyPaused::Snapshot => "snapshot",
                WhyPaused::Unknown => "unknown",
            },
            Self::Crashed => "panicked",
            Self::Unknown | Self::Shutdown | Self::Suspended | Self::Shutoff => "unknown",
        }
    }
}

/// A guest's state, and what QEMU said of the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Life {
    state: State,
    announced: Option<WhyPaused>,
}

impl Life {
    /// The state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// QEMU greeted: it was just started, and has not run its guest's CPUs yet.
    pub(crate) fn on_greeting(&mut self) {
        if self.state == State::Unknown {
            self.state = State::Paused(WhyPaused::StartingUp);
        }
    }

    /// Takes in an event of QEMU's; what says nothing of the state changes nothing.
    pub(crate) fn on_event(&mut self, name: &str, data: &Value) {
        let says =
            |member: &str, word: &str| data.get(member).and_then(Value::as_str) == Some(word);
        match name {
            "BLOCK_IO_ERROR" if says("action", "stop") => self.announced = Some(WhyPaused::IoError),
            "WATCHDOG" if says("action", "pause") => self.announced = Some(WhyPaused::Watchdog),
            "STOP" => self.stop(),
            "RESUME" => self.resume(),
            "SHUTDOWN" => self.state = State::Shutdown,
            "GUEST_PANICKED" => self.state = State::Crashed,
            "SUSPEND" => self.state = State::Suspended,
            "WAKEUP" => self.state = State::Running(WhyRunning::Wakeup),
            // A guest that is started anew in the same QEMU is not shut down any more.
            "RESET" if matches!(self.state, State::Shutdown | State::Crashed) => {
                self.state = State::Paused(WhyPaused::StartingUp);
            }
            _ => {}
        }
    }

    fn stop(&mut self) {
        let why = self.announced.take().unwrap_or(WhyPaused::User);
        match self.state {
            // The end of a guest stops its CPUs as well, and is more to say.
            State::Shutdown | State::Crashed => {}
            State::Unknown
            | State::Running(_)
            | State::Paused(_)
            | State::Suspended
            | State::Shutoff => {
                self.state = State::Paused(why);
            }
        }
    }

    fn resume(&mut self) {
        self.announced = None;
        self.state = State::Running(match self.state {
            State::Paused(WhyPaused::StartingUp) => WhyRunning::Booted,
            State::Paused(WhyPaused::Migration) => WhyRunning::Migrated,
            State::Unknown
            | State::Running(_)
            | State::Paused(_)
            | State::Shutdown
            | State::Crashed
            | State::Suspended
            | State::Shutoff => WhyRunning::Unpaused,
        });
    }

    /// Takes in the `status` of `query-status` (QEMU's `RunState`).
    ///
    /// It has no reasons for most states; one that is known from an event is kept.
    pub(crate) fn on_status(&mut self, status: &str) {
        let told = match status {
            // Its CPUs began to run before QEMU was ready to tell of it.
            "running" if self.state == State::Paused(WhyPaused::StartingUp) => {
                State::Running(WhyRunning::Booted)
            }
            "running" => State::Running(WhyRunning::Unknown),
            "paused" => State::Paused(WhyPaused::User),
            "prelaunch" => State::Paused(WhyPaused::StartingUp),
            "inmigrate" | "postmigrate" | "finish-migrate" | "colo" => {
                State::Paused(WhyPaused::Migration)
            }
            "save-vm" | "restore-vm" => State::Paused(WhyPaused::Snapshot),
            "io-error" => State::Paused(WhyPaused::IoError),
            "watchdog" => State::Paused(WhyPaused::Watchdog),
            "suspended" => State::Suspended,
            "shutdown" => State::Shutdown,
            "guest-panicked" => State::Crashed,
            _ => State::Paused(WhyPaused::Unknown),
        };
        if told.word() != self.state.word() || matches!(told, State::Paused(_)) {
            self.state = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What QEMU says, in order: a word in lower case is a status, one in upper case an event.
    fn after(said: &[(&str, Value)]) -> (&'static str, &'static str) {
        let mut life = Life::default();
        for (word, data) in said {
            if word.starts_with(|first: char| first.is_ascii_lowercase()) {
                life.on_status(word);
            } else {
                life.on_event(word, data);
            }
        }
        (life.state().word(), life.state().reason())
    }

    #[test]
    fn a_guest_s_life_has_libvirt_s_words() {
        let none = || Value::Null;
        let boot = [("prelaunch", none()), ("RESUME", none())];
        let action = |action: &str| json!({ "action": action });
        for (said, expected) in [
            (vec![], ("running", "booted")),
            (vec![("prelaunch", none()), ("running", none())], ("running", "booted")),
            (vec![("running", none())], ("running", "booted")),
            (vec![("STOP", none())], ("paused", "user")),
            (vec![("STOP", none()), ("RESUME", none())], ("running", "unpaused")),
            (vec![("BLOCK_IO_ERROR", action("report")), ("STOP", none())], ("paused", "user")),
            (vec![("BLOCK_IO_ERROR", action("stop")), ("STOP", none())], ("paused", "ioerror")),
            (vec![("WATCHDOG", action("pause")), ("STOP", none())], ("paused", "watchdog")),
            (vec![("SHUTDOWN", none()), ("STOP", none())], ("shutdown", "unknown")),
            (
                vec![("SHUTDOWN", none()), ("STOP", none()), ("RESET", none()), ("RESUME", none())],
                ("running", "booted"),
            ),
            (vec![("RESET", none())], ("running", "booted")),
            (vec![("GUEST_PANICKED", none()), ("STOP", none())], ("crashed", "panicked")),
            (vec![("SUSPEND", none())], ("pmsuspended", "unknown")),
            (vec![("SUSPEND", none()), ("WAKEUP", none())], ("running", "wakeup")),
            (vec![("RTC_CHANGE", none())], ("running", "booted")),
            (vec![("finish-migrate", none())], ("paused", "migration")),
            (vec![("internal-error", none())], ("paused", "unknown")),
        ] {
            let said = [&boot[..], &said].concat();
            assert_eq!(after(&said), expected, "{said:?}");
        }
    }

    #[test]
    fn the_first_status_is_believed() {
        assert_eq!(after(&[]), ("nostate", "unknown"));
        assert_eq!(after(&[("running", Value::Null)]), ("running", "unknown"));
        assert_eq!(after(&[("inmigrate", Value::Null)]), ("paused", "migration"));
        let mut life = Life::default();
        life.on_greeting();
        life.on_event("RESUME", &Value::Null);
        assert_eq!(life.state().reason(), "booted", "its CPUs ran before anybody asked");
        let came = [("inmigrate", Value::Null), ("RESUME", Value::Null)];
        assert_eq!(after(&came), ("running", "migrated"));
    }
}
