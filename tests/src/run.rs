//! A command in a container: as whom, with which input, for how long.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroups;
use crate::process::{Output, exit_status};

/// Numbers the files that hold a command's input and output, for tests may run commands from several threads.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A command that will run in a container, made by [`crate::Host::command`].
///
/// It runs in all namespaces of the container and in the control group of its PID 1, `init.scope`: start what must
/// stay, or what must be in a unit of its own, with `systemd-run`.
#[derive(Debug, Clone)]
pub struct Run {
    leader: u32,
    scratch: PathBuf,
    words: Vec<OsString>,
    user: Option<String>,
    input: Vec<u8>,
    limit: Duration,
}

impl Run {
    pub(crate) fn new<I, S>(leader: u32, scratch: PathBuf, words: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let limit = Duration::from_secs(60);
        Self { leader, scratch, words, user: None, input: Vec::new(), limit }
    }

    /// Runs as this user, with the environment by which `systemctl --user` finds the user's manager.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        self
    }

    /// Gives the command this standard input instead of none.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Ends the command after this time instead of a minute; the status is then 124.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end. A status other than 0 is no error here, see [`Output::success`].
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn output(self) -> Result<Output> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let [input, stdout, stderr] =
            ["in", "out", "err"].map(|kind| self.scratch.join(format!("{kind}-{number}")));
        fs::write(&input, &self.input)?;
        // Files, not pipes: a daemon that the command leaves behind would keep a pipe open for ever.
        let status = self
            .nsenter()
            .stdin(File::open(&input)?)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .status()
            .context("/bin/sh cannot be started")?;
        let output = Output {
            command: self
                .words
                .iter()
                .map(|word| word.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
            status: exit_status(status),
            stdout: String::from_utf8_lossy(&fs::read(&stdout)?).into_owned(),
            stderr: String::from_utf8_lossy(&fs::read(&stderr)?).into_owned(),
        };
        for file in [input, stdout, stderr] {
            fs::remove_file(file)?;
        }
        Ok(output)
    }

    /// Runs the command on this process's own terminal, without a limit of time; for people.
    ///
    /// # Errors
    ///
    /// When /bin/sh cannot be started.
    pub fn interactive(&self) -> Result<i32> {
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        let status = self
            .enter()
            .arg(format!("TERM={terminal}"))
            .args(&self.words)
            .status()
            .context("/bin/sh cannot be started")?;
        Ok(exit_status(status))
    }

    fn nsenter(&self) -> Command {
        let mut command = self.enter();
        // The limit is kept inside the container, where killing reaches all that the command started.
        command.args(["timeout", "--kill-after=5"]).arg(format!("{}", self.limit.as_secs_f64()));
        if let Some(user) = &self.user {
            command.args(["runuser", "-u", user, "--", "/bin/sh", "-c", AS_USER, "sh"]);
        }
        command.args(&self.words);
        command
    }

    fn enter(&self) -> Command {
        // A process outside the container's groups is one that logind and machined cannot place.
        let script = format!("{} exec nsenter \"$@\"", cgroups::ENTER);
        let groups = cgroups::of_process(&self.leader.to_string()).unwrap_or_default();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).args(groups).arg("--");
        command.args(["--target", &self.leader.to_string(), "--all", "--root", "--wd", "--"]);
        command.args([
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]);
        command.args([
            "HOME=/root",
            "LANG=C.UTF-8",
            "TERM=dumb",
            "SYSTEMD_COLORS=0",
            "SYSTEMD_PAGER=",
        ]);
        command.stdin(Stdio::inherit());
        command
    }
}

/// The environment of a login session, for a user whose manager runs.
const AS_USER: &str = "\
export HOME=\"$(getent passwd \"$(id -u)\" | cut -d: -f6)\"; cd
export XDG_RUNTIME_DIR=\"/run/user/$(id -u)\"
export DBUS_SESSION_BUS_ADDRESS=\"unix:path=$XDG_RUNTIME_DIR/bus\"
exec \"$@\"";
