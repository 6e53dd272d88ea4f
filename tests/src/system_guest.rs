//! A guest with a whole system: the disk of a Debian trixie with systemd, networkd and an SSH server, which knows neither
//! its machine id nor its name, its address or its keys.
//!
//! It runs the kernel of [`crate::guest`], whose initial RAM disk hands over to it by the word `glassbox.root`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layer::put;
use crate::process::stream;
use crate::{Root, cache, guest, package_layer, packages};

/// Raised when this file changes the disk in a way that the recipe's text doesn't show.
const RECIPE_VERSION: u32 = 1;

/// The disk's name in [`guest::IMAGES`]; its format is raw.
pub(crate) const DISK: &str = "system.ext4";

/// Beside the root's: the guest's kernel has its drivers as modules, which its systemd loads, and networkd waits for udev.
const PACKAGES: [&str; 3] = ["kmod", "openssh-server", "udev"];

/// Files of the system's own. An empty machine id is one that systemd chooses, without taking the system for new.
const FILES: [(&str, &str); 5] = [
    ("/etc/machine-id", ""),
    ("/var/lib/dbus/machine-id", ""),
    ("/etc/hostname", ""),
    ("/etc/fstab", ""),
    // A session of systemd's for each command takes longer than the command.
    ("/etc/ssh/sshd_config.d/glassbox-test.conf", "UsePAM no\n"),
];

/// Units that are started.
const WANTED: [(&str, &str); 2] = [
    ("multi-user.target", "systemd-networkd.service"),
    ("sysinit.target", "systemd-network-generator.service"),
];

/// Units that only cost time. The SSH server listens where systemd has it listen.
const MASKED: [&str; 5] = [
    "console-getty.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "ssh.service",
    "polkit.service",
];

/// The layer that has the disk, made when the cache lacks it (about half a minute).
pub(crate) fn prepare() -> Result<PathBuf> {
    let root = Root::Trixie.prepare()?;
    let added = package_layer::prepare(Root::Trixie, "system-guest", &PACKAGES)?;
    let layers = [&added, &root].map(|layer| layer.display().to_string());
    let kernel = guest::modules(Root::Trixie)?;
    let recipe =
        format!("{RECIPE_VERSION} {layers:?} {} {FILES:?} {WANTED:?} {MASKED:?}", kernel.display());
    let artifact = cache::artifact("guest", "system", &recipe, |unfinished| {
        eprintln!("[guest] making the disk of a guest with systemd, about half a minute");
        packages::require(&[("mke2fs", "e2fsprogs")])?;
        make(unfinished, &layers)
    })?;
    Ok(artifact.join("layer"))
}

fn make(unfinished: &Path, layers: &[String]) -> Result<()> {
    let own = unfinished.join("own");
    for (path, content) in FILES {
        put(&own, path, content, 0o644)?;
    }
    let units = own.join("etc/systemd/system");
    for (target, unit) in WANTED {
        let folder = units.join(format!("{target}.wants"));
        fs::create_dir_all(&folder)?;
        symlink(format!("/usr/lib/systemd/system/{unit}"), folder.join(unit))?;
    }
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    guest::put_modules(Root::Trixie, &own)?;
    let images = unfinished.join("layer").join(guest::IMAGES.trim_start_matches('/'));
    fs::create_dir_all(&images)?;
    let lower = format!("{}:{}", own.display(), layers.join(":"));
    make_disk(&lower, &images.join(DISK), unfinished)?;
    cache::remove(&own)
}

/// Makes a file system of overlay layers, the uppermost first.
pub(crate) fn make_disk(layers: &str, disk: &Path, unfinished: &Path) -> Result<()> {
    // Without a journal nothing is written to the disk while the system idles.
    let script = "\
mkdir -p \"$2/tree\"
mount -t overlay -o \"lowerdir=$1\" glassbox-test \"$2/tree\"
mke2fs -q -t ext4 -O ^has_journal -d \"$2/tree\" \"$3\" 2G
umount \"$2/tree\"
rmdir \"$2/tree\"";
    let paths = [unfinished, disk].map(|path| path.to_str().context("the cache's path is UTF-8"));
    let [unfinished, disk] = paths;
    let unfinished = unfinished?;
    let words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", script, "sh"];
    let words = words.into_iter().chain([layers, unfinished, disk?]);
    stream("guest", &Path::new(unfinished).join("log"), words)
}
