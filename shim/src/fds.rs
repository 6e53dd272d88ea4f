//! The file descriptors that a plan wants: made or opened here, or the caller's; inherited by QEMU.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context;
use domain::Fault;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use qemu::{Access, FdKind, HostCache};

use crate::handed::{Handed, labels};
use crate::inheritance::Inheritance;
use crate::prepare::Prepared;
use crate::provide::make_folder;
use crate::tap::{MadeLink, Taps};
use crate::{credentials, vsock};

/// What a guest's start opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file descriptors of the plan in the order of their numbers.
    pub(crate) fds: Vec<OwnedFd>,
    /// The shim's end of its monitor.
    pub(crate) monitor: UnixStream,
    /// Network devices to be removed when the guest has ended.
    pub(crate) links: Vec<MadeLink>,
}

/// Why a start cannot have its file descriptors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A device of the host that an element of the definition names.
    #[error("{0}")]
    Device(Fault),
    /// What the unit's privileged step says of one that it could not open.
    #[error("{0}")]
    HandOver(String),
    /// A socket, a log or another file.
    #[error(transparent)]
    File(#[from] anyhow::Error),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Device(fault)
    }
}

/// Opens what the plan wants.
///
/// In a sandbox the shim takes what was handed over and makes only the rest.
pub(crate) fn open(prepared: &Prepared, given: Sources<'_>) -> Result<Opened, OpenError> {
    let plan = &prepared.plan;
    let Sources { inheritance, mut handed, daemon } = given;
    let mut taps = Taps::default();
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let (mut monitor, mut daemon) = (Some(theirs), Some(daemon));
    let mut fds = Vec::new();
    for (passed, label) in plan.fds.iter().zip(labels(plan, &prepared.place.path)) {
        fds.push(match (&passed.kind, label, &mut handed) {
            (FdKind::ShimMonitor, ..) => {
                monitor.take().context("the plan has two monitors of the shim")?.into()
            }
            (FdKind::DaemonMonitor, ..) => {
                daemon.take().context("the plan has two monitors of the daemon")?.into()
            }
            (FdKind::Inherited { name, index, cache }, ..) => {
                let released = inheritance.release(name, *index);
                let fd = released
                    .with_context(|| format!("the file descriptor '{name}' is used twice"))?;
                if let Some(cache) = cache {
                    use_cache(&fd, cache)?;
                }
                fd
            }
            (_, Some(label), Some(handed)) => take(handed, &label)?,
            (kind, ..) => open_one(&mut taps, kind)?,
        });
    }
    Ok(Opened { fds, monitor: ours, links: taps.into_made() })
}

/// Where file descriptors are that this process did not open.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// What the caller opened.
    pub(crate) inheritance: &'a mut Inheritance,
    /// What the unit's privileged step opened.
    pub(crate) handed: Option<&'a mut Handed>,
    /// QEMU's end of the management daemon's monitor.
    pub(crate) daemon: UnixStream,
}

/// Has what goes to and from an open image go by the host's cache or not, as QEMU will want it.
pub(crate) fn use_cache(fd: &OwnedFd, wanted: &HostCache) -> Result<(), Fault> {
    let set = || {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        if flags.contains(OFlag::O_DIRECT) == wanted.bypassed {
            return Ok(());
        }
        fcntl(fd, FcntlArg::F_SETFL(flags ^ OFlag::O_DIRECT)).map(drop)
    };
    set().map_err(|error: nix::Error| {
        wanted.place.refused(format!(
            "the image cannot be used past the host's cache: {error}; its file system may not be able to, use a cache \
             other than 'none' and 'directsync'"
        ))
    })
}

fn take(handed: &mut Handed, label: &str) -> Result<OwnedFd, OpenError> {
    if let Some(told) = handed.fault(label) {
        return Err(OpenError::HandOver(told.to_owned()));
    }
    let missing = || format!("'{label}' was not handed over; see the unit's log");
    Ok(handed.release(label).with_context(missing)?)
}

/// Opens what one of the plan's file descriptors stands for.
pub(crate) fn open_one(taps: &mut Taps, kind: &FdKind) -> Result<OwnedFd, OpenError> {
    Ok(match kind {
        FdKind::Tap { interface, bridge, queue } => {
            taps.tap(interface, bridge.as_deref(), *queue)?
        }
        FdKind::MacVtap { interface, queue } => taps.macvtap(interface, *queue)?,
        FdKind::Vsock { cid, place } => vsock::open(*cid, place)?.into(),
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
        FdKind::Credential { file, form } => {
            credentials::open(file, form).with_context(|| file.clone())?
        }
        FdKind::ShimMonitor | FdKind::DaemonMonitor | FdKind::Inherited { .. } => {
            return Err(anyhow::anyhow!("it is not opened but made, or the caller's").into());
        }
    })
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
