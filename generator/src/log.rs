//! Messages of a program that runs before any log does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process;

use domain::Fault;

use crate::environment::Scope;

/// The device number of /dev/null, character device 1:3 (`Documentation/admin-guide/devices.txt` of Linux).
const NULL_DEVICE: u64 = 0x103;

/// The kernel refuses records of more than 1024 bytes, 976 in older versions (`LOG_LINE_MAX` in `printk.c`);
/// this leaves room for what stands before the message.
const LONGEST_KERNEL_MESSAGE: usize = 900;

/// Where messages go: one line each, with its severity in front as sd-daemon(3) has it.
///
/// PID 1 gives its generators /dev/null for stderr and expects them to use the kernel's log
/// (systemd.generator(7)); a user's manager gives them the journal. So the kernel's log it is when stderr
/// leads nowhere, and stderr in all other cases, a terminal's among them.
#[derive(Debug)]
pub(crate) struct Log {
    scope: Scope,
    sink: Option<Sink>,
    errors: bool,
}

#[derive(Debug)]
enum Sink {
    Kernel(File),
    Stderr,
    /// Standard error with a person before it, without priorities.
    Terminal,
}

/// How bad it is, with the number that syslog(3) gives it.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// Something that was asked for will not work.
    Error = 3,
    /// Something is left out or looks like a mistake.
    Warning = 4,
}

impl Log {
    /// A log of which nothing is opened before the first message.
    pub(crate) fn new(scope: Scope) -> Self {
        Self { scope, sink: None, errors: false }
    }

    /// A log for the person who called the program by hand.
    pub(crate) fn for_people(scope: Scope) -> Self {
        Self { scope, sink: Some(Sink::Terminal), errors: false }
    }

    /// Whether something was said that keeps a guest from starting.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors
    }

    /// What is wrong in the text of a definition; returns the line.
    pub(crate) fn fault(&mut self, file: &Path, fault: &Fault) -> String {
        self.line(Level::Error, &fault.in_file(&file.to_string_lossy()))
    }

    /// What of a definition is left out.
    pub(crate) fn left_out(&mut self, file: &Path, fault: &Fault) {
        self.line(Level::Warning, &fault.in_file(&file.to_string_lossy()));
    }

    /// What is wrong with a file or directory, so that a guest or more will not start; returns the line.
    pub(crate) fn error(&mut self, file: &Path, what: &str) -> String {
        self.line(Level::Error, &format!("{}: {what}", file.display()))
    }

    /// What is odd about a file.
    pub(crate) fn warning(&mut self, file: &Path, what: &str) {
        self.line(Level::Warning, &format!("{}: {what}", file.display()));
    }

    /// Text for the person who called the program by hand, on stderr.
    pub(crate) fn plain(&self, text: &str) {
        // When stderr is closed there is nobody left to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn line(&mut self, level: Level, message: &str) -> String {
        self.errors |= matches!(level, Level::Error);
        let message = one_line(message);
        let scope = self.scope;
        // A message that can't be written is lost: there is no third place, and units matter more.
        let _ = match self.sink.get_or_insert_with(|| Sink::choose(scope)) {
            Sink::Kernel(kernel) => kernel.write_all(kernel_record(level, &message).as_bytes()),
            Sink::Stderr => {
                io::stderr().write_all(format!("<{}>{message}\n", level as u8).as_bytes())
            }
            Sink::Terminal => writeln!(io::stderr(), "{message}"),
        };
        message
    }
}

impl Sink {
    fn choose(scope: Scope) -> Self {
        if scope == Scope::System
            && stderr_leads_nowhere()
            && let Ok(kernel) = OpenOptions::new().write(true).open("/dev/kmsg")
        {
            return Self::Kernel(kernel);
        }
        Self::Stderr
    }
}

fn stderr_leads_nowhere() -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    match stderr.and_then(|stderr| stderr.metadata()) {
        Ok(metadata) => metadata.file_type().is_char_device() && metadata.rdev() == NULL_DEVICE,
        Err(_) => true,
    }
}

/// A record as the journal reads it from the kernel: priority with the facility of daemons, program, PID.
fn kernel_record(level: Level, message: &str) -> String {
    const DAEMON: u8 = 3 << 3;
    let ends = message.char_indices().map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|end| *end <= LONGEST_KERNEL_MESSAGE).last().unwrap_or(0);
    let message = &message[..end];
    format!("<{}>glassbox-generator[{}]: {message}", DAEMON | level as u8, process::id())
}

/// The message with control characters written out, so that no file's name or text can forge a line.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for character in message.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("a\n<0>b\u{1b}[2Jü"), "a\\n<0>b\\u{1b}[2Jü");
    }

    #[test]
    fn kernel_records_name_facility_program_and_process() {
        let expected = format!("<27>glassbox-generator[{}]: x", process::id());
        assert_eq!(kernel_record(Level::Error, "x"), expected);
        assert_eq!(
            kernel_record(Level::Error, &format!("x{}", "ü".repeat(999))).matches('ü').count(),
            449
        );
    }
}
