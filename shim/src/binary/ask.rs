//! Starts a QEMU without a machine and puts the questions of [`QemuBinary::ask`] to it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use qemu::{ProbeError, QemuBinary, Question, Unanswered};
use qmp::{CommandId, Message, Session};
use serde_json::Value;

use crate::sys::{SignalSource, Spawn};

/// How long one answer may take. Most take a millisecond; the first one waits for QEMU's libraries and modules.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is taken: QMP's schema has a quarter of a mebibyte.
const LONGEST_ANSWER: usize = 8 << 20;

/// Why a binary has not told what it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It cannot be run.
    #[error("it cannot be run: {0}")]
    NotRun(#[from] io::Error),
    /// It says nothing that can be understood.
    #[error(transparent)]
    NotAnswered(#[from] ProbeError),
}

/// Asks the binary.
///
/// # Errors
/// When it cannot be started, or says nothing that can be understood.
pub(super) fn ask(program: &str, kvm: bool) -> Result<QemuBinary, AskError> {
    let words = memfd_create("qemu-words", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
    let mut qemu = Asked::start(program, kvm, &words)?;
    let mut ask = |question: &Question| qemu.command(question.command, question.arguments.clone());
    QemuBinary::ask(&mut ask).map_err(|error| {
        repeat(words);
        error.into()
    })
}

/// Says what QEMU said. One that answers has warnings at most, and they come again when it has a guest.
fn repeat(words: OwnedFd) {
    let mut words = File::from(words);
    // When they cannot be read or told, the error that follows still is.
    let _ = words.rewind().and_then(|()| io::copy(&mut words, &mut io::stderr()));
}

/// A QEMU that is asked. It is ended when this is dropped.
struct Asked {
    process: Pid,
    monitor: UnixStream,
    session: Session,
}

impl Asked {
    fn start(program: &str, kvm: bool, words: &OwnedFd) -> io::Result<Self> {
        let (monitor, theirs) = UnixStream::pair()?;
        monitor.set_read_timeout(Some(PATIENCE))?;
        // The signals of this process stay as they are.
        let signals = SignalSource::block(&[])?;
        let spawn = Spawn {
            program,
            arguments: &qemu::probe_arguments(kvm),
            environment: &[],
            stderr: Some(words),
            fds: vec![theirs.into()],
            signals: &signals,
        };
        let process = spawn.start()?;
        Ok(Self { process, monitor, session: Session::new(LONGEST_ANSWER) })
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<Value, Unanswered> {
        let lost = |error: &dyn std::fmt::Display| Unanswered::Lost(format!("QMP: {error}"));
        let id = self.session.execute(name, arguments);
        self.monitor.write_all(self.session.output()).map_err(|error| lost(&error))?;
        self.session.sent(self.session.output().len());
        self.answer(id)
    }

    fn answer(&mut self, wanted: CommandId) -> Result<Value, Unanswered> {
        let lost = |error: &dyn std::fmt::Display| Unanswered::Lost(format!("QMP: {error}"));
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.session.next_message().map_err(|error| lost(&error))? {
                Some(Message::Reply { id, result }) if id == wanted => {
                    return result.map_err(|error| Unanswered::Refused(error.to_string()));
                }
                Some(Message::Reply { .. } | Message::Greeting(_) | Message::Event(_)) => continue,
                None => {}
            }
            match self.monitor.read(&mut buffer).map_err(|error| lost(&error))? {
                0 => return Err(lost(&"QEMU ended before it answered")),
                count => self.session.receive(&buffer[..count]),
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // It holds nothing: no disk, no guest. If it is gone already, it is only waited for.
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = waitpid(self.process, None);
    }
}
