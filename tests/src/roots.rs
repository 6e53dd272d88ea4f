//! The roots: Debian trees that the containers stand on, made by debootstrap and kept in the cache.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::packages;
use crate::process::stream;

const MIRROR: &str = "http://deb.debian.org/debian";

/// What every root has beside debootstrap's `minbase`.
///
/// polkitd answers machined and systemd for users other than root, socat opens a guest's console.
const PACKAGES: &[&str] = &[
    "dbus",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "passwd",
    "polkitd",
    "procps",
    "qemu-system-x86",
    "qemu-utils",
    "socat",
    "systemd",
    "systemd-container",
    "systemd-sysv",
];

/// Raised when [`finish`] or the way of calling debootstrap changes, for the recipe's text wouldn't show it.
const RECIPE_VERSION: u32 = 1;

/// A Debian release that a container can stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// Debian 12: systemd 252, QEMU 7.2, the oldest that is supported.
    Bookworm,
    /// Debian 13: systemd 257, QEMU 10.0, where most tests run.
    Trixie,
    /// Debian 14 in the making: systemd 261 and later, with machined's `controlAddress`.
    Forky,
}

impl Root {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Forky];

    /// The release's code name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// Path of the root's tree, made first when the cache lacks it (about a minute, with the network).
    ///
    /// # Errors
    ///
    /// When the tree has to be made and debootstrap fails; its output tells why.
    pub fn prepare(self) -> Result<PathBuf> {
        let recipe = format!("{RECIPE_VERSION} {self} {MIRROR} {}", PACKAGES.join(" "));
        let artifact = cache::artifact("roots", self.name(), &recipe, |unfinished| {
            packages::require(&[("debootstrap", "debootstrap")])?;
            eprintln!("[root {self}] downloading and installing Debian {self}, about a minute");
            let tree = unfinished.join("tree");
            self.debootstrap(&tree, &unfinished.join("log"))?;
            finish(&tree)
        })?;
        Ok(artifact.join("tree"))
    }

    fn debootstrap(self, tree: &Path, log: &Path) -> Result<()> {
        let include = format!("--include={}", PACKAGES.join(","));
        // What debootstrap mounts in the tree goes away with its mount namespace, even when it is killed.
        let mut words = vec!["unshare", "--mount", "debootstrap", "--variant=minbase", &include];
        let tree = tree.to_str().context("the cache's path is UTF-8")?;
        words.extend([self.name(), tree, MIRROR]);
        // Debian 12's debootstrap doesn't know forky, which is made as sid is.
        if self == Self::Forky {
            words.push("sid");
        }
        stream(&format!("root {self}"), log, words)
    }

    /// Whether the release's systemd only runs with the unified cgroup hierarchy (systemd 258 and later).
    #[must_use]
    pub fn needs_unified_cgroups(self) -> bool {
        match self {
            Self::Bookworm | Self::Trixie => false,
            Self::Forky => true,
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Root {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|root| root.name() == text) {
            Some(root) => Ok(root),
            None => bail!("there is no root '{text}'; give bookworm, trixie or forky"),
        }
    }
}

/// Takes out what only costs space or boot time in a container.
fn finish(tree: &Path) -> Result<()> {
    for waste in
        ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"]
    {
        cache::remove(&tree.join(waste))?;
        fs::create_dir_all(tree.join(waste))?;
    }
    fs::create_dir_all(tree.join("var/cache/apt/archives/partial"))?;
    fs::create_dir_all(tree.join("var/lib/apt/lists/partial"))?;
    // Forky's Release file may be past its date between two point releases of the archive.
    fs::write(
        tree.join("etc/apt/apt.conf.d/90glassbox-test"),
        "Acquire::Check-Valid-Until \"false\";\n",
    )?;
    let units = tree.join("etc/systemd/system");
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer"]
    {
        let mask = units.join(unit);
        if !mask.is_symlink() {
            std::os::unix::fs::symlink("/dev/null", mask)?;
        }
    }
    Ok(())
}
