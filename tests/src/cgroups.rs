//! A control group of its own for each container, in every hierarchy of this machine.
//!
//! Without it, nspawn with `--keep-unit` puts all containers in one group `/payload`, and the systemd of one
//! container moves and kills processes of the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes a group `glassbox-test-NAME` below this process's own in every hierarchy; gives their paths.
pub(crate) fn create(name: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for parent in of_process("self")? {
        let group = parent.join(format!("glassbox-test-{name}"));
        fs::create_dir_all(&group)
            .with_context(|| format!("{}: cannot be created", group.display()))?;
        inherit_cpuset(&parent, &group)?;
        groups.push(group);
    }
    Ok(groups)
}

/// The groups of a process, given by its number or as `self`, in every hierarchy of this machine.
pub(crate) fn of_process(process: &str) -> Result<Vec<PathBuf>> {
    let own = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    Ok(find(&own, &fs::read_to_string("/proc/self/mountinfo")?))
}

/// The shell words that enter groups, given as arguments up to `--`, and leave what follows as arguments.
///
/// The shell enters the groups before it becomes the program, so that no process of it is ever outside. systemd removes
/// its own group in a hierarchy that no unit needs any more, and is in the one above then.
pub(crate) const ENTER: &str = "while [ \"$1\" != -- ]; do
    group=$1
    while [ ! -e \"$group/cgroup.procs\" ] && [ \"$group\" != / ]; do group=$(dirname \"$group\"); done
    echo $$ >\"$group/cgroup.procs\" || exit 1
    shift
done
shift
";

/// Removes groups and all below them; a group whose processes are still ending is left behind.
pub(crate) fn remove(groups: &[PathBuf]) {
    for group in groups {
        remove_one(group);
    }
}

fn remove_one(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_one(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(group) {
        eprintln!("[cgroups] {} stays behind: {error}", group.display());
    }
}

/// A new cpuset group of version 1 has no processor and takes no process until it is given some.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<()> {
    if !group.join("cgroup.clone_children").exists() || !group.join("cpuset.cpus").exists() {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fs::write(group.join(file), fs::read(parent.join(file))?)?;
    }
    fs::write(group.join("cgroup.clone_children"), "1")?;
    Ok(())
}

/// A process's group in each mounted hierarchy, from its `/proc/PID/cgroup` (cgroups(7)) and this process's
/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn find(own: &str, mounts: &str) -> Vec<PathBuf> {
    own.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let mount = mounts.lines().find_map(|line| mount_point(line, controllers))?;
            let group = Path::new(mount).join(path.trim_start_matches('/'));
            // In a cgroup namespace the path may lead out of what is mounted here.
            Some(if group.is_dir() { group } else { PathBuf::from(mount) })
        })
        .collect()
}

/// The mount point of a line of mountinfo when the line mounts the hierarchy of `controllers` (empty: version 2).
fn mount_point<'a>(line: &'a str, controllers: &str) -> Option<&'a str> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    let mut words = filesystem.split(' ');
    let (kind, options) = (words.next()?, words.nth(1)?);
    let first = controllers.split(',').next().unwrap_or_default();
    let is_it = match kind {
        "cgroup2" => first.is_empty(),
        "cgroup" => !first.is_empty() && options.split(',').any(|option| option == first),
        _ => false,
    };
    is_it.then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn each_hierarchy_is_found_by_its_first_controller() {
        let own = "2:cpu,cpuacct:/no-such-group\n1:name=systemd:/\n0::/\n3:rdma:/";
        let expected = ["cpu", "systemd", "unified"];
        let expected = expected.map(|name| PathBuf::from(format!("/sys/fs/cgroup/{name}/")));
        assert_eq!(find(own, MOUNTS), expected);
    }
}
