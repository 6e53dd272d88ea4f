//! A host that is a virtual machine, for what containers cannot have: a kernel of its own, with modules and with
//! every controller of control groups version 2.
//!
//! It goes on from a saved state, half a second after it is asked for, with Debian trixie, its systemd running and
//! the guest image in place. The product is not in the saved state: it comes on a second disk and is installed as
//! an administrator would, so that a new build needs no new state. All is emulated, on two CPUs; a guest in it is
//! emulated twice, and takes ten times as long as elsewhere.

mod image;
mod machine;
mod monitor;
mod ports;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};

pub(crate) use ports::Ports;

use self::machine::Machine;
use crate::process::output;
use crate::state::State;
use crate::{Host, Root, cgroups, guest, install, packages};

/// Numbers the VMs of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Host {
    /// A VM with the product and the guest image. Its `path`, `reboot` and `stop` are those of containers only.
    ///
    /// # Errors
    ///
    /// When the product doesn't build, or the VM has to be made and cannot.
    pub fn restore() -> Result<Self> {
        packages::require(&[("setpriv", "util-linux")])?;
        install::build()?;
        let saved = image::prepare()?;
        State::reap();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vm-{}-{number}", std::process::id());
        let state = State::create(&name, Root::Trixie, false)?;
        fs::create_dir_all(state.scratch())?;
        pack_product(&state.directory().join("product"), &state.scratch())?;
        let groups = cgroups::create(&name)?;
        state.remember_groups(&groups)?;
        let root = Root::Trixie.prepare()?;
        let machine = Machine::restore(&root, &saved, &state.scratch(), &groups)?;
        state.remember_processes(machine.qemu.id(), machine.qemu.id())?;
        let ports = machine.ports()?;
        let host = Self::of_vm(Root::Trixie, state, machine.qemu, ports);
        host.install_product()?;
        Ok(host)
    }

    /// Unpacks the product of the second disk and does what `make install` says is to be done then.
    fn install_product(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        // The VM's clock stood still while it was saved. The kernel looked for partitions on an empty disk and
        // remembers its first pages, so they are read past its cache.
        self.sh(&format!(
            "date --set=@{now} >/dev/null
             dd if=/dev/vdb bs=1M iflag=direct status=none |
                 tar --extract --directory=/ --keep-directory-symlink
             systemd-sysusers
             systemd-tmpfiles --create
             systemctl daemon-reload
             systemctl reload dbus
             chown glassbox-qemu: {images} {images}/disk.qcow2",
            images = guest::IMAGES
        ))
        .map(|_| ())
    }
}

/// Makes the second disk: an archive of what `make install` installs, without the programs' symbols.
fn pack_product(staged: &Path, scratch: &Path) -> Result<()> {
    install::stage(staged)?;
    let disk = scratch.join(machine::PRODUCT);
    let [from, to] = [staged, &disk].map(|path| path.display().to_string());
    let strip = "find \"$1\" -type f -perm -0100 -exec strip {} + 2>/dev/null || true";
    output(["/bin/sh", "-c", strip, "sh", &from])?;
    output(["tar", "--create", "--file", &to, "--directory", &from, "."])?;
    let disk = File::options().write(true).open(&disk)?;
    disk.set_len(machine::PRODUCT_SIZE).context("the product's disk cannot be made")
}
