//! The host's NUMA nodes, and where its large pages are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use domain::{CpuSet, MemorySize, UnitInstance};
use qemu::{HostNuma, HugePageFolder};

/// Where the kernel shows its nodes (Documentation/ABI/stable/sysfs-devices-node).
const NODES: &str = "/sys/devices/system/node";

/// The nodes that have memory, and the CPUs of each. The kernel does not say which suits a guest best.
pub(super) fn nodes() -> HostNuma {
    let set =
        |path: &Path| -> Option<CpuSet> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let folder = Path::new(NODES);
    let nodes = set(&folder.join("has_memory"));
    let cpus = nodes
        .iter()
        .flat_map(CpuSet::iter)
        .filter_map(|node| Some((node, set(&folder.join(format!("node{node}/cpulist")))?)));
    let cpus: BTreeMap<u32, CpuSet> = cpus.collect();
    HostNuma { nodes, automatic: None, cpus }
}

/// The mounts of large pages, the one of the default size first. In each the guest's own folder goes before the folder
/// `glassbox`, which the administrator can give to an account, and that before the mount itself.
pub(super) fn huge_pages(instance: &UnitInstance) -> Vec<HugePageFolder> {
    let mut folders = mounted_huge_pages();
    for folder in &mut folders {
        let common = format!("{}/glassbox", folder.path);
        let own = format!("{common}/{}", instance.directory());
        if let Some(path) = [own, common].into_iter().find(|path| Path::new(path).is_dir()) {
            folder.path = path;
        }
    }
    folders
}

/// The mounts of large pages, the one of the default size first.
pub(crate) fn mounted_huge_pages() -> Vec<HugePageFolder> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let default = fs::read_to_string("/proc/meminfo").ok().and_then(|text| default_page(&text));
    hugetlbfs(&mounts, default)
}

/// The size of the kernel's usual large page, of proc_meminfo(5).
fn default_page(meminfo: &str) -> Option<MemorySize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(MemorySize::from_bytes(kibibytes << 10))
}

/// The mounts of hugetlbfs in proc_mounts(5). Without `pagesize=` a mount has pages of the default size.
fn hugetlbfs(mounts: &str, default: Option<MemorySize>) -> Vec<HugePageFolder> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let folders = fields.filter_map(|fields| match fields.as_slice() {
        [_, path, "hugetlbfs", options, ..] => {
            let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="));
            let page = size.map_or(default, page_size)?;
            Some(HugePageFolder { page, path: (*path).to_owned() })
        }
        _ => None,
    });
    let mut folders: Vec<_> = folders.collect();
    folders.sort_by_key(|folder| (Some(folder.page) != default, folder.path.clone()));
    folders.dedup_by_key(|folder| folder.page);
    folders
}

/// A size as hugetlbfs shows it: `2M`, `1G`, `64K`.
fn page_size(text: &str) -> Option<MemorySize> {
    let (number, shift) = [('K', 10), ('M', 20), ('G', 30)]
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(*unit)?, *shift)))?;
    Some(MemorySize::from_bytes(number.parse::<u64>().ok()?.checked_mul(1 << shift)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_large_pages_are_found_the_default_first() {
        let mounts = "\
proc /proc proc rw 0 0
hugetlbfs /mnt/big hugetlbfs rw,pagesize=1024M 0 0
hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0
hugetlbfs /second hugetlbfs rw,pagesize=2M 0 0
";
        let default = default_page("MemTotal: 1 kB\nHugepagesize:       2048 kB\n");
        let found: Vec<_> = hugetlbfs(mounts, default)
            .into_iter()
            .map(|folder| (folder.page.bytes() >> 20, folder.path))
            .collect();
        let expected = [(2, "/dev/hugepages"), (1024, "/mnt/big")];
        assert_eq!(found, expected.map(|(size, path)| (size, path.to_owned())));
        assert_eq!(hugetlbfs("x /y hugetlbfs rw 0 0\n", None), Vec::new());
    }
}
