//! A Debian root with all of its QEMU, entered without a systemd: to run QEMU's programs of one release.
//!
//! What is mounted and started is in namespaces that end with the command: nothing has to be undone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::process::stream;
use crate::{Root, require_packages};

/// What Debian has of QEMU for a PC in packages of their own: displays, sound, storage servers; and programs that
/// serve a guest beside it.
const PACKAGES: [&str; 6] = [
    "qemu-system-gui",
    "qemu-block-extra",
    "qemu-system-modules-spice",
    "qemu-system-modules-opengl",
    "swtpm",
    "virtiofsd",
];

/// Makes the tree: the layers $1 under what is written, which is in memory and gone at the end.
const MOUNT: &str = "\
mount -t tmpfs -o mode=0755 scratch \"$2\"
cd \"$2\"
mkdir upper work tree
mount -t overlay -o \"lowerdir=$1,upperdir=upper,workdir=work\" scratch tree
mount -t proc proc tree/proc
mount -t sysfs -o ro sysfs tree/sys
";

/// Installs what Debian's release has of the packages in $3, and keeps what changed in the folder $4.
const INSTALL: &str = "\
cp /etc/resolv.conf tree/etc/resolv.conf
chroot tree /bin/sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    for package in $1; do
        if apt-cache show \"$package\" >/dev/null 2>&1; then set -- \"$1\" \"$2 $package\"; fi
    done
    apt-get install -y --no-install-recommends $2
    rm -rf /var/cache/apt /var/lib/apt/lists /usr/share/doc /usr/share/locale /usr/share/icons /run/* /tmp/*
' sh \"$3\" ''
cp -a upper \"$4/layer\"
";

/// Device nodes of the kernel's `devices.txt`, and a network in which every address is this host's own.
const ENTER: &str = "\
mount -t tmpfs -o mode=0755 dev tree/dev
mkdir tree/dev/pts tree/dev/shm tree/dev/net
mount -t devpts -o newinstance,ptmxmode=0666 devpts tree/dev/pts
ln -s pts/ptmx tree/dev/ptmx
ln -s /proc/self/fd tree/dev/fd
mknod tree/dev/null c 1 3
mknod tree/dev/zero c 1 5
mknod tree/dev/random c 1 8
mknod tree/dev/urandom c 1 9
mknod tree/dev/net/tun c 10 200
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
shift 2
exec chroot tree \"$@\"
";

/// A release's root with all of its QEMU.
#[derive(Debug)]
pub struct Scratch {
    layers: String,
}

impl Scratch {
    /// The root of this release; made when the cache lacks it (about a minute, with the network).
    ///
    /// # Errors
    /// When it has to be made and Debian's packages cannot be fetched.
    pub fn of(root: Root) -> Result<Self> {
        require_packages(&[("unshare", "util-linux"), ("ip", "iproute2")])?;
        let tree = root.prepare()?;
        let qemu = qemu(root, &tree)?;
        Ok(Self { layers: format!("{}:{}", qemu.display(), tree.display()) })
    }

    /// Lays this folder over the root, such as one with the product.
    #[must_use]
    pub fn with(self, folder: &Path) -> Self {
        Self { layers: format!("{}:{}", folder.display(), self.layers) }
    }

    /// A command in the root. All processes that it starts end with it.
    ///
    /// # Errors
    /// When there is no folder for what it writes.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let folder = std::env::temp_dir().join("glassbox-scratch");
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--net", "--pid", "--fork"]);
        command.args(["--kill-child", "/bin/sh", "-euc"]).arg(format!("{MOUNT}{ENTER}"));
        command.arg("sh").arg(&self.layers).arg(folder).args(words);
        Ok(command)
    }
}

/// The layer of QEMU's packages.
fn qemu(root: Root, tree: &Path) -> Result<PathBuf> {
    let packages = PACKAGES.join(" ");
    let recipe = format!("{} {MOUNT} {INSTALL} {packages}", tree.display());
    let artifact = cache::artifact("qemu", root.name(), &recipe, |unfinished| {
        eprintln!("[qemu {root}] installing the rest of Debian {root}'s QEMU, about a minute");
        let folder = unfinished.join("mount");
        fs::create_dir(&folder)?;
        let utf8 = |path: &Path| path.to_str().map(str::to_owned).context("a path of UTF-8");
        let script = format!("{MOUNT}{INSTALL}");
        let words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", &script];
        let paths = [utf8(tree)?, utf8(&folder)?, packages, utf8(unfinished)?];
        let words = words.into_iter().map(str::to_owned).chain(["sh".to_owned()]).chain(paths);
        stream(&format!("qemu {root}"), &unfinished.join("log"), words)
    })?;
    Ok(artifact.join("layer"))
}
