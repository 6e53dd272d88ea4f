//! Keeps what strangers can cause again and again from filling the log: of lines about one thing some are written in a
//! while, and the next one tells how many were left out.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many lines are written in [`WHILE`].
const MOST: u32 = 10;

/// The while.
const WHILE: Duration = Duration::from_secs(30);

/// Counts the lines about one thing.
#[derive(Debug, Default)]
pub(crate) struct Sparing(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

/// How many lines were left out before this one; it is the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl LeftOut {
    /// For a line that is always written.
    pub(crate) const NONE: Self = Self(0);
}

impl Sparing {
    /// What to write at the end of a line about it; none when it is to be left out.
    pub(crate) fn line(&self) -> Option<LeftOut> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if count.began.is_none_or(|began| now.duration_since(began) >= WHILE) {
            count.began = Some(now);
            count.written = 0;
        }
        if count.written == MOST {
            count.left_out += 1;
            return None;
        }
        count.written += 1;
        Some(LeftOut(std::mem::take(&mut count.left_out)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} such lines were left out)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_are_written_in_a_while_and_the_others_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            let sparing = Sparing::default();
            let lines = |times: u32| (0..times).filter_map(|_| sparing.line()).collect::<Vec<_>>();
            assert_eq!(lines(1000), vec![LeftOut(0); 10]);
            tokio::time::advance(WHILE).await;
            assert_eq!(lines(3), [LeftOut(990), LeftOut(0), LeftOut(0)]);
            assert_eq!(LeftOut(990).to_string(), " (990 such lines were left out)");
            assert_eq!(LeftOut(0).to_string(), "");
        });
    }
}
