//! From the command line to what a start needs: the domain, read, planned and checked against the host.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::net::TcpListener;
use std::path::Path;

use domain::{
    Domain, DomainUuid, Fault, Faults, Header, Place, Severity, UnitInstance, definition_text, tree,
};
use qemu::{Access, FdKind, HostFacts, HostFile, Launch, LaunchPlan, PassedPci};

use crate::definition::{self, Definition, DefinitionError, Source};
use crate::{identity, runtime_dir};

/// What a definition is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be looked at: what is printed depends on the file alone.
    Look,
    /// To be started.
    Start,
}

/// A guest that can be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The domain as the file has it, completed.
    pub(crate) domain: Domain,
    /// The domain's name as the name of its runtime directory.
    pub(crate) instance: UnitInstance,
    /// The UUID, derived if the file has none.
    pub(crate) uuid: DomainUuid,
    /// What to do.
    pub(crate) plan: LaunchPlan,
    /// How messages call the definition's file.
    pub(crate) file: String,
    /// The parts of the file that are left out of the guest, one line each.
    pub(crate) ignored: Vec<String>,
}

/// Why a guest cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// There is no definition to read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The definition has faults, one line each, with the file's name.
    #[error("{}", .0.join("\n"))]
    Faulty(Vec<String>),
    /// Files that the definition names cannot be used, one line each.
    #[error("{}", .0.join("\n"))]
    HostFiles(Vec<String>),
}

/// What a definition says, with everything that is wrong with it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The guest, if nothing was refused.
    pub(crate) prepared: Option<Prepared>,
    /// Refused parts, one line each.
    pub(crate) refused: Vec<String>,
    /// Parts left out, one line each.
    pub(crate) ignored: Vec<String>,
}

/// Reads and plans the guest.
///
/// # Errors
/// [`PrepareError::Definition`] or [`PrepareError::Faulty`].
pub(crate) fn prepare(source: &Source, purpose: Purpose) -> Result<Prepared, PrepareError> {
    let checked = check(source, purpose)?;
    match checked.prepared {
        Some(prepared) => Ok(prepared),
        None => Err(PrepareError::Faulty(checked.refused)),
    }
}

/// Reads and plans the guest, and keeps what is wrong with it.
///
/// # Errors
/// [`PrepareError::Definition`] when there is nothing to read.
pub(crate) fn check(source: &Source, purpose: Purpose) -> Result<Checked, PrepareError> {
    let definition = definition::read(source)?;
    let faults = Faults::new();
    let planned = plan(&definition, purpose, &faults);
    let (refused, ignored): (Vec<Fault>, Vec<Fault>) =
        faults.into_sorted().into_iter().partition(|fault| fault.severity == Severity::Refused);
    let lines = |faults: &[Fault]| {
        faults.iter().map(|fault| fault.in_file(&definition.file)).collect::<Vec<_>>()
    };
    let ignored = lines(&ignored);
    let prepared = planned.filter(|_| refused.is_empty()).map(|planned| Prepared {
        domain: planned.domain,
        instance: planned.instance,
        uuid: planned.uuid,
        plan: planned.plan,
        file: definition.file.clone(),
        ignored: ignored.clone(),
    });
    Ok(Checked { prepared, refused: lines(&refused), ignored })
}

struct Planned {
    domain: Domain,
    instance: UnitInstance,
    uuid: DomainUuid,
    plan: LaunchPlan,
}

fn plan(definition: &Definition, purpose: Purpose, faults: &Faults) -> Option<Planned> {
    let mut domain = domain(definition, faults)?;
    let instance = UnitInstance::from(&domain.name);
    let uuid = match domain.uuid.map_or_else(|| identity::uuid(&domain.name), Ok) {
        Ok(uuid) => *domain.uuid.insert(uuid),
        Err(error) => {
            faults.push(
                domain
                    .place
                    .refused(format!("<uuid> is missing and none can be made: {error}; add one")),
            );
            return None;
        }
    };
    let facts = host_facts(&instance, purpose);
    qemu::complete(&mut domain, &facts, faults);
    let launch = Launch { shim_monitor: true, ..Launch::default() };
    let plan = qemu::plan(&domain, &facts, &launch, faults)?;
    Some(Planned { domain, instance, uuid, plan })
}

fn domain(definition: &Definition, faults: &Faults) -> Option<Domain> {
    let root = match definition_text(&definition.bytes).and_then(tree::parse) {
        Ok(root) => root,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    if let Some(expected) = &definition.expected_name {
        // The header's own faults are found again by the whole domain's reader.
        let header = Header::read(&root, &Faults::new());
        header.misfiled(&root, expected).into_iter().for_each(|fault| faults.push(fault));
    }
    Domain::from_tree(&root, faults)
}

/// The facts of this host. The folders are those that systemd has given the unit, else the usual ones.
fn host_facts(instance: &UnitInstance, purpose: Purpose) -> HostFacts {
    let mut facts = HostFacts::local(instance.as_str());
    let guest = runtime_dir::locate(instance).display().to_string();
    facts.directories.channel = format!("{guest}/channel");
    facts.directories.memory = format!("{guest}/memory");
    facts.directories.passt = format!("{guest}/passt-");
    facts.network.vhost_net = Path::new("/dev/vhost-net").exists();
    facts.directories.guest = guest;
    if purpose == Purpose::Start {
        let displays = &mut facts.displays;
        displays.vnc_port = free_port(&displays.vnc_listen, displays.vnc_port);
    }
    if let Some(log) = runtime_dir::granted("LOGS_DIRECTORY") {
        facts.directories.log = log.display().to_string();
    }
    if let Some(state) = runtime_dir::granted("STATE_DIRECTORY") {
        facts.directories.nvram = format!("{}/nvram", state.display());
    }
    facts
}

/// The first TCP port from this one on that nobody listens on; the port itself when all are taken.
///
/// Another program can take it before QEMU does. QEMU then fails to start, and says so.
fn free_port(address: &str, first: u16) -> u16 {
    (first..=u16::MAX).find(|port| TcpListener::bind((address, *port)).is_ok()).unwrap_or(first)
}

/// Checks that the files which the plan names can be used by this account.
///
/// # Errors
/// [`PrepareError::HostFiles`], a line for each that cannot.
pub(crate) fn check_host_files(prepared: &Prepared) -> Result<(), PrepareError> {
    let plan = &prepared.plan;
    let files = plan.files.iter().filter_map(unusable);
    let pci = plan.pci_devices.iter().filter_map(unbound);
    let faults: Vec<String> =
        files.chain(pci).chain(unmade(plan)).map(|fault| fault.in_file(&prepared.file)).collect();
    if faults.is_empty() { Ok(()) } else { Err(PrepareError::HostFiles(faults)) }
}

fn unusable(wanted: &HostFile) -> Option<Fault> {
    let path = Path::new(&wanted.path);
    let opened = OpenOptions::new()
        .read(wanted.access != Access::Write)
        .write(wanted.access != Access::Read)
        .open(path);
    let error = opened.err()?;
    let kind = error.kind();
    let advice = if kind == io::ErrorKind::NotFound {
        "does not exist; create it or correct the path".to_owned()
    } else if kind == io::ErrorKind::PermissionDenied {
        format!(
            "may not be opened by {}; give it to that user, with its directories",
            own_account()
        )
    } else {
        format!("cannot be opened: {error}")
    };
    Some(wanted.place.refused(format!("'{}' {advice}", wanted.path)))
}

/// A PCI device of the host is the guest's only when VFIO drives it, which no account but root's can bring about.
fn unbound(device: &PassedPci) -> Option<Fault> {
    let address = device.address;
    let folder = format!("/sys/bus/pci/devices/{address}");
    if !Path::new(&folder).exists() {
        let what = format!("the host has no PCI device {address}; see `lspci -D`");
        return Some(device.place.refused(what));
    }
    let driver = std::fs::read_link(format!("{folder}/driver")).ok();
    let name = driver.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    if name.is_some_and(|name| name.contains("vfio")) {
        return None;
    }
    let name = name.unwrap_or("no driver");
    Some(device.place.refused(format!(
        "PCI device {address} belongs to {name}; run `driverctl set-override {address} vfio-pci`"
    )))
}

/// What a plan asks for that the shim cannot make yet.
fn unmade(plan: &LaunchPlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut refuse = |place: &Place, what: &str| {
        faults.push(place.refused(format!("{what} not supported yet by glassbox; remove it")));
    };
    for fd in &plan.fds {
        match &fd.kind {
            FdKind::Tap { interface, queue: 0, .. } | FdKind::MacVtap { interface, queue: 0 } => {
                let what = format!("type='{}' needs a tap device, which is", interface.kind());
                refuse(&interface.place, &what);
            }
            FdKind::Vsock { place, .. } => refuse(place, "a vsock is"),
            FdKind::Tap { .. }
            | FdKind::MacVtap { .. }
            | FdKind::Device { .. }
            | FdKind::Connection { .. }
            | FdKind::ShimMonitor
            | FdKind::Listener { .. }
            | FdKind::Output { .. } => {}
        }
    }
    // Such a program is to be a unit of its own beside the guest's, sandboxed and watched like it.
    for helper in &plan.helpers {
        refuse(&helper.place, &format!("the program {} beside the guest is", helper.program));
    }
    faults
}

fn own_account() -> String {
    let account = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(account).ok().flatten();
    user.map_or_else(|| format!("uid {account}"), |user| format!("user '{}'", user.name))
}
