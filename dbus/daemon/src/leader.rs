//! The leader of a guest: the process that stands for it, known by a pidfd.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use dbus_api::{Holder, Placement};

/// The process that stands for a guest, as it was when it registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// The process id as the daemon sees it, whatever namespace the process lives in.
    pub(crate) pid: u32,
    /// When the process started, in clock ticks since boot: tells it from a later process with the same id.
    pub(crate) born: u64,
    /// The innermost unit it lives in.
    pub(crate) unit: Option<String>,
    /// The unit of the system's manager it lives in.
    pub(crate) system_unit: Option<String>,
}

/// A file descriptor is not the pidfd that `Register` asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaderFault {
    /// The file descriptor is something else.
    #[error("it is not a pidfd; get one from pidfd_open(2)")]
    NotAPidfd,
    /// The process is gone, or lives where the daemon cannot see it.
    #[error("its process has exited, or is not visible in the daemon's pid namespace")]
    Exited,
    /// The pidfd is somebody else's.
    #[error("it refers to pid {pid}, but the caller is pid {caller}; give the caller's own")]
    Other {
        /// The process of the pidfd.
        pid: u32,
        /// The process that called.
        caller: u32,
    },
    /// The process file system did not tell.
    #[error("cannot read {path}")]
    Proc {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of the process file system has a form that proc(5) does not describe.
    #[error("{path} has an unknown form")]
    Form {
        /// The file.
        path: String,
    },
}

/// The parent of a process; none for a process that is not there.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    field(&format!("/proc/{pid}/status"), "PPid:")
}

/// The first number of a line of proc_pid_status(5).
fn field(path: &str, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

impl Leader {
    /// The real user id that it runs as; none when it has ended.
    pub(crate) fn uid(&self) -> Option<u32> {
        let uid = field(&format!("/proc/{}/status", self.pid), "Uid:")?;
        // Looked at afterwards, so that the number is not that of a later process with the same id.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        (start_in_stat(&stat) == Some(self.born)).then_some(uid)
    }

    /// The process behind a pidfd, which must be the caller's.
    ///
    /// Both process ids are as the daemon sees them: the kernel translates the credentials of a socket as well
    /// as the `Pid:` of a pidfd, so a caller in a pid namespace of its own passes.
    pub(crate) fn identify(pidfd: BorrowedFd<'_>, caller: u32) -> Result<Self, LeaderFault> {
        let info = read(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
        let pid = pid_in_fdinfo(&info).ok_or(LeaderFault::NotAPidfd)?;
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0).ok_or(LeaderFault::Exited)?;
        if pid != caller {
            return Err(LeaderFault::Other { pid, caller });
        }
        let path = format!("/proc/{pid}/stat");
        let born = start_in_stat(&read(path.clone())?).ok_or(LeaderFault::Form { path })?;
        let Placement { unit, system_unit } =
            Placement::parse(&read(format!("/proc/{pid}/cgroup"))?);
        Ok(Self { pid, born, unit, system_unit })
    }

    /// Whether both are the same process, which a process id alone does not tell.
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        self.pid == other.pid && self.born == other.born
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Holder { pid: self.pid, unit: self.unit.as_deref() }.fmt(f)
    }
}

fn read(path: String) -> Result<String, LeaderFault> {
    std::fs::read_to_string(&path).map_err(|source| LeaderFault::Proc { path, source })
}

/// The `Pid:` of a pidfd's fdinfo (proc(5)): -1 after the process exited, 0 when it is not visible.
fn pid_in_fdinfo(text: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Field 22 of `/proc/PID/stat`. The second field, in parentheses, may itself have spaces and parentheses.
fn start_in_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_tells_the_pid() {
        let info =
            |pid| format!("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nPid:\t{pid}\nNSpid:\t{pid}\n");
        assert_eq!(pid_in_fdinfo(&info("4711")), Some(4711));
        assert_eq!(pid_in_fdinfo(&info("-1")), Some(-1));
        assert_eq!(pid_in_fdinfo("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10";
        for name in ["glassbox-qemu", "a b", "a) b", "((x) 1 2"] {
            assert_eq!(start_in_stat(&format!("42 ({name}) {rest}")), Some(987_654), "{name}");
        }
        assert_eq!(start_in_stat("42 (x) S 1"), None);
        assert_eq!(start_in_stat(""), None);
    }

    #[test]
    fn the_uid_is_that_of_the_very_process() {
        let stat = read("/proc/self/stat".to_owned()).unwrap();
        let born = start_in_stat(&stat).unwrap();
        let leader = |born| Leader { pid: std::process::id(), born, unit: None, system_unit: None };
        assert_eq!(leader(born).uid(), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(leader(born + 1).uid(), None, "another process had the id before");
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn this_process_is_identified() {
        let stat = read("/proc/self/stat".to_owned()).unwrap();
        assert!(start_in_stat(&stat).unwrap() > 0);
        let file = std::fs::File::open("/dev/null").unwrap();
        let fault = Leader::identify(std::os::fd::AsFd::as_fd(&file), 1).unwrap_err();
        assert!(matches!(fault, LeaderFault::NotAPidfd), "{fault}");
    }
}
