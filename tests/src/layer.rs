//! The test host's own overlay layer: the few files a container needs to be a host for guests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache;

/// PID 1 of a container whose systemd knows cgroup version 1.
///
/// nspawn mounts the version 1 controllers read-only; made writable, `MemoryMax=` and its like take effect.
const INIT: &str = "\
#!/bin/sh
for controller in /sys/fs/cgroup/*/; do
    mount -o remount,bind,rw \"$controller\" 2>/dev/null
done
exec /lib/systemd/systemd \"$@\"
";

/// Device nodes that a container without udev lacks: numbers 10:232 and 10:200 of the kernel's `devices.txt`.
const DEVICES: &str = "\
c! /dev/kvm 0660 root kvm - 10:232
d /dev/net 0755 root root -
c! /dev/net/tun 0666 root root - 10:200
";

/// The account group that udev's package would have made.
const ACCOUNTS: &str = "g kvm -\n";

/// Where [`INIT`] is in the container.
pub(crate) const INIT_PATH: &str = "/usr/lib/glassbox-test/init";

/// The directory of the layer, made when the cache lacks it.
pub(crate) fn prepare() -> Result<PathBuf> {
    let recipe = [INIT, DEVICES, ACCOUNTS, INIT_PATH].join("\n");
    cache::artifact("layer", "host", &recipe, |tree| {
        put(tree, INIT_PATH, INIT, 0o755)?;
        put(tree, "/usr/lib/sysusers.d/00-glassbox-test.conf", ACCOUNTS, 0o644)?;
        put(tree, "/usr/lib/tmpfiles.d/00-glassbox-test.conf", DEVICES, 0o644)
    })
}

/// Writes a file below `tree` with the directories it needs.
pub(crate) fn put(tree: &Path, path: &str, content: &str, mode: u32) -> Result<()> {
    let path = tree.join(path.trim_start_matches('/'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}
