//! A control group for each of QEMU's threads that runs a virtual CPU or serves devices, where the unit delegates.
//!
//! ```text
//! qemu@web.service      all processes, and QEMU's own threads     (cgroup.type: domain threaded)
//! ├─ vcpu0              the thread of virtual CPU 0               (threaded)
//! ├─ vcpu1
//! └─ iothread1
//! ```
//!
//! The names are libvirt's. QEMU's other threads stay where they are, other than with libvirt: so all processes
//! remain in the unit's own group, where systemd, machined and people look for them, and the shim moves none.
//!
//! It happens only where systemd says that the group is ours to divide (`Delegate=`, which sets an attribute of
//! the group; see systemd.resource-control(5)) and nobody else is in it: a group of threads changes what its
//! parent can be used for. The kernel's rules are in its documentation, cgroup-v2.rst, "Threads".

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use domain::CpuQuota;
use nix::unistd::Pid;
use qemu::{QemuThread, ThreadQuotas};

use crate::log;
use crate::pinning::Threads;

/// Where version 2 alone is mounted; beside version 1 it has no controllers to delegate.
const MOUNT: &str = "/sys/fs/cgroup";

/// The controllers that threads are divided by, of those that can (cgroup-v2.rst, "Threads").
const CONTROLLERS: [&str; 2] = ["cpu", "cpuset"];

/// What systemd sets on a group that it delegates; 252 and later do.
const DELEGATED: &str = "user.delegate";

/// This process's own control group, when it may be divided. Dropping it removes the groups that are empty.
#[derive(Debug)]
pub(crate) struct ThreadGroups {
    group: PathBuf,
    made: Vec<PathBuf>,
}

impl ThreadGroups {
    /// The group of this process, if it is delegated and nobody else is in it.
    pub(crate) fn of_this_process() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let group = Path::new(MOUNT).join(path_in(&own)?);
        // With DelegateSubgroup= the attribute is on the unit's group, the parent.
        let parent = group.parent().filter(|parent| is_delegated(parent));
        if parent.is_none() && !is_delegated(&group) {
            return None;
        }
        if let Some(parent) = parent {
            // What the unit has is enabled for its subgroup; that there is less shows below.
            let _ = enable(parent);
        }
        let available = fs::read_to_string(group.join("cgroup.controllers")).ok()?;
        if wanted(&available).is_empty() {
            return None; // What was delegated does not divide threads.
        }
        let processes = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        if processes.trim() != Pid::this().to_string() {
            log::info(
                "the unit's control group is delegated, but other processes are in it; it is not divided",
            );
            return None;
        }
        Some(Self { group, made: Vec::new() })
    }

    /// Gives each of these threads a group of its own, with what it may use of the CPUs.
    ///
    /// # Errors
    /// What the kernel says. Threads that were not moved are still in the unit's group.
    pub(crate) fn place(&mut self, threads: &Threads, quotas: ThreadQuotas) -> io::Result<()> {
        for (thread, id) in threads.iter() {
            let Some(name) = name(thread) else { continue };
            let group = self.group.join(name);
            make(&group)?;
            self.made.push(group.clone());
            // The first one makes the unit's group one of threads, which then has controllers beside processes.
            enable(&self.group)?;
            fs::write(group.join("cgroup.threads"), id.to_string())?;
            let limit = group.join("cpu.max");
            // Only what was delegated is there.
            if let Some(quota) = quota(thread, quotas).filter(|_| limit.exists()) {
                fs::write(limit, format!("{} {}", quota.time, quota.period))?;
            }
        }
        Ok(())
    }
}

impl Drop for ThreadGroups {
    fn drop(&mut self) {
        for group in &self.made {
            if let Err(error) = fs::remove_dir(group) {
                log::info(format_args!("{} stays behind: {error}", group.display()));
            }
        }
    }
}

fn name(thread: QemuThread) -> Option<String> {
    match thread {
        QemuThread::Emulator => None,
        QemuThread::Vcpu(number) => Some(format!("vcpu{number}")),
        QemuThread::IoThread(number) => Some(format!("iothread{number}")),
    }
}

fn quota(thread: QemuThread, quotas: ThreadQuotas) -> Option<CpuQuota> {
    match thread {
        QemuThread::Emulator => None,
        QemuThread::Vcpu(_) => quotas.vcpu,
        QemuThread::IoThread(_) => quotas.iothread,
    }
}

/// Makes a group of threads; one that is left from an earlier run is used again.
fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::write(group.join("cgroup.type"), "threaded"),
    }
}

/// Enables those of [`CONTROLLERS`] for the group's children that the group has.
fn enable(group: &Path) -> io::Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let words = wanted(&available);
    if words.is_empty() { Ok(()) } else { fs::write(group.join("cgroup.subtree_control"), words) }
}

/// The words that enable controllers, of a group's `cgroup.controllers`.
fn wanted(available: &str) -> String {
    let has = |controller: &&str| available.split_whitespace().any(|word| word == *controller);
    let words: Vec<String> = CONTROLLERS
        .iter()
        .filter(|it| has(it))
        .map(|controller| format!("+{controller}"))
        .collect();
    words.join(" ")
}

/// The path of a process's group of version 2 below its mount point, of `/proc/PID/cgroup` (cgroups(7)); none for
/// the root, which nobody delegates.
fn path_in(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.is_empty() && !path.starts_with("..")).then_some(path)
}

fn is_delegated(group: &Path) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::getxattr(group, DELEGATED, &mut value).is_ok_and(|length| &value[..length] == b"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_version_2_is_found() {
        for (groups, path) in [
            ("0::/machine.slice/qemu@web.service\n", Some("machine.slice/qemu@web.service")),
            ("4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n", Some("c")),
            ("1:name=systemd:/b\n", None),
            ("0::/\n", None),
            ("0::/../outside\n", None),
        ] {
            assert_eq!(path_in(groups), path, "{groups}");
        }
    }

    #[test]
    fn only_what_divides_threads_is_enabled() {
        assert_eq!(wanted("cpuset cpu io memory pids\n"), "+cpu +cpuset");
        assert_eq!(wanted("memory cpu\n"), "+cpu");
        assert_eq!(wanted("cpuacct\n"), "");
    }

    #[test]
    fn emulator_threads_stay() {
        let threads = [QemuThread::Emulator, QemuThread::Vcpu(3), QemuThread::IoThread(1)];
        assert_eq!(
            threads.map(name),
            [None, Some("vcpu3".to_owned()), Some("iothread1".to_owned())]
        );
    }
}
