//! The program's log: lines on standard error.
//!
//! In a unit each line begins with its priority, `<4>`, which the journal reads (sd-daemon(3)); elsewhere with
//! the program's name, as users expect of a command. tracing and its subscribers would cost every guest's
//! shim memory for a dozen lines in a guest's life.

use std::fmt::Display;
use std::io::Write;

/// Something failed.
pub(crate) fn error(message: impl Display) {
    line(3, &message);
}

/// Something is not as it should be, and the guest goes on.
pub(crate) fn warning(message: impl Display) {
    line(4, &message);
}

/// Something worth a line in the journal.
pub(crate) fn info(message: impl Display) {
    line(6, &message);
}

fn line(priority: u8, message: &dyn Display) {
    let mut out = std::io::stderr().lock();
    // Nobody is left to tell when standard error cannot be written to; the guest must not suffer from it.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        writeln!(out, "<{priority}>{message}")
    } else {
        writeln!(out, "glassbox-qemu: {message}")
    };
}
