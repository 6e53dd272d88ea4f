//! Counts of tests, read from what cargo-nextest and cargo test print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed, and were skipped.
///
/// A test that cannot run here says `SKIP name: reason` and returns; its runner takes it for passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that ran and passed.
    pub passed: u64,
    /// Tests that failed, or did not end in time.
    pub failed: u64,
    /// Tests that did not run.
    pub skipped: u64,
}

impl Tally {
    /// What a line of a runner's output adds; nothing for most lines.
    ///
    /// A skip takes back the pass that the runner's summary counts, hence the signs of [`Change`].
    #[must_use]
    pub fn of_line(line: &str) -> Change {
        let line = line.trim();
        if is_skip(line) {
            return Change { passed: -1, failed: 0, skipped: 1 };
        }
        // cargo test: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`
        if let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        {
            return counts.split(';').map(count).sum();
        }
        // nextest: `Summary [ 4.5s] 7 tests run: 6 passed (1 slow), 1 failed, 1 timed out, 4 skipped`
        if let Some(("Summary", rest)) = line.split_once(' ')
            && let Some((_, counts)) = rest.split_once("run: ")
        {
            return without_brackets(counts).split(',').map(count).sum();
        }
        Change::default()
    }
}

/// Whether a line is a test's word that it cannot run here.
#[must_use]
pub fn is_skip(line: &str) -> bool {
    let Some(rest) = line.trim().strip_prefix("SKIP ") else { return false };
    rest.split_once(": ").is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '))
}

/// What is added to a [`Tally`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    passed: i64,
    failed: i64,
    skipped: i64,
}

impl std::iter::Sum for Change {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            passed: sum.passed + next.passed,
            failed: sum.failed + next.failed,
            skipped: sum.skipped + next.skipped,
        })
    }
}

impl AddAssign<Change> for Tally {
    fn add_assign(&mut self, change: Change) {
        // The skips of a runner come before its summary, so `passed` may be owed for a while.
        self.passed = self.passed.wrapping_add_signed(change.passed);
        self.failed = self.failed.wrapping_add_signed(change.failed);
        self.skipped = self.skipped.wrapping_add_signed(change.skipped);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// One item such as `3 passed`, `1 timed out` or `0 filtered out`.
fn count(item: &str) -> Change {
    let Some((number, word)) = item.trim().split_once(' ') else { return Change::default() };
    let number = number.parse().unwrap_or(0);
    match word.trim() {
        "passed" => Change { passed: number, ..Change::default() },
        "failed" | "timed out" | "exec failed" => Change { failed: number, ..Change::default() },
        "ignored" | "skipped" => Change { skipped: number, ..Change::default() },
        _ => Change::default(),
    }
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|character| {
            depth = match character {
                '(' => depth + 1,
                ')' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0 && *character != ')'
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_runners_are_counted() {
        let cases = [
            (
                "Summary [   4.594s] 7 tests run: 7 passed, 4 skipped",
                "7 passed, 0 failed, 4 skipped",
            ),
            (
                "     Summary [ 1.0s] 9/12 tests run: 6 passed (1 slow, 1 flaky), 1 failed, 2 timed out, 0 skipped",
                "6 passed, 3 failed, 0 skipped",
            ),
            (
                "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.00s",
                "3 passed, 1 failed, 2 skipped",
            ),
            ("test a_test ... ok", "0 passed, 0 failed, 0 skipped"),
            ("SKIP is a word", "0 passed, 0 failed, 0 skipped"),
        ];
        for (line, expected) in cases {
            let mut tally = Tally::default();
            tally += Tally::of_line(line);
            assert_eq!(tally.to_string(), expected, "{line}");
        }
    }

    #[test]
    fn a_skip_takes_back_its_pass() {
        let mut tally = Tally::default();
        for line in ["    SKIP a_test: not root", "Summary [ 1s] 2 tests run: 2 passed, 0 skipped"]
        {
            tally += Tally::of_line(line);
        }
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
    }
}
