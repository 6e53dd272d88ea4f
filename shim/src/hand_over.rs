//! `--hand-over`: the privileged step of a unit's start, run as root before the shim and outside of its sandbox.
//!
//! It plans the guest as the shim will, opens what the shim and QEMU have no right to, and hands the file descriptors
//! to the service manager, which passes them to the shim. No image changes its owner: one of root's is open to
//! the one guest that has it in its definition, for as long as that guest runs.
//!
//! It starts no program, not even to ask QEMU something, and refuses nothing: what cannot be opened is told to the
//! shim, which knows whether its guest needs it, and has one voice for all that is wrong with a start.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use domain::{Fault, UnitInstance};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, umask};
use qemu::{GuestReady, LaunchPlan, ReadyAt};
use sd_notify::NotifyState;

use crate::asked::Asked;
use crate::definition::{self, Definition};
use crate::handed::{self, Notes, forget};
use crate::lending::Account;
use crate::live::LiveFile;
use crate::prepare::{self, Prepared};
use crate::provide::{copy, make_folder};
use crate::runtime_dir::is_units_own;
use crate::service_manager::unit_stop_timeout;
use crate::tap::Taps;
use crate::vsock::HostPort;
use crate::{drivers, fds, host, host_files, huge_pages, lending, log, runtime_dir};

/// Where it is noted which network devices are to be removed when the guest has ended.
const LINKS: &str = "/run/glassbox/links";

/// Opens what the guest needs, and hands it to the service manager.
///
/// # Errors
/// When there is no service manager to hand it to, or it cannot be reached.
pub(crate) fn hand_over(asked: &Asked) -> anyhow::Result<()> {
    host::enter().context("the host's namespaces cannot be entered; run this as root")?;
    // The unit's own is for what the guest makes. Logs are for those to read who read others.
    umask(Mode::from_bits_truncate(0o027));
    let mut handing = Handing::default();
    for (name, folder) in [(handed::RUN, host::USUAL_RUN), (handed::PROC, "/proc")] {
        store(name, File::open(folder).context(folder)?)?;
    }
    match definition::read(&asked.source) {
        Ok(definition) => {
            store(handed::DEFINITION, sealed(&packed(&definition))?)?;
            if let Some(prepared) = prepare::foresee(asked, &definition) {
                handing.open_all(&prepared)?;
            }
        }
        Err(error) => handing.fault(handed::NO_DEFINITION, error.to_string()),
    }
    handing.finish()
}

/// Removes what [`hand_over`] made for the guest and the kernel does not remove by itself.
///
/// # Errors
/// When the host's devices cannot be looked at.
pub(crate) fn take_back(asked: &Asked) -> anyhow::Result<()> {
    host::enter().context("the host's namespaces cannot be entered; run this as root")?;
    let definition::Source::Named(guest) = &asked.source else { return Ok(()) };
    let instance = UnitInstance::from(&guest.name);
    huge_pages::take_back(&instance);
    lending::take_back(&instance);
    drivers::give_back(&instance);
    LiveFile::of_system(&instance).remove().context("the live definition stays")?;
    let path = Path::new(LINKS).join(instance.directory());
    let names = match fs::read_to_string(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    for name in names.lines() {
        if let Err(error) = Taps::remove_macvtap(name) {
            log::warning(format_args!("the network device '{name}' stays: {error}"));
        }
    }
    fs::remove_file(&path).with_context(|| path.display().to_string())
}

/// What is handed over, and what cannot be.
#[derive(Debug, Default)]
struct Handing {
    notes: Notes,
}

impl Handing {
    /// Hands over what there is to tell as well, the last of all.
    fn finish(&mut self) -> anyhow::Result<()> {
        // Without a bus, as early at boot, the shim goes by the template's.
        self.notes.stop_timeout = unit_stop_timeout().ok();
        let notes = serde_json::to_vec(&self.notes).context("the notes")?;
        store(handed::NOTES, sealed(&notes)?)?;
        settle().context("the service manager does not answer")
    }

    fn open_all(&mut self, prepared: &Prepared) -> anyhow::Result<()> {
        if let Some(running) = &prepared.running {
            let live = LiveFile::of_system(&prepared.instance);
            let kept = live.write(&running.write());
            kept.with_context(|| live.path().display().to_string())?;
        }
        self.open_files(prepared)?;
        self.open_devices(prepared)?;
        self.open_ready(prepared)?;
        drivers::take(&prepared.plan, &prepared.instance);
        for (name, fault) in host_files::missing(&prepared.plan) {
            self.fault(&name, fault.in_file(&prepared.file));
        }
        if let Err(error) = lending::lend(&prepared.plan, &prepared.instance, account()) {
            log::warning(format_args!("devices are not lent to the guest: {error}"));
        }
        if let Err(error) = huge_pages::grant(&prepared.domain, &prepared.instance, account()) {
            log::warning(format_args!("large pages are not given to the guest: {error:#}"));
        }
        Ok(())
    }

    /// Images and firmware.
    fn open_files(&mut self, prepared: &Prepared) -> anyhow::Result<()> {
        let LaunchPlan { files, copies, .. } = &prepared.plan;
        // What is in the guest's own folders its account opens by itself, with the account's rights.
        let opened = files
            .iter()
            .filter(|file| !is_units_own(Path::new(&file.path)))
            .filter_map(|file| Some((file.descriptor.clone()?, host_files::open(file))));
        let copies = copies.iter().filter(|copied| !is_units_own(Path::new(&copied.path)));
        let copied = copies.map(|copied| {
            let open = copy(copied).and_then(|()| host_files::open_copy(copied));
            (copied.descriptor.clone(), open)
        });
        for (name, opened) in opened.chain(copied) {
            self.give_or_tell(&name, opened, &prepared.file)?;
        }
        Ok(())
    }

    /// Network devices, logs, sockets and other devices.
    fn open_devices(&mut self, prepared: &Prepared) -> anyhow::Result<()> {
        let plan = &prepared.plan;
        let labels = handed::labels(plan, &prepared.place.path);
        let mut taps = Taps::default();
        for (passed, label) in plan.fds.iter().zip(labels) {
            let Some(label) = label else { continue };
            match fds::open_one(&mut taps, &passed.kind) {
                Ok(fd) => store(&label, fd)?,
                Err(fds::OpenError::Device(fault)) => {
                    self.fault(&label, fault.in_file(&prepared.file));
                }
                Err(fds::OpenError::HandOver(told)) => self.fault(&label, told),
                Err(fds::OpenError::File(error)) => {
                    self.fault(&label, format!("{}: {error:#}", prepared.file));
                }
            }
        }
        self.notes.interfaces = taps.indexes().clone();
        let names: Vec<String> =
            taps.into_made().into_iter().map(crate::tap::MadeLink::leave).collect();
        note_links(&prepared.instance, &names)
    }

    /// Where the guest is heard; a sandbox has no sockets of this family. What fails is told by the shim, which
    /// fails as well.
    fn open_ready(&mut self, prepared: &Prepared) -> anyhow::Result<()> {
        match &prepared.plan.ready {
            Some(GuestReady { at: ReadyAt::Vsock { port, cid, .. }, .. }) => {
                match HostPort::listen(*port, *cid) {
                    Ok(port) => store(handed::READY, port),
                    Err(_) => Ok(()),
                }
            }
            // The shim listens there itself.
            Some(GuestReady {
                at: ReadyAt::Port { .. } | ReadyAt::VsockProgram { .. }, ..
            })
            | None => Ok(()),
        }
    }

    fn give_or_tell(
        &mut self,
        name: &str,
        opened: Result<File, Fault>,
        file: &str,
    ) -> anyhow::Result<()> {
        match opened {
            Ok(fd) => store(name, fd),
            Err(fault) => {
                self.fault(name, fault.in_file(file));
                Ok(())
            }
        }
    }

    fn fault(&mut self, name: &str, message: String) {
        self.notes.faults.insert(name.to_owned(), message);
    }
}

/// Stores a file descriptor with the service manager, in the place of one that an earlier start has left.
pub(crate) fn store(name: &str, fd: impl AsFd) -> anyhow::Result<()> {
    forget(name)?;
    let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    send(&states, fd.as_fd()).with_context(|| format!("'{name}' cannot be stored"))
}

fn send(states: &[NotifyState<'_>], fd: BorrowedFd<'_>) -> anyhow::Result<()> {
    anyhow::ensure!(
        std::env::var_os("NOTIFY_SOCKET").is_some(),
        "there is no service manager; this is for ExecStartPre= of a unit with NotifyAccess=exec"
    );
    Ok(sd_notify::notify_with_fds(states, &[fd])?)
}

/// Waits until the service manager has read all that was sent (`BARRIER=1` of sd_notify(3)): it starts the shim when
/// this process has ended, and reads its messages in between or not.
pub(crate) fn settle() -> anyhow::Result<()> {
    let (ours, theirs) = nix::unistd::pipe()?;
    send(&[NotifyState::Custom("BARRIER=1")], theirs.as_fd())?;
    drop(theirs);
    // Nothing is ever written: the end comes when the service manager closes its copy.
    File::from(ours).read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A file without a name that holds these bytes.
pub(crate) fn sealed(bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"glassbox", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A definition as [`handed::DEFINITION`] has it.
fn packed(definition: &Definition) -> Vec<u8> {
    [definition.file.as_bytes(), b"\0", &definition.bytes].concat()
}

/// Notes network devices beside those that are noted already.
pub(crate) fn note_links(instance: &UnitInstance, names: &[String]) -> anyhow::Result<()> {
    let path = Path::new(LINKS).join(instance.directory());
    if names.is_empty() {
        return Ok(());
    }
    make_folder(&path, 0o700).context(LINKS)?;
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    let file = File::options().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .with_context(|| path.display().to_string())
}

/// The account of the guest: who owns the directory that systemd made for it.
fn account() -> Option<Account> {
    let owner = fs::metadata(runtime_dir::granted("RUNTIME_DIRECTORY")?).ok()?;
    Some((owner.uid(), owner.gid()))
}
