//! Programs on this machine: run with progress on the terminal, or run for their output.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a long job's last line is shown: often enough to see life, seldom enough to read the rest.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// What a program that has ended left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Exit status; 124 when the time was up, 128 + N when signal N ended it.
    pub status: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// The output itself when the program succeeded.
    ///
    /// # Errors
    ///
    /// When the status isn't 0: the command, the status and all it printed.
    pub fn success(self) -> Result<Self> {
        if self.status == 0 {
            return Ok(self);
        }
        let Self { command, status, stdout, stderr } = &self;
        let fate = if *status == 124 { " (its time was up)" } else { "" };
        bail!("{command}: exit status {status}{fate}\n{stdout}{stderr}");
    }
}

/// Runs a long job, with all its output in the file `log` and a line now and then on standard error.
///
/// # Errors
///
/// When the program cannot be started or fails: the end of its output and where the rest is.
pub fn stream<I, S>(label: &str, log: &Path, command: I) -> Result<()>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    // The shell joins the two streams in the order in which the job wrote them.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .args(command)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{label}: /bin/sh cannot be started"))?;
    let mut log_file = File::options().create(true).append(true).open(log)?;
    let mut last = Vec::new();
    let mut shown = Instant::now();
    let pipe = child.stdout.take().context("the pipe was asked for above")?;
    for line in BufReader::new(pipe).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(log_file, "{line}")?;
        if shown.elapsed() >= PROGRESS_EVERY {
            eprintln!("[{label}] {}", line.trim());
            shown = Instant::now();
        }
        last.push(line);
        last.drain(..last.len().saturating_sub(20));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{label}: {status}; the end of {}:\n{}", log.display(), last.join("\n"));
    }
    Ok(())
}

/// Runs a short program and gives what it printed on standard output.
pub(crate) fn output<I, S>(command: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut words = command.into_iter();
    let program = words.next().context("a command has a program")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    let shown = format!("{command:?}");
    let done = command.output().with_context(|| format!("{shown}: cannot be started"))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{shown}: {}\n{stdout}{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(stdout)
}

/// A program's exit status as a shell counts it: 128 + N when signal N ended it.
pub(crate) fn exit_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
