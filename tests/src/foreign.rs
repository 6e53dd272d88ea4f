//! Guest images of other architectures, which QEMU emulates: a Debian kernel, busybox and a few lines of init.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache;
use crate::guest::{IMAGES, in_copy};
use crate::layer::put;
use crate::{Root, package_layer};

const INIT: &str = include_str!("../guest/init-foreign");
const FETCH: &str = include_str!("../guest/fetch-foreign.sh");

/// An architecture that is not the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// ARM's with 64 bits.
    Aarch64,
    /// RISC-V with 64 bits.
    Riscv64,
}

impl Foreign {
    /// The name in libvirt's and in the kernel's spelling.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// Debian's names of the architecture, of its kernel and of its QEMU.
    fn debian(self) -> [&'static str; 3] {
        match self {
            Self::Aarch64 => ["arm64", "linux-image-cloud-arm64", "qemu-system-arm"],
            Self::Riscv64 => ["riscv64", "linux-image-riscv64", "qemu-system-riscv"],
        }
    }

    /// The layers that have the QEMU, and `vmlinuz` and `initrd` in [`IMAGES`]; made when the cache lacks them.
    ///
    /// The images are trixie's on all roots: RISC-V is part of Debian since then.
    pub(crate) fn prepare(self, root: Root) -> Result<[PathBuf; 2]> {
        let [arch, kernel, qemu] = self.debian();
        let recipe = [INIT, FETCH, arch, kernel].join("\n");
        let image = cache::artifact("guest", self.name(), &recipe, |unfinished| {
            eprintln!("[guest] making the guest image from Debian's kernel for {arch}");
            self.build(unfinished)
        })?;
        Ok([package_layer::prepare(root, qemu, &[qemu])?, image.join("layer")])
    }

    fn build(self, unfinished: &Path) -> Result<()> {
        let [arch, kernel, _] = self.debian();
        let work = unfinished.join("work");
        let guest = work.join("guest");
        put(&guest.join("root"), "/init", INIT, 0o755)?;
        let script = format!("arch={arch}\nkernel={kernel}\n{FETCH}");
        in_copy(&Root::Trixie.prepare()?, &work, &unfinished.join("log"), &script)?;
        let images = unfinished.join("layer").join(IMAGES.trim_start_matches('/'));
        fs::create_dir_all(&images)?;
        for file in ["vmlinuz", "initrd"] {
            fs::copy(guest.join(file), images.join(file))?;
        }
        cache::remove(&work)
    }
}
