//! A command in a container or a VM: as whom, with which input, for how long.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroups;
use crate::process::{Output, exit_status};
use crate::vm::Ports;

/// Numbers the files that hold a command's input and output, for tests may run commands from several threads.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A command that will run in a container or a VM, made by [`crate::Host::command`].
///
/// It runs in all namespaces of the container and in the control group of its PID 1, `init.scope`: start what must
/// stay, or what must be in a unit of its own, with `systemd-run`.
#[derive(Debug, Clone)]
pub struct Run {
    way: Way,
    words: Vec<OsString>,
    user: Option<String>,
    input: Vec<u8>,
    limit: Duration,
}

/// How a command gets to where it runs.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Into the namespaces of a container's PID 1, with files for input and output in a directory of this machine.
    Container { leader: u32, scratch: PathBuf },
    /// Through the ports of a VM.
    Vm(Arc<Ports>),
}

impl Run {
    pub(crate) fn new<I, S>(way: Way, words: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let limit = Duration::from_secs(60);
        Self { way, words, user: None, input: Vec::new(), limit }
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
        match &self.way {
            Way::Container { leader, scratch } => self.in_container(*leader, scratch),
            Way::Vm(ports) => self.in_vm(ports),
        }
    }

    /// The command's words in one line, for messages.
    fn shown(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    fn in_vm(&self, ports: &Ports) -> Result<Output> {
        let mut script = b"exec".to_vec();
        for word in self.limited() {
            // Quoted for the shell: all is literal between single quotes, and one of them is put outside.
            let quoted = word.as_bytes().to_vec();
            let quoted = String::from_utf8(quoted)?.replace('\'', "'\\''");
            script.extend(format!(" '{quoted}'").into_bytes());
        }
        let answer = ports.run(&script, &self.input, self.limit)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output {
            command: self.shown(),
            status: answer.status,
            stdout: text(&answer.stdout),
            stderr: text(&answer.stderr),
        })
    }

    fn in_container(&self, leader: u32, scratch: &Path) -> Result<Output> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let [input, stdout, stderr] =
            ["in", "out", "err"].map(|kind| scratch.join(format!("{kind}-{number}")));
        fs::write(&input, &self.input)?;
        // Files, not pipes: a daemon that the command leaves behind would keep a pipe open for ever.
        let status = self
            .enter(leader)
            .args(self.limited())
            .stdin(File::open(&input)?)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .status()
            .context("/bin/sh cannot be started")?;
        let output = Output {
            command: self.shown(),
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
        let Way::Container { leader, .. } = &self.way else {
            bail!("a VM of the test host has no terminal to give; run a command by its words");
        };
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        let status = self
            .enter(*leader)
            .arg(format!("TERM={terminal}"))
            .args(&self.words)
            .status()
            .context("/bin/sh cannot be started")?;
        Ok(exit_status(status))
    }

    /// The words with the limit of time, which is kept inside, where killing reaches all that the command started.
    fn limited(&self) -> Vec<OsString> {
        let limit = self.limit.as_secs_f64().to_string();
        let mut words = vec!["timeout".to_owned(), "--kill-after=5".to_owned(), limit];
        if let Some(user) = &self.user {
            let as_user = ["runuser", "-u", user, "--", "/bin/sh", "-c", AS_USER, "sh"];
            words.extend(as_user.map(str::to_owned));
        }
        words.into_iter().map(OsString::from).chain(self.words.iter().cloned()).collect()
    }

    fn enter(&self, leader: u32) -> Command {
        // A process outside the container's groups is one that logind and machined cannot place.
        let script = format!("{} exec nsenter \"$@\"", cgroups::ENTER);
        let groups = cgroups::of_process(&leader.to_string()).unwrap_or_default();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).args(groups).arg("--");
        command.args(["--target", &leader.to_string(), "--all", "--root", "--wd", "--"]);
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
