//! The guest image: a Debian cloud kernel and an initial RAM disk with busybox and the QEMU guest agent.
//!
//! It boots in a few seconds without KVM and says on its console what happens to it; the lines and the kernel
//! words that it obeys are told at the head of `tests/guest/init`. Give its kernel `no_timer_check` as well: on a
//! busy machine it may else find that its emulated timer doesn't tick in time, and panic.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Root;
use crate::cache;
use crate::layer::put;
use crate::process::{output, stream};

/// Where the image is in a container: `vmlinuz`, `initrd`, `disk.qcow2`.
pub const IMAGES: &str = "/var/lib/glassbox/images";

/// What the guest's console says when it is up.
pub const READY: &str = "GLASSBOX-GUEST-READY";

/// What the guest's console says when its power button was pressed.
pub const POWERDOWN: &str = "GLASSBOX-GUEST-POWERDOWN";

/// Raised when this file changes the image in a way that its constants don't show.
const RECIPE_VERSION: u32 = 2;

const INIT: &str = include_str!("../guest/init");
const FETCH: &str = include_str!("../guest/fetch.sh");

/// The kernel's button driver sends this to acpid when the power button is pressed.
const POWER_BUTTON: &str = "\
#!/bin/sh
echo GLASSBOX-GUEST-POWERDOWN >/dev/console
poweroff -f
";

/// What the guest agent calls as shutdown(8).
const SHUTDOWN: &str = "\
#!/bin/sh
echo GLASSBOX-GUEST-SHUTDOWN \"$@\" >/dev/console
sync
case \" $* \" in *\" -r \"*) reboot -f ;; *) poweroff -f ;; esac
";

/// What udhcpc calls when it has an address.
const LEASE: &str = "\
#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip addr add \"$ip/${mask:-24}\" dev \"$interface\"
echo GLASSBOX-GUEST-IP \"$ip\" >/dev/console
";

/// Sets of modules: those always loaded, and those for a PCI class (named as sysfs writes it).
///
/// A kernel that lacks a module, or has it built in, goes without.
const MODULES: &[(&str, &[&str])] = &[
    (
        "base",
        &[
            "virtio_pci",
            "virtio_mmio",
            "virtio_blk",
            "virtio_console",
            "virtio_net",
            "virtio_balloon",
            "virtio_rng",
            "af_packet",
            "button",
            "evdev",
            "pvpanic",
            "pvpanic_mmio",
            "pvpanic_pci",
        ],
    ),
    // The classes of the PCI Code and ID Assignment Specification: SCSI, IDE, AHCI, NVMe, other storage (QEMU's
    // virtio-fs), Ethernet, other communication (a vsock).
    ("0x010000", &["virtio_scsi", "sd_mod", "sr_mod"]),
    ("0x010180", &["ata_piix", "sd_mod", "sr_mod"]),
    ("0x010601", &["ahci", "sd_mod", "sr_mod"]),
    ("0x010802", &["nvme"]),
    ("0x018000", &["virtiofs"]),
    ("0x020000", &["e1000", "e1000e"]),
    ("0x078000", &["vmw_vsock_virtio_transport"]),
];

/// What the VM of the test host loads to find its root; its udev loads the rest.
const VM_MODULES: &[(&str, &[&str])] =
    &[("base", &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"])];

/// Which of Debian's kernels for this architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// For guests: small, with drivers for virtual devices only.
    Cloud,
    /// For the VM of the test host: with drivers for USB and IOMMUs.
    Whole,
}

impl Flavour {
    fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Whole => "linux-image-amd64",
        }
    }

    fn modules(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Cloud => MODULES,
            Self::Whole => VM_MODULES,
        }
    }
}

/// The overlay layer that has the image in [`IMAGES`] for containers on `root`; made when the cache lacks it.
///
/// # Errors
///
/// When the image has to be made and the kernel cannot be fetched.
pub fn prepare(root: Root) -> Result<PathBuf> {
    Ok(artifact(root, Flavour::Cloud)?.join("layer"))
}

/// The folder of all modules of the guest's kernel, as they lie below `/usr/lib/modules/RELEASE`.
pub(crate) fn modules(root: Root) -> Result<PathBuf> {
    Ok(artifact(root, Flavour::Cloud)?.join("modules"))
}

/// A directory with `vmlinuz` and `initrd` that boot a whole system of `root` from `/dev/vda`; see
/// [`put_vm_modules`].
pub(crate) fn prepare_vm(root: Root) -> Result<PathBuf> {
    Ok(artifact(root, Flavour::Whole)?.join("layer").join(IMAGES.trim_start_matches('/')))
}

/// Puts all modules of the guest's kernel below `tree`, where a whole system looks for them.
pub(crate) fn put_modules(root: Root, tree: &Path) -> Result<()> {
    put_all(&modules(root)?, tree)
}

/// Puts all modules of the kernel of [`prepare_vm`] below `tree`.
pub(crate) fn put_vm_modules(root: Root, tree: &Path) -> Result<()> {
    put_all(&artifact(root, Flavour::Whole)?.join("modules"), tree)
}

fn put_all(modules: &Path, tree: &Path) -> Result<()> {
    let release = fs::read_to_string(modules.join("release"))?;
    let folder = tree.join("usr/lib/modules");
    fs::create_dir_all(&folder)?;
    let target = folder.join(release.trim()).display().to_string();
    output(["cp", "-r", &modules.display().to_string(), &target]).map(|_| ())
}

/// The image's directory in the cache: `layer`, and `modules` with all modules of the kernel.
fn artifact(root: Root, flavour: Flavour) -> Result<PathBuf> {
    let source = kernel_of(root);
    let sets = flavour.modules().iter();
    let sets: Vec<_> = sets.map(|(set, names)| format!("{set} {}", names.join(" "))).collect();
    let recipe = [INIT, FETCH, POWER_BUTTON, SHUTDOWN, LEASE, &sets.join("\n")].join("\n");
    let package = flavour.package();
    let recipe = format!("{RECIPE_VERSION} {source} {package} {recipe}");
    cache::artifact("guest", source.name(), &recipe, |unfinished| {
        eprintln!(
            "[guest] making the guest image from Debian {source}'s {package}, about half a minute"
        );
        build(source, flavour, unfinished)
    })
}

/// Whose kernel the guests of a container run.
///
/// bookworm's QEMU 7.2 crashes kernel 6.12 at random when it emulates the processor, so it gets its own 6.1.
fn kernel_of(root: Root) -> Root {
    match root {
        Root::Bookworm => Root::Bookworm,
        Root::Trixie | Root::Forky => Root::Trixie,
    }
}

/// The shell script that makes the empty disk beside the kernel, and gives the directory to the product's account
/// when there is one.
#[must_use]
pub fn disk_script() -> String {
    format!(
        "cd {IMAGES}; qemu-img create -q -f qcow2 disk.qcow2 64M
         if getent passwd glassbox-qemu >/dev/null; then chown glassbox-qemu: . disk.qcow2; fi"
    )
}

fn build(source: Root, flavour: Flavour, unfinished: &Path) -> Result<()> {
    let tree = source.prepare()?;
    let work = unfinished.join("work");
    let guest = work.join("guest");
    fs::create_dir_all(&guest)?;
    let log = unfinished.join("log");
    in_copy(&tree, &work, &log, &format!("package={}\n{FETCH}", flavour.package()))?;
    let root = guest.join("root");
    put(&root, "/init", INIT, 0o755)?;
    put(&root, "/bin/lease", LEASE, 0o755)?;
    put(&root, "/bin/shutdown-now", SHUTDOWN, 0o755)?;
    put(&root, "/etc/acpi/PWRF/00000080", POWER_BUTTON, 0o755)?;
    put(&root, "/etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)?;
    copy_modules(flavour.modules(), &guest.join("modules"), &root.join("lib/modules"))?;
    in_copy(
        &tree,
        &work,
        &log,
        "cd /guest/root; find . | cpio -o -H newc --quiet | gzip -1 >/guest/initrd",
    )?;
    let images = unfinished.join("layer").join(IMAGES.trim_start_matches('/'));
    fs::create_dir_all(&images)?;
    for file in ["vmlinuz", "initrd"] {
        fs::copy(guest.join(file), images.join(file))?;
    }
    fs::rename(guest.join("modules"), unfinished.join("modules"))?;
    cache::remove(&work)
}

/// Runs a script in a throw-away copy of a root, with `work/guest` as `/guest`.
pub(crate) fn in_copy(root: &Path, work: &Path, log: &Path, script: &str) -> Result<()> {
    for part in ["upper", "overlay", "tree"] {
        fs::create_dir_all(work.join(part))?;
    }
    // The mounts are in a namespace of their own and vanish with it. Where no overlay can be mounted (the
    // machine is itself on one) the root is copied. cpio is installed by the first script, so the copy is shared.
    let enter = "\
cd \"$2\"
mount -t overlay -o \"lowerdir=$1,upperdir=upper,workdir=overlay\" overlay tree || test -e tree/usr || cp -a \"$1/.\" tree
mkdir -p tree/guest
mount --bind guest tree/guest
mount -t proc proc tree/proc
cp /etc/resolv.conf tree/etc/resolv.conf
exec chroot tree /bin/sh -euc \"$3\"";
    let root = root.to_str().context("the cache's path is UTF-8")?;
    let work = work.to_str().context("the cache's path is UTF-8")?;
    let words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", enter, "sh"];
    stream("guest", log, words.into_iter().chain([root, work, script]))
}

/// Copies the modules of all sets with what they depend on, and writes each set's list in loading order.
fn copy_modules(sets: &[(&str, &[&str])], from: &Path, to: &Path) -> Result<()> {
    let dependencies = fs::read_to_string(from.join("modules.dep"))
        .with_context(|| format!("{}: depmod made no modules.dep", from.display()))?;
    fs::create_dir_all(to)?;
    for (set, names) in sets {
        let paths = load_order(&dependencies, names);
        let mut list = String::new();
        for path in &paths {
            fs::copy(from.join(path), to.join(file_name(path)))?;
            list.push_str(file_name(path));
            list.push('\n');
        }
        fs::write(to.join(set), list)?;
    }
    Ok(())
}

/// The paths of modules and of what they depend on, dependencies first, from a modules.dep(5).
fn load_order<'a>(dependencies: &'a str, names: &[&str]) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for name in names {
        // A module's file may be written with '-' where its name has '_'.
        let line =
            dependencies.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| {
                file_name(path).trim_end_matches(".ko").replace('-', "_") == name.replace('-', "_")
            });
        let Some((path, needs)) = line else { continue };
        // modules.dep lists the needs of the needs too, the one to be loaded first last.
        for path in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(path) {
                order.push(path);
            }
        }
    }
    order
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need() {
        let dependencies = "\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
";
        let order = load_order(dependencies, &["virtio_rng", "absent", "virtio"]);
        let names: Vec<&str> = order.into_iter().map(file_name).collect();
        assert_eq!(names, ["virtio.ko", "virtio_ring.ko", "virtio-rng.ko"]);
    }
}
