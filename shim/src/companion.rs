//! `--companion`: a program beside a guest, such as swtpm, as a service of its own.
//!
//! ```text
//! ExecStartPre=+glassbox-qemu --companion web:fs0 --hand-over    hand_over: plans the guest, finds the program in it
//!    | systemd's file descriptor store
//! ExecStart=glassbox-qemu --companion web:fs0                    serve: makes the socket, becomes the program
//! ExecStartPost=glassbox-qemu --companion web:vsock0 --listening await_socket: for a program that makes it by itself
//! ```
//!
//! The definition stays with the privileged step, for it may have passwords. The program runs under the guest's
//! account in a sandbox of its own, and its unit is started before the guest's and stopped after it
//! (see glassbox-generator).

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use domain::UnitInstance;
use nix::unistd::{AccessFlags, access};
use qemu::{Access, Helper, HelperInput, HostFile, Invocation, Service};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use crate::asked::{Asked, named_by};
use crate::definition::{self, Named, Scope};
use crate::hand_over::{sealed, settle, store};
use crate::handed::{PREFIX, forget};
use crate::inheritance::Inheritance;
use crate::prepare::Prepared;
use crate::{credentials, host, host_files, log, prepare, sys};

/// The name under which the service manager keeps what is to be run.
const ORDER: &str = "glassbox.companion";

/// Where the folders of guests are, each with one folder for each of its companions (`RuntimeDirectory=`).
const FOLDER: &str = "/run/glassbox/companion";

/// What a companion's socket is called there.
const SOCKET: &str = "socket";

/// How often it is looked whether a program listens that tells nobody.
const GLANCE: Duration = Duration::from_millis(20);

/// The folder of a guest's companions.
pub(crate) fn folder(guest: &UnitInstance) -> String {
    format!("{FOLDER}/{}", guest.directory())
}

/// The unit of a companion.
pub(crate) fn unit(helper: &Helper, guest: &UnitInstance) -> String {
    format!("{}@{guest}:{}.service", helper.service.as_str(), helper.device)
}

/// The largest file that a program is handed: a key, or a list of keys.
const LARGEST_INPUT: u64 = 256 << 10;

/// Which companion of which guest is meant: `web:fs0`, the instance of its unit.
///
/// # Errors
/// When there is no device in it, or no name of a guest.
pub(crate) fn parse(instance: &str) -> Result<(Named, String), String> {
    let (guest, device) = instance
        .rsplit_once(':')
        .ok_or_else(|| format!("--companion {instance}: give a guest and a device, web:fs0"))?;
    Ok((named_by(guest, "--companion", Scope::System)?, device.to_owned()))
}

/// What a companion's service is to run.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    /// What runs, and ends, before.
    before: Vec<Invocation>,
    program: Invocation,
    /// What to do where there is no such program.
    advice: String,
    /// Where a socket is made that the program finds listening.
    socket: Option<String>,
    /// Whether the environment tells the program of it.
    activated: bool,
    /// What it reads from file descriptors.
    inputs: Vec<Input>,
    files: Vec<NeededFile>,
}

/// What a program reads from a file descriptor.
#[derive(Debug, Serialize, Deserialize)]
enum Input {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A credential of the companion's own unit.
    Credential {
        name: String,
        /// Where it is asked for: `web.xml:14:7: /domain/devices/disk/source/auth`.
        told: String,
    },
}

/// A file or folder that the program opens.
#[derive(Debug, Serialize, Deserialize)]
struct NeededFile {
    path: String,
    written: bool,
    /// What a message about it begins with: `web.xml:14:7: /domain/devices/filesystem/source: '/srv'`.
    told: String,
}

/// The privileged step: plans the guest and hands over what the service is to run, or why there is nothing.
///
/// # Errors
/// When there is no service manager to hand it to.
pub(crate) fn hand_over(asked: &Asked, device: &str) -> anyhow::Result<()> {
    host::enter().context("the host's namespaces cannot be entered; run this as root")?;
    let order = order(asked, device);
    let bytes = serde_json::to_vec(&order).context("the order")?;
    store(ORDER, sealed(&bytes)?)?;
    settle().context("the service manager does not answer")
}

fn order(asked: &Asked, device: &str) -> Result<Order, String> {
    let definition = definition::read(&asked.source).map_err(|error| error.to_string())?;
    // The guest's own unit has one voice for all that is wrong with a definition.
    let refused = || {
        let file = &definition.file;
        format!("{file}: the guest is refused; `glassbox-qemu --check {file}` says why")
    };
    let prepared = prepare::foresee(asked, &definition).ok_or_else(refused)?;
    let helper = prepared.plan.helpers.iter().find(|helper| helper.device == device);
    let absent = || format!("{}: there is no '{device}' that a program serves", definition.file);
    Order::of(helper.ok_or_else(absent)?, &prepared)
}

impl Order {
    fn of(helper: &Helper, prepared: &Prepared) -> Result<Self, String> {
        let files = helper.files.iter().map(|file| NeededFile {
            path: file.path.clone(),
            written: file.access != Access::Read,
            told: file.place.refused(format!("'{}'", file.path)).in_file(&prepared.file),
        });
        let inputs = helper.inputs.iter().map(|input| Input::of(input, &prepared.file));
        Ok(Self {
            before: helper.before.clone(),
            program: helper.program.clone(),
            advice: advice(helper.service).to_owned(),
            socket: helper.service.listener().map(|_| helper.socket.clone()),
            activated: helper.service.is_activated(),
            inputs: inputs.collect::<Result<_, _>>()?,
            files: files.collect(),
        })
    }
}

impl Input {
    /// Root reads a file, such as a key, so that the guest's account need not be allowed to.
    fn of(input: &HelperInput, definition: &str) -> Result<Self, String> {
        match input {
            HelperInput::Text(text) => Ok(Self::Bytes(text.clone().into_bytes())),
            HelperInput::File(HostFile { path, place, .. }) => {
                let refused = |error: io::Error| {
                    let what = format!("'{path}' cannot be read: {error}; correct the path");
                    place.refused(what).in_file(definition)
                };
                read_bounded(path).map(Self::Bytes).map_err(refused)
            }
            HelperInput::Credential { name, place } => {
                let what = format!(
                    "the unit has no credential '{name}'; put the secret into /etc/credstore/{name}, or give the \
                     unit LoadCredential= or SetCredential="
                );
                Ok(Self::Credential {
                    name: name.clone(),
                    told: place.refused(what).in_file(definition),
                })
            }
        }
    }

    /// A file without a name that holds it.
    fn open(&self) -> anyhow::Result<OwnedFd> {
        match self {
            Self::Bytes(bytes) => sealed(bytes),
            Self::Credential { name, told } => {
                let folder = credentials::directory();
                let bytes = folder.and_then(|folder| std::fs::read(folder.join(name)).ok());
                sealed(&bytes.with_context(|| told.clone())?)
            }
        }
    }
}

fn read_bounded(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_INPUT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_INPUT {
        return Err(io::Error::other(format!("it has more than {LARGEST_INPUT} bytes")));
    }
    Ok(bytes)
}

/// The service itself: becomes the program.
///
/// # Errors
/// What was handed over instead, or what keeps the program from running.
pub(crate) fn serve() -> anyhow::Result<Infallible> {
    let mut inheritance = Inheritance::take(&[])?;
    let handed = inheritance.extract(PREFIX).remove(ORDER);
    let handed = handed.context("nothing was handed over; this is for units such as swtpm@")?;
    forget(ORDER)?;
    let order: Result<Order, String> =
        serde_json::from_reader(File::from(handed)).context(ORDER)?;
    let order = order.map_err(anyhow::Error::msg)?;
    order.files.iter().try_for_each(usable)?;
    order.before.iter().try_for_each(run)?;
    let inputs = order.inputs.iter().map(Input::open).collect::<anyhow::Result<Vec<_>>>()?;
    let listener = order.socket.as_deref().map(listen).transpose()?;
    if listener.is_some() {
        // QEMU may connect from now on: the kernel has it wait until the program accepts.
        sd_notify::notify(&[NotifyState::Ready])?;
    }
    let activated = order.activated && listener.is_some();
    let fds = listener.map(OwnedFd::from).into_iter().chain(inputs).collect();
    let error = sys::become_program(&order.program, fds, activated);
    bail!("{} cannot be run: {error}; {}", order.program.program, order.advice)
}

/// Waits until the program of a companion's service has made the socket that it makes by itself, and so listens.
///
/// # Errors
/// When the program has ended.
pub(crate) fn await_socket(instance: &str) -> anyhow::Result<()> {
    let (guest, device) = parse(instance).map_err(anyhow::Error::msg)?;
    let folder = folder(&UnitInstance::from(&guest.name));
    let socket = Path::new(&folder).join(device).join(SOCKET);
    // systemd tells it to the commands of a unit whose main process it has started (systemd.exec(5)).
    let program = std::env::var("MAINPID").context("this is for ExecStartPost= of a unit")?;
    let program = Path::new("/proc").join(program);
    while !socket.exists() {
        ensure!(program.exists(), "the program has ended; its own messages say why");
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

fn advice(service: Service) -> &'static str {
    match service {
        Service::Vsock => "install it, or load the module vhost_vsock",
        Service::Swtpm
        | Service::Virtiofsd
        | Service::Passt
        | Service::Reservations
        | Service::Nbdkit => "install it",
    }
}

fn usable(file: &NeededFile) -> anyhow::Result<()> {
    let mode = if file.written { AccessFlags::W_OK } else { AccessFlags::empty() };
    let asked = access(Path::new(&file.path), mode | AccessFlags::R_OK);
    let (told, account) = (&file.told, host_files::own_account());
    match asked {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::ENOENT) => bail!("{told} does not exist; create it"),
        // It can be read, and what the guest writes is refused file by file.
        Err(_) if file.written && access(Path::new(&file.path), AccessFlags::R_OK).is_ok() => {
            log::warning(format_args!("{told} may not be written by {account}"));
            Ok(())
        }
        Err(error) => bail!("{told} may not be opened by {account}: {error}"),
    }
}

fn run(invocation: &Invocation) -> anyhow::Result<()> {
    let Invocation { program, .. } = invocation;
    let status = sys::run(invocation)
        .with_context(|| format!("{program} cannot be run; install it, of swtpm-tools"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

fn listen(path: &str) -> anyhow::Result<UnixListener> {
    UnixListener::bind(path).with_context(|| {
        format!("{path}: no socket can be made; run `systemctl daemon-reload` if the guest is new")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_guest_and_a_device() {
        let parsed = |text| parse(text).map(|(guest, device)| (guest.name.to_string(), device));
        assert_eq!(parsed("web:fs0"), Ok(("web".to_owned(), "fs0".to_owned())));
        assert_eq!(parsed(r"my\x20vm:1:net2"), Ok(("my vm:1".to_owned(), "net2".to_owned())));
        assert_eq!(parsed("worker@3:tpm0"), Ok(("worker@3".to_owned(), "tpm0".to_owned())));
        assert_eq!(
            parsed("web"),
            Err("--companion web: give a guest and a device, web:fs0".to_owned())
        );
        assert!(parsed(":fs0").is_err());
    }
}
