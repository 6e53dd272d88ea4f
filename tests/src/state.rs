//! What is known of a container outside of it: its directory, and how to take everything down.
//!
//! The owner holds a lock on a file of the directory. A directory whose lock is free has lost its owner, for
//! instance a test that was killed; the next boot takes it down.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::output;
use crate::{Root, cache, cgroups};

/// How long the processes of a container get to vanish after the kill.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A container's directory on this machine.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    name: String,
    /// Held while this process owns the container; nobody holds it for a container kept for people.
    _lock: Option<File>,
}

impl State {
    /// Makes the directory of a new container.
    pub(crate) fn create(name: &str, root: Root, kept: bool) -> Result<Self> {
        let directory = base().join(name);
        if directory.exists() {
            bail!("{name}: a container of this name exists; stop it with 'testhost stop {name}'");
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("{}: cannot be created", directory.display()))?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        fs::write(directory.join("root"), root.name())?;
        if kept {
            File::create(directory.join("kept"))?;
        }
        Ok(Self { directory, name: name.to_owned(), _lock: Some(lock) })
    }

    /// The directory of a container that exists.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let directory = base().join(name);
        if !directory.is_dir() {
            bail!("{name}: there is no such container; boot it with 'testhost boot ROOT {name}'");
        }
        Ok(Self { directory, name: name.to_owned(), _lock: None })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the container stands on.
    pub(crate) fn root(&self) -> Result<Root> {
        fs::read_to_string(self.directory.join("root"))?.parse()
    }

    /// The overlay's mount point. What the container itself mounts, such as its `/run`, isn't seen here.
    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// What the container writes, and the overlay's own bookkeeping; perhaps a mount point.
    pub(crate) fn overlay(&self) -> PathBuf {
        self.directory.join("overlay")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The last lines of the container's console, for messages.
    pub(crate) fn console_end(&self) -> String {
        let bytes = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub(crate) fn remember_groups(&self, groups: &[PathBuf]) -> Result<()> {
        let lines: Vec<_> = groups.iter().map(|group| group.display().to_string()).collect();
        Ok(fs::write(self.directory.join("groups"), lines.join("\n"))?)
    }

    pub(crate) fn remember_processes(&self, nspawn: u32, leader: u32) -> Result<()> {
        Ok(fs::write(self.directory.join("processes"), format!("{leader} {nspawn}"))?)
    }

    /// Process ids of the container's PID 1 and of nspawn, of those that are still there.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.directory.join("processes")).unwrap_or_default();
        text.split(' ').filter_map(|id| id.parse().ok()).filter(|id| self.owns(*id)).collect()
    }

    /// Whether a process is in the container's group: its number may have gone to a stranger since.
    fn owns(&self, process: u32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        groups.contains(&format!("/glassbox-test-{}", self.name))
    }

    /// Ends all processes of the container, without asking them.
    pub(crate) fn kill(&self, child: Option<&mut Child>) -> Result<()> {
        // Killing PID 1 of the container kills all others in it; nspawn then ends by itself.
        if let Some(leader) = self.processes().first() {
            signal("KILL", *leader)?;
        }
        self.wait_until_gone(child, KILL_LIMIT)
    }

    /// Waits until nspawn has ended, and kills it when it doesn't.
    pub(crate) fn wait_until_gone(
        &self,
        mut child: Option<&mut Child>,
        limit: Duration,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let gone = match &mut child {
                Some(child) => child.try_wait()?.is_some(),
                None => self.processes().is_empty(),
            };
            if gone {
                return Ok(());
            }
            if started.elapsed() > limit {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for process in self.processes() {
            signal("KILL", process)?;
        }
        if let Some(child) = child {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Removes the container's groups, of which the next start makes new ones.
    pub(crate) fn remove_groups(&self) {
        let groups = fs::read_to_string(self.directory.join("groups")).unwrap_or_default();
        let groups: Vec<PathBuf> = groups.lines().map(PathBuf::from).collect();
        cgroups::remove(&groups);
    }

    /// Removes mounts, groups and files. The container's processes must have ended.
    pub(crate) fn remove(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        for path in [self.tree(), self.overlay()] {
            let path = path.display().to_string();
            if mounts.lines().any(|line| line.split(' ').nth(1) == Some(&path)) {
                output(["umount", &path]).or_else(|_| output(["umount", "--lazy", &path]))?;
            }
        }
        self.remove_groups();
        cache::remove(&self.directory)
    }

    /// Takes down containers that lost their owner.
    pub(crate) fn reap() {
        let Ok(entries) = fs::read_dir(base()) else { return };
        for entry in entries.flatten() {
            let directory = entry.path();
            let Ok(lock) = File::open(directory.join("lock")) else { continue };
            if lock.try_lock().is_err() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let state = Self { directory: directory.clone(), name, _lock: Some(lock) };
            if directory.join("kept").exists() && !state.processes().is_empty() {
                continue;
            }
            eprintln!("[{}] has lost its owner; taking it down", state.name);
            if let Err(error) = state.kill(None).and_then(|()| state.remove()) {
                eprintln!("[{}] {} stays behind: {error:#}", state.name, directory.display());
            }
        }
    }
}

/// Where the directories of containers are.
fn base() -> PathBuf {
    std::env::var_os("GLASSBOX_TEST_RUN")
        .map_or_else(|| PathBuf::from("/var/tmp/glassbox-test"), PathBuf::from)
}

/// Sends a signal; a process that has just ended is no error.
pub(crate) fn signal(name: &str, process: u32) -> Result<()> {
    let script = "kill -s \"$1\" \"$2\" 2>/dev/null || ! test -d \"/proc/$2\"";
    output(["/bin/sh", "-c", script, "sh", name, &process.to_string()]).map(|_| ())
}
