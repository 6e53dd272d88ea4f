//! The saved VM: a disk with Debian trixie on it, and the state of a machine that has booted from it.
//!
//! Booting takes a quarter of a minute, so it is done once; each test goes on from the saved state. QEMU takes a
//! state back only with the machine, the disk and the kernel with which it was saved, so all of them are one
//! artifact of the cache.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{self, Disk, Machine};
use super::ports;
use crate::layer::{self, put};
use crate::{Root, cache, guest, package_layer, packages, system_guest};

/// Raised when this file changes the VM in a way that the recipe's text doesn't show.
const RECIPE_VERSION: u32 = 1;

/// How long the VM may take to boot on a loaded machine; alone it takes a quarter of a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

const AGENT: &str = include_str!("../../vm/agent");
const AGENT_UNIT: &str = include_str!("../../vm/agent@.service");

/// The files of a saved VM in its directory.
pub(crate) const DISK: &str = "disk.ext4";
pub(crate) const STATE: &str = "state";

/// The directory of the saved VM, made when the cache lacks it (about a minute).
pub(crate) fn prepare() -> Result<PathBuf> {
    let root = Root::Trixie.prepare()?;
    let guest = guest::prepare(Root::Trixie)?;
    let host = layer::prepare()?;
    let kernel = guest::prepare_vm(Root::Trixie)?;
    let modules = package_layer::prepare(Root::Trixie, "vm", &["kmod"])?;
    let layers = [&host, &guest, &modules, &root].map(|layer| layer.display().to_string());
    let recipe = format!(
        "{RECIPE_VERSION} {layers:?} {kernel:?} {AGENT} {AGENT_UNIT} {}",
        machine::recipe()
    );
    cache::artifact("vm", "trixie", &recipe, |unfinished| {
        eprintln!("[vm] making a virtual machine with Debian trixie, about a minute");
        packages::require(&[("mke2fs", "e2fsprogs")])?;
        for file in ["vmlinuz", "initrd"] {
            fs::copy(kernel.join(file), unfinished.join(file))?;
        }
        make_disk(unfinished, &layers)?;
        save(&root, unfinished)
    })
}

/// A file system of all layers and of the VM's own files.
fn make_disk(unfinished: &Path, layers: &[String]) -> Result<()> {
    let own = unfinished.join("own");
    put(&own, "/usr/lib/glassbox-test/agent", AGENT, 0o755)?;
    put(&own, "/etc/systemd/system/agent@.service", AGENT_UNIT, 0o644)?;
    put(&own, "/etc/hostname", "vm\n", 0o644)?;
    put(&own, "/etc/machine-id", "6762766d6762766d6762766d6762766d\n", 0o444)?;
    let wanted = own.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    for port in 1..=ports::COUNT {
        symlink("../agent@.service", wanted.join(format!("agent@{port}.service")))?;
    }
    guest::put_vm_modules(Root::Trixie, &own)?;
    let lower = format!("{}:{}", own.display(), layers.join(":"));
    system_guest::make_disk(&lower, &unfinished.join(DISK), unfinished)?;
    cache::remove(&own)
}

/// Boots the VM once and saves its state.
fn save(root: &Path, unfinished: &Path) -> Result<()> {
    let own = unfinished.join("run");
    fs::create_dir(&own)?;
    File::create(own.join(machine::PRODUCT))?.set_len(machine::PRODUCT_SIZE)?;
    let mut machine = Machine::start(root, unfinished, &own, Disk::Saved, &[])?;
    let ports = machine.ports()?;
    let up = b"systemctl is-system-running --wait; systemctl --failed --no-legend --plain";
    let answer = ports.run(up, b"", BOOT_LIMIT).with_context(|| machine.console())?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    ensure!(said.trim() == "running", "the VM is not up: {said}\n{}", machine.console());
    let script = format!("set -eu\n{}\nsync", guest::disk_script());
    let answer = ports.run(script.as_bytes(), b"", BOOT_LIMIT)?;
    ensure!(answer.status == 0, "{}", String::from_utf8_lossy(&answer.stderr));
    // The ports are closed first, so that those who restore the state find nobody at them.
    drop(ports);
    machine.save()?;
    cache::remove(&own)
}
