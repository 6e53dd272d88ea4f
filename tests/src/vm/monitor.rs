//! QEMU's monitor of a VM of the test host: just enough of QMP to save and restore one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long QEMU may take for one answer, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection to QEMU's monitor that is past its greeting.
#[derive(Debug)]
pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket; QEMU must have made it.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.execute(r#"{"execute": "qmp_capabilities"}"#)?;
        Ok(monitor)
    }

    /// Sends a command, one line of JSON; gives the line that answers it.
    pub(crate) fn execute(&mut self, command: &str) -> Result<String> {
        writeln!(self.0.get_mut(), "{command}")?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "QEMU closed its monitor after {command}");
            if line.starts_with("{\"error\"") {
                bail!("QEMU refuses {command}: {line}");
            }
            if line.starts_with("{\"return\"") {
                return Ok(line);
            }
        }
    }

    /// Repeats a command until its answer has `text`.
    pub(crate) fn wait(&mut self, command: &str, text: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = self.execute(command)?;
            if answer.contains(text) {
                return Ok(());
            }
            if answer.contains("\"failed\"") || started.elapsed() > LIMIT {
                bail!("{command}: still no {text}: {answer}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
