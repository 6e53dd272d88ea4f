//! The file descriptors that a plan wants: made or opened here, inherited by QEMU.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context;
use qemu::{Access, FdKind, LaunchPlan};

use crate::provide::make_folder;

/// The file descriptors of the plan in the order of their numbers, and the shim's end of its monitor.
pub(crate) fn open(plan: &LaunchPlan) -> anyhow::Result<(Vec<OwnedFd>, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let mut monitor = Some(theirs);
    let mut fds = Vec::new();
    for passed in &plan.fds {
        fds.push(match &passed.kind {
            FdKind::Tap { .. } | FdKind::MacVtap { .. } | FdKind::Vsock { .. } => {
                anyhow::bail!("the plan has a device that was to be refused before")
            }
            FdKind::ShimMonitor => {
                monitor.take().context("the plan has two monitors of the shim")?.into()
            }
            FdKind::Listener { path } => {
                listener(Path::new(path)).with_context(|| path.clone())?.into()
            }
            FdKind::Output { path, truncate } => {
                output(Path::new(path), *truncate).with_context(|| path.clone())?.into()
            }
            FdKind::Device { paths, access } => {
                device(paths, *access).with_context(|| paths.join(" or "))?.into()
            }
            FdKind::Connection { path } => {
                UnixStream::connect(path).with_context(|| path.clone())?.into()
            }
        });
    }
    Ok((fds, ours))
}

fn listener(path: &Path) -> std::io::Result<UnixListener> {
    make_folder(path, 0o700)?;
    UnixListener::bind(path)
}

/// The first of these files that exists.
fn device(paths: &[String], access: Access) -> std::io::Result<File> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for path in paths {
        let read = access != Access::Write;
        match File::options().read(read).write(access != Access::Read).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => last = error,
            opened => return opened,
        }
    }
    Err(last)
}

/// A log of the guest's, which only its account reads.
fn output(path: &Path, truncate: bool) -> std::io::Result<File> {
    make_folder(path, 0o750)?;
    let file = File::options().create(true).append(true).mode(0o640).open(path)?;
    if truncate {
        file.set_len(0)?;
    }
    Ok(file)
}
