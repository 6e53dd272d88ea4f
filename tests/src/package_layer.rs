//! Layers of Debian packages above a root, for what only few tests need and would make every root larger.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Root;
use crate::cache;
use crate::process::stream;

/// Installs the packages in an overlay on the root and keeps what they added.
///
/// The overlay's own files lie on a tmpfs: the cache itself may be on an overlay, which carries no second one.
/// Services are not started while the packages are installed. What the packages' scripts removed of the root is
/// a device in the layer, as an overlay has it, and so survives the copy.
const INSTALL: &str = "\
root=$1 layer=$2 work=$3; shift 3
mount -t tmpfs tmpfs \"$work\"
mkdir \"$work/upper\" \"$work/overlay\" \"$work/tree\"
mount -t overlay -o \"lowerdir=$root,upperdir=$work/upper,workdir=$work/overlay\" overlay \"$work/tree\"
mount -t proc proc \"$work/tree/proc\"
cp /etc/resolv.conf \"$work/tree/etc/resolv.conf\"
printf '#!/bin/sh\\nexit 101\\n' >\"$work/tree/usr/sbin/policy-rc.d\"
chmod 755 \"$work/tree/usr/sbin/policy-rc.d\"
export DEBIAN_FRONTEND=noninteractive
chroot \"$work/tree\" apt-get update
chroot \"$work/tree\" apt-get install -y --no-install-recommends \"$@\"
rm -r \"$work/tree/usr/sbin/policy-rc.d\" \"$work\"/tree/var/lib/apt/lists/* \"$work\"/tree/var/cache/apt/*.bin
chroot \"$work/tree\" apt-get clean
rm \"$work/tree/etc/resolv.conf\"
umount \"$work/tree/proc\" \"$work/tree\"
cp -a \"$work/upper/.\" \"$layer\"";

/// The layer that has these packages, for containers on `root`; made when the cache lacks it.
///
/// # Errors
///
/// When the layer has to be made and the packages cannot be installed.
pub(crate) fn prepare(root: Root, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let tree = root.prepare()?;
    let recipe = format!("{} {INSTALL} {}", tree.display(), packages.join(" "));
    let artifact = cache::artifact("packages", &format!("{root}-{name}"), &recipe, |unfinished| {
        eprintln!("[packages {root} {name}] installing {}", packages.join(" "));
        install(&tree, unfinished, packages)
    })?;
    Ok(artifact.join("layer"))
}

fn install(root: &Path, unfinished: &Path, packages: &[&str]) -> Result<()> {
    let (layer, work) = (unfinished.join("layer"), unfinished.join("work"));
    fs::create_dir_all(&layer)?;
    fs::create_dir_all(&work)?;
    let paths =
        [root, &layer, &work].map(|path| path.to_str().context("the cache's path is UTF-8"));
    let [root, layer, work_path] = paths;
    let words =
        ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", INSTALL, "sh"];
    let words = words.into_iter().chain([root?, layer?, work_path?]);
    let words = words.chain(packages.iter().copied());
    stream("packages", &unfinished.join("log"), words)?;
    cache::remove(&work)
}
