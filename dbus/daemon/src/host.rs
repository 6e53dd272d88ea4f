//! What the host is, for who chooses one for a guest (`virsh nodeinfo`).

use nix::unistd::{SysconfVar, sysconf};
use rustix::system::{sysinfo, uname};

/// The host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostInformation {
    /// Its name.
    pub(crate) name: String,
    /// The kernel's word for its architecture: `x86_64`.
    pub(crate) architecture: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// How many CPUs run.
    pub(crate) cpus: u64,
    /// Its memory, in bytes.
    pub(crate) memory: u64,
    /// How long it runs, in seconds.
    pub(crate) uptime: u64,
}

impl HostInformation {
    /// Asks the kernel (uname(2), sysinfo(2), sysconf(3)).
    pub(crate) fn now() -> Self {
        let (names, figures) = (uname(), sysinfo());
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        Self {
            name: names.nodename().to_string_lossy().into_owned(),
            architecture: names.machine().to_string_lossy().into_owned(),
            kernel: names.release().to_string_lossy().into_owned(),
            cpus: number(cpus.unwrap_or_default()),
            memory: figures.totalram.saturating_mul(u64::from(figures.mem_unit)),
            uptime: number(figures.uptime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_cpus_and_memory() {
        let host = HostInformation::now();
        assert!(!host.name.is_empty() && !host.kernel.is_empty() && host.cpus > 0, "{host:?}");
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        assert_eq!(host.memory / 1024, total, "proc_meminfo(5), MemTotal");
    }
}
