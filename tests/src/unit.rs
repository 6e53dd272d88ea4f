//! What systemd and machined say of a guest's unit, asked with their own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Output;
use crate::{Host, definition};

/// Time for a thing that takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where stand-ins for QEMU write what they did.
pub const STAND_IN_FOLDER: &str = "/run/stand-in";

/// A unit of a container's system manager.
#[derive(Debug, Clone)]
pub struct Unit<'h> {
    host: &'h Host,
    name: String,
}

impl Host {
    /// The unit `name`, whether systemd knows it or not.
    #[must_use]
    pub fn unit(&self, name: &str) -> Unit<'_> {
        Unit { host: self, name: name.to_owned() }
    }

    /// Runs `systemctl` with these words; a failure is told by the status.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn systemctl<'w>(&self, words: impl IntoIterator<Item = &'w str>) -> Result<Output> {
        self.run(["systemctl"].into_iter().chain(words))
    }

    /// Has systemd run the generators and read all units anew.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn reload(&self) -> Result<()> {
        self.systemctl(["daemon-reload"])?.success().map(|_| ())
    }

    /// Starts the guest's unit, `qemu@NAME.service` for a name that needs no escape.
    ///
    /// # Errors
    ///
    /// When it doesn't start: what systemctl says, and the unit's journal.
    pub fn start_guest(&self, name: &str) -> Result<Unit<'_>> {
        let unit = self.unit(&format!("qemu@{name}.service"));
        let started = self.systemctl(["start", &unit.name])?;
        if started.status != 0 {
            started.success().with_context(|| unit.journal().unwrap_or_default())?;
        }
        Ok(unit)
    }

    /// Lets a stand-in for QEMU out of its guest's sandbox to [`STAND_IN_FOLDER`], with these other lines for the unit.
    ///
    /// # Errors
    ///
    /// When the drop-in cannot be written.
    pub fn let_out(&self, name: &str, lines: &str) -> Result<()> {
        self.sh(&format!("install -d -m 0777 {STAND_IN_FOLDER}"))?;
        self.write_file(
            &format!("/etc/systemd/system/qemu@{name}.service.d/stand-in.conf"),
            format!("[Service]\nBindPaths={STAND_IN_FOLDER}\n{lines}"),
        )
    }

    /// What the guest said on its serial console since it was started; nothing before that.
    #[must_use]
    pub fn console(&self, name: &str) -> String {
        self.read(&definition::log(name)).unwrap_or_default()
    }

    /// Waits until the guest has said `text` on its serial console `count` times.
    ///
    /// # Errors
    ///
    /// When it doesn't in time: what it said instead.
    pub fn wait_for_console(&self, name: &str, text: &str, count: usize) -> Result<()> {
        let said = || self.console(name).matches(text).count() >= count;
        self.wait_for(&format!("{text} of {name}"), PATIENCE, said)
            .with_context(|| format!("the console of {name}:\n{}", self.console(name)))
    }

    /// What QEMU answers to a QMP command without arguments on the management daemon's monitor of a guest.
    ///
    /// # Errors
    ///
    /// When QEMU doesn't answer within a few seconds.
    pub fn qmp(&self, name: &str, command: &str) -> Result<String> {
        let [negotiate, ask] =
            ["qmp_capabilities", command].map(|word| format!("{{\"execute\": \"{word}\"}}\n"));
        // socat stays for a second after the end of its input, which is more than QEMU needs.
        let socket = format!("UNIX-CONNECT:/run/glassbox/guest/{name}/monitor");
        let asked = self.command(["socat", "-t", "1", "-", &socket]).input(negotiate + &ask);
        let said = asked.limit(Duration::from_secs(10)).output()?.success()?.stdout;
        let mut answers = said.lines().filter(|line| line.starts_with("{\"return\""));
        Ok(answers.nth(1).with_context(|| format!("no answer to {command} in\n{said}"))?.to_owned())
    }

    /// Name, class and service of the machines that `machinectl list` shows.
    ///
    /// # Errors
    ///
    /// When machined doesn't answer.
    pub fn machines(&self) -> Result<BTreeSet<[String; 3]>> {
        let list = self.run(["machinectl", "list", "--no-legend", "--no-pager"])?.success()?;
        let machine = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            std::array::from_fn(|_| words.next().unwrap_or_default())
        };
        Ok(list.stdout.lines().map(machine).collect())
    }

    /// Waits until machined knows of no machine; it hears of a guest's end a moment after systemd.
    ///
    /// # Errors
    ///
    /// When it still does after a second's time on an idle machine.
    pub fn wait_for_no_machine(&self) -> Result<()> {
        self.wait_for("machined to forget its machines", Duration::from_secs(5), || {
            self.machines().is_ok_and(|machines| machines.is_empty())
        })
    }

    /// The properties that `machinectl show` has of a machine.
    ///
    /// # Errors
    ///
    /// When there is no such machine.
    pub fn machine(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let shown = self.run(["machinectl", "show", "--no-pager", "--", name])?.success()?.stdout;
        let pairs = shown.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// The fields of `/proc/PID/status`, proc_pid_status(5).
    ///
    /// # Errors
    ///
    /// When there is no such process in the container.
    pub fn process(&self, pid: u32) -> Result<BTreeMap<String, String>> {
        let status = self.read(&format!("/proc/{pid}/status"))?;
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    /// The words of a process's command line.
    ///
    /// # Errors
    ///
    /// When there is no such process in the container.
    pub fn command_line(&self, pid: u32) -> Result<Vec<String>> {
        let words = self.read(&format!("/proc/{pid}/cmdline"))?;
        Ok(words.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
    }
}

impl Unit<'_> {
    /// The unit's full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The values of properties, in the order in which they are asked for.
    ///
    /// # Errors
    ///
    /// When systemd has no such property.
    pub fn show<const N: usize>(&self, keys: [&str; N]) -> Result<[String; N]> {
        let wanted = format!("--property={}", keys.join(","));
        let shown = self.host.systemctl(["show", &wanted, "--", &self.name])?.success()?.stdout;
        let pairs: BTreeMap<&str, &str> =
            shown.lines().filter_map(|line| line.split_once('=')).collect();
        for key in keys {
            ensure!(pairs.contains_key(key), "{}: systemd has no property {key}", self.name);
        }
        Ok(keys.map(|key| pairs[key].to_owned()))
    }

    /// `ActiveState`: active, activating, inactive, failed and so on.
    ///
    /// # Errors
    ///
    /// As [`Self::show`].
    pub fn state(&self) -> Result<String> {
        self.show(["ActiveState"]).map(|[state]| state)
    }

    /// Waits until the unit has this `ActiveState`.
    ///
    /// # Errors
    ///
    /// When it doesn't come to that in time.
    pub fn wait(&self, state: &str) -> Result<()> {
        self.host.wait_for(&format!("{} to be {state}", self.name), PATIENCE, || {
            self.state().is_ok_and(|now| now == state)
        })
    }

    /// How the unit's last run ended: `Result`, and the exit status of the main process.
    ///
    /// # Errors
    ///
    /// As [`Self::show`].
    pub fn outcome(&self) -> Result<(String, i32)> {
        let [result, status] = self.show(["Result", "ExecMainStatus"])?;
        Ok((result, status.parse().with_context(|| format!("ExecMainStatus={status}"))?))
    }

    /// What `systemctl status` prints of it, with the last lines of its journal.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn status(&self) -> Result<String> {
        Ok(self.host.systemctl(["status", "--no-pager", "--full", "--", &self.name])?.stdout)
    }

    /// The line that the unit's main process gave systemd last, as `systemctl status` prints it.
    ///
    /// # Errors
    ///
    /// When `systemctl status` shows none.
    pub fn status_line(&self) -> Result<String> {
        let status = self.status()?;
        let line = status.lines().find_map(|line| line.trim().strip_prefix("Status: "));
        let line = line.with_context(|| format!("there is no Status: in\n{status}"))?;
        Ok(line.trim_matches('"').to_owned())
    }

    /// The messages of its journal, those of systemd about it included.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn journal(&self) -> Result<String> {
        self.logged(&format!("--unit={}", self.name))
    }

    /// The messages of its own processes.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn messages(&self) -> Result<Vec<String>> {
        let logged = self.logged(&format!("_SYSTEMD_UNIT={}", self.name))?;
        Ok(logged.lines().map(str::to_owned).collect())
    }

    /// When its own processes logged this very message, each time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When the container is gone, or journalctl prints other lines than journalctl(1) tells.
    pub fn said_at(&self, message: &str) -> Result<Vec<f64>> {
        let logged = self.logged_as("short-unix", &format!("_SYSTEMD_UNIT={}", self.name))?;
        let message = format!("]: {message}");
        let said = logged.lines().filter_map(|line| line.strip_suffix(&message));
        said.map(|line| Ok(line.split(' ').next().unwrap_or_default().parse()?)).collect()
    }

    fn logged(&self, by: &str) -> Result<String> {
        self.logged_as("cat", by)
    }

    fn logged_as(&self, format: &str, by: &str) -> Result<String> {
        self.host.run(["journalctl", "--sync", "--quiet"])?.success()?;
        let output = format!("--output={format}");
        let words = ["journalctl", "--no-pager", &output, "--quiet", by];
        Ok(self.host.run(words)?.success()?.stdout)
    }

    /// The shim and QEMU, its child: their process ids in the container.
    ///
    /// # Errors
    ///
    /// When the unit has no main process with one child.
    pub fn processes(&self) -> Result<(u32, u32)> {
        let [shim] = self.show(["MainPID"])?;
        let children = self.host.run(["pgrep", "--parent", &shim])?.stdout;
        let qemu = children.trim().parse();
        let qemu = qemu.with_context(|| format!("the children of {shim} are {children:?}"))?;
        Ok((shim.parse()?, qemu))
    }

    /// The process ids in the unit's control group.
    ///
    /// # Errors
    ///
    /// When the unit has none.
    pub fn members(&self) -> Result<BTreeSet<u32>> {
        let [group] = self.show(["ControlGroup"])?;
        // systemd's own hierarchy, where version 1 and 2 are mixed and where there is only version 2.
        let script = "cat /sys/fs/cgroup/systemd\"$1\"/cgroup.procs 2>/dev/null || cat /sys/fs/cgroup\"$1\"/cgroup.procs";
        let listed = self.host.run(["/bin/sh", "-c", script, "sh", &group])?.success()?.stdout;
        listed.lines().map(|pid| Ok(pid.parse()?)).collect()
    }

    /// Ends QEMU at once without asking the guest, which may not have booted yet, and waits for the unit's end.
    ///
    /// # Errors
    ///
    /// When it doesn't end.
    pub fn quit(&self) -> Result<()> {
        let words = ["kill", "--kill-whom=main", "--signal=QUIT", "--", &self.name];
        self.host.systemctl(words)?.success()?;
        self.wait("inactive")
    }
}
