//! The daemon's log: one line per event on stderr.
//!
//! When stderr is the journal (`$JOURNAL_STREAM`, systemd.exec(5)) each line begins with its level as
//! `<N>` (sd-daemon(3)), so that `journalctl -p` works; otherwise with the level's name. A subscriber of our own
//! costs a hundred lines; the usual ones cost more memory than all claims of a big host.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::linux::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Sends all events up to `finest` to stderr.
pub(crate) fn start(finest: Level) {
    let log = Log { finest, prefix: Prefix::of_stderr(), spans: AtomicU64::new(1) };
    tracing::subscriber::set_global_default(log).expect("the log is started once, first of all");
}

#[derive(Debug)]
struct Log {
    finest: Level,
    prefix: Prefix,
    spans: AtomicU64,
}

/// How a line tells its level.
#[derive(Debug, Clone, Copy)]
enum Prefix {
    /// `<6>`, for the journal.
    Number,
    /// `info: `, for people.
    Name,
}

impl Prefix {
    fn of_stderr() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = std::fs::metadata("/proc/self/fd/2");
        match stderr {
            Ok(file) if format!("{}:{}", file.st_dev(), file.st_ino()) == stream => Self::Number,
            _ => Self::Name,
        }
    }

    fn text(self, level: Level) -> &'static str {
        let (number, name) = match level {
            Level::ERROR => ("<3>", "error: "),
            Level::WARN => ("<4>", "warning: "),
            Level::INFO => ("<6>", "info: "),
            Level::DEBUG | Level::TRACE => ("<7>", "debug: "),
        };
        match self {
            Self::Number => number,
            Self::Name => name,
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.finest
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(self.prefix.text(*event.metadata().level()).to_owned());
        event.record(&mut line);
        // A line must stay one line, or a guest's name could forge another.
        let mut line = line.0.replace(['\n', '\r'], " ");
        line.push('\n');
        // There is nowhere to report a broken log to.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A line in the making: the message, then any other field as `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_numbers_of_syslog() {
        for (level, number, name) in [
            (Level::ERROR, "<3>", "error: "),
            (Level::WARN, "<4>", "warning: "),
            (Level::INFO, "<6>", "info: "),
            (Level::DEBUG, "<7>", "debug: "),
        ] {
            assert_eq!(Prefix::Number.text(level), number);
            assert_eq!(Prefix::Name.text(level), name);
        }
    }
}
