//! A running container or VM, seen by the test that drives it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Root;
use crate::process::Output;
use crate::run::{Run, Way};
use crate::setup::{Setup, nspawn, wait_until_up};
use crate::state::{State, signal};
use crate::vm::Ports;

/// A container, or a VM from [`Self::restore`], with a running systemd. Dropping it kills and removes all of it, unless it is kept for people.
#[derive(Debug)]
pub struct Host {
    root: Root,
    state: State,
    bridge: Option<String>,
    kept: bool,
    nspawn: Option<Child>,
    leader: u32,
    /// How commands get into a VM; none for a container.
    ports: Option<Arc<Ports>>,
}

impl Host {
    /// Boots a container with the product and the guest image, the usual case.
    ///
    /// # Errors
    ///
    /// As [`Setup::product`], [`Setup::guest`] and [`Setup::boot`].
    pub fn boot(root: Root) -> Result<Self> {
        Setup::new(root).product()?.guest()?.boot()
    }

    /// The container that [`Setup::kept`] left running under this name.
    ///
    /// # Errors
    ///
    /// When there is none, or it has ended.
    pub fn attach(name: &str) -> Result<Self> {
        let state = State::open(name)?;
        let Some(leader) = state.processes().first().copied() else {
            bail!("{name}: the container has ended; remove its rest with 'testhost stop {name}'");
        };
        Ok(Self {
            root: state.root()?,
            state,
            bridge: None,
            kept: true,
            nspawn: None,
            leader,
            ports: None,
        })
    }

    /// Shuts down and removes the container of this name, also when it has ended by itself.
    ///
    /// # Errors
    ///
    /// When there is none, or something of it cannot be removed.
    pub fn remove(name: &str) -> Result<()> {
        if let Ok(host) = Self::attach(name) {
            return host.stop();
        }
        State::open(name)?.remove()
    }

    /// Removes what is left of a container of this name, without asking it; that there is none is no error.
    pub(crate) fn clear(name: &str) -> Result<()> {
        State::open(name).map_or(Ok(()), |state| state.kill(None).and_then(|()| state.remove()))
    }

    pub(crate) fn new(root: Root, state: State, bridge: Option<String>) -> Self {
        Self { root, state, bridge, kept: false, nspawn: None, leader: 0, ports: None }
    }

    /// The host that is a VM whose QEMU was just started.
    pub(crate) fn of_vm(root: Root, state: State, qemu: Child, ports: Ports) -> Self {
        let (leader, ports) = (qemu.id(), Some(Arc::new(ports)));
        Self { root, state, bridge: None, kept: false, nspawn: Some(qemu), leader, ports }
    }

    pub(crate) fn keep(&mut self, kept: bool) {
        self.kept = kept;
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let child = self.nspawn.insert(nspawn(self.root, &self.state, self.bridge.as_deref())?);
        self.leader = wait_until_up(&self.state, child)?;
        let failed = self.run(["systemctl", "--failed", "--no-legend", "--plain"])?.stdout;
        if !failed.is_empty() {
            eprintln!("[{}] is up, but these units failed:\n{}", self.name(), failed.trim_end());
        }
        Ok(())
    }

    /// The container's name, which is also its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.state.name()
    }

    /// The release the container stands on.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// Process id of the container's systemd on this machine; of QEMU for a VM.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// A command to run in the container as root, with an empty input and a minute's time unless told otherwise.
    pub fn command<I, S>(&self, words: I) -> Run
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let way = match &self.ports {
            Some(ports) => Way::Vm(Arc::clone(ports)),
            None => Way::Container { leader: self.leader, scratch: self.state.scratch() },
        };
        Run::new(way, words)
    }

    /// Runs a command in the container as root, see [`Self::command`].
    ///
    /// # Errors
    ///
    /// When the container is gone; a command that fails is told by its status.
    pub fn run<I, S>(&self, words: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(words).output()
    }

    /// Runs a shell script in the container as root; any failing command of it is an error.
    ///
    /// # Errors
    ///
    /// When the script fails: all it printed.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(["/bin/sh", "-euc", script])?.success()
    }

    /// Where a file of the container is on this machine, mounts of the container such as `/run` included.
    ///
    /// A symbolic link to an absolute path would lead out of the container: read such a file by [`Self::read`].
    /// Files of a VM are not on this machine.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.leader));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The content of a file of the container, as its own root sees it.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn read(&self, path: &str) -> Result<String> {
        Ok(self.run(["cat", "--", path])?.success()?.stdout)
    }

    /// Whether a file of the container exists, as its own root sees it.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.run(["test", "-e", path])?.status == 0)
    }

    /// Writes a file of the container, with its directories; `mode` is octal as for chmod, `owner` is `USER:GROUP`.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or the container doesn't know the owner.
    pub fn write(
        &self,
        path: &str,
        content: impl Into<Vec<u8>>,
        mode: &str,
        owner: &str,
    ) -> Result<()> {
        let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
        let words = ["install", "-D", "-m", mode, "-o", user, "-g", group, "/dev/stdin", path];
        self.command(words).input(content).output()?.success()?;
        Ok(())
    }

    /// Writes a file of the container for everybody to read, owned by root.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_file(&self, path: &str, content: impl Into<Vec<u8>>) -> Result<()> {
        self.write(path, content, "0644", "root:root")
    }

    /// Copies a file of this machine into the container, with its permissions, owned by root.
    ///
    /// # Errors
    ///
    /// When one of the two paths cannot be opened.
    pub fn copy_in(&self, from: &Path, to: &str) -> Result<()> {
        let target = self.path(to);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(from, &target).with_context(|| {
            format!("{} cannot be copied to {}", from.display(), target.display())
        })?;
        Ok(())
    }

    /// Waits until `condition` holds; looks 20 times a second.
    ///
    /// # Errors
    ///
    /// When it doesn't hold in time; the container's journal is then on standard error.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if condition() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("[{}] journal:\n{}", self.name(), self.journal()?);
        bail!("{}: still waiting after {limit:?} for {what}", self.name());
    }

    /// The container's journal of this boot, with microseconds.
    ///
    /// # Errors
    ///
    /// When the container is gone.
    pub fn journal(&self) -> Result<String> {
        Ok(self.run(["journalctl", "--boot", "--no-pager", "--output=short-precise"])?.stdout)
    }

    /// Adds a user whose systemd manager runs, as after a login; see [`Run::user`].
    ///
    /// # Errors
    ///
    /// When the user exists already or the manager does not start.
    pub fn add_user(&self, name: &str) -> Result<()> {
        self.run(["useradd", "--create-home", "--shell", "/bin/sh", name])?.success()?;
        self.run(["loginctl", "enable-linger", name])?.success()?;
        self.wait_for(&format!("the manager of {name}"), Duration::from_secs(30), || {
            let asked =
                self.command(["systemctl", "--user", "is-system-running"]).user(name).output();
            asked.is_ok_and(|asked| matches!(asked.stdout.trim(), "running" | "degraded"))
        })
    }

    /// Shuts the container's systemd down in order and boots it again, on the files that it left.
    ///
    /// # Errors
    ///
    /// When it does not come up again.
    pub fn reboot(&mut self) -> Result<()> {
        self.power_off()?;
        self.state.remove_groups();
        self.start()
    }

    /// Shuts the container's systemd down in order, then removes all of it.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn stop(mut self) -> Result<()> {
        self.power_off()?;
        self.kept = false;
        Ok(())
    }

    /// Asks the container's systemd to power off and waits until all its processes have ended.
    fn power_off(&mut self) -> Result<()> {
        ensure!(self.ports.is_none(), "{}: a VM ends when it is dropped", self.name());
        // SIGRTMIN+4 asks systemd for poweroff.target, systemd(1).
        signal("RTMIN+4", self.leader)?;
        self.state.wait_until_gone(self.nspawn.as_mut(), Duration::from_secs(120))?;
        self.nspawn = None;
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.kept && !std::thread::panicking() {
            return;
        }
        let taken = self.state.kill(self.nspawn.as_mut()).and_then(|()| self.state.remove());
        if let Err(error) = taken {
            eprintln!("[{}] could not be taken down: {error:#}", self.name());
        }
    }
}
