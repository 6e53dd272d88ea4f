//! Whether what a plan names on the host is there for this account.
//!
//! QEMU would find out by itself, but its message would name neither the XML file nor the line.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use domain::devices::Interface;
use domain::{Fault, TemplateInstance};
use qemu::{Access, CopiedFile, FdKind, HostFile, LaunchPlan, PassedPci};

use crate::handed::{self, Handed};
use crate::prepare::{PrepareError, Prepared};
use crate::{companion, drivers, tap, vsock};

/// Checks that the files which the plan names can be used by this account.
///
/// In a sandbox most are opened already, and what could not be is told as it was seen outside.
///
/// # Errors
/// [`PrepareError::HostFiles`], a line for each that cannot.
pub(crate) fn check(prepared: &Prepared, handed: Option<&Handed>) -> Result<(), PrepareError> {
    let plan = &prepared.plan;
    let in_file = |fault: Fault| fault.in_file(&prepared.file);
    let files: Vec<String> = match handed {
        None => plan.files.iter().filter_map(unusable).map(in_file).collect(),
        Some(handed) => handed_files(prepared, handed),
    };
    let pci = plan.pci_devices.iter().filter_map(unbound);
    let others = pci.chain(tapped(plan).flat_map(tap::not_done)).chain(unserved(prepared));
    let others = others.map(in_file);
    let faults: Vec<String> = files.into_iter().chain(others).collect();
    if faults.is_empty() { Ok(()) } else { Err(PrepareError::HostFiles(faults)) }
}

/// The account of the template of units, which is no guest's (`User=` of qemu@.service).
const NOBODYS: &str = "glassbox-guest";

/// Refuses a guest whose unit has no settings of its own: it would share its account with others, and have no limits.
///
/// # Errors
/// [`PrepareError::HostFiles`]: the service manager has not seen the definition yet.
pub(crate) fn check_account(prepared: &Prepared) -> Result<(), PrepareError> {
    if std::env::var("USER").as_deref() != Ok(NOBODYS) {
        return Ok(());
    }
    let file = &prepared.file;
    let what =
        "the service manager does not know the definition yet; run `systemctl daemon-reload`";
    let named = match TemplateInstance::of(&prepared.domain.name) {
        Some(_) => {
            " after naming this guest of a template by `systemctl enable` or by a link to it"
        }
        None => "",
    };
    Err(PrepareError::HostFiles(vec![format!("{file}: {what}{named}")]))
}

/// What is wrong with the files of a guest in a sandbox, of which others were opened outside of it.
fn handed_files(prepared: &Prepared, handed: &Handed) -> Vec<String> {
    let plan = &prepared.plan;
    let labels = handed::labels(plan, &prepared.place.path);
    let opened: Vec<&str> = plan
        .fds
        .iter()
        .zip(&labels)
        .filter(|(_, label)| label.as_ref().is_some_and(|label| handed.has(label)))
        .flat_map(|(passed, _)| devices(&passed.kind))
        .collect();
    let files = plan.files.iter().filter(|file| !opened.contains(&file.path.as_str()));
    let unusable = files.filter(|file| unusable(file).is_some());
    unusable
        .map(|file| match handed.fault(&seen_from_outside(file)) {
            Some(told) => told.to_owned(),
            None => invisible(file).in_file(&prepared.file),
        })
        .collect()
}

/// The devices that a file descriptor is opened of.
pub(crate) fn devices(kind: &FdKind) -> Vec<&str> {
    match kind {
        FdKind::Device { paths, .. } => paths.iter().map(String::as_str).collect(),
        FdKind::Vsock { .. } => vec![vsock::DEVICE],
        FdKind::Tap { .. }
        | FdKind::MacVtap { .. }
        | FdKind::Connection { .. }
        | FdKind::Credential { .. }
        | FdKind::Inherited { .. }
        | FdKind::ShimMonitor
        | FdKind::DaemonMonitor
        | FdKind::Listener { .. }
        | FdKind::Output { .. } => Vec::new(),
    }
}

/// The name under which the privileged step tells what is wrong with a file.
fn seen_from_outside(file: &HostFile) -> String {
    file.descriptor.clone().unwrap_or_else(|| format!("path {}", file.path))
}

/// A file that is there for root, and not in the guest's sandbox.
fn invisible(file: &HostFile) -> Fault {
    let verb = if file.access == Access::Read { "BindReadOnlyPaths" } else { "BindPaths" };
    let path = &file.path;
    file.place.refused(format!(
        "'{path}' may not be opened by {} in the unit's sandbox; give it to that user, and add {verb}={path} to a drop-in of the unit",
        own_account()
    ))
}

/// The files of a plan that QEMU opens by their paths and root cannot, with the names of [`seen_from_outside`].
pub(crate) fn missing(plan: &LaunchPlan) -> impl Iterator<Item = (String, Fault)> {
    let by_path = plan.files.iter().filter(|file| file.descriptor.is_none());
    by_path.filter_map(|file| Some((seen_from_outside(file), unusable(file)?)))
}

/// Opens a file as QEMU uses it.
pub(crate) fn open(wanted: &HostFile) -> Result<File, Fault> {
    opened(wanted).map_err(|error| cannot(wanted, &error))
}

/// Opens a file that was copied.
pub(crate) fn open_copy(copied: &CopiedFile) -> Result<File, Fault> {
    let CopiedFile { path, descriptor, place, .. } = copied;
    let (path, descriptor, place) = (path.clone(), Some(descriptor.clone()), place.clone());
    open(&HostFile { path, access: Access::ReadWrite, descriptor, place })
}

/// What is wrong with a file that is to be used.
pub(crate) fn unusable(wanted: &HostFile) -> Option<Fault> {
    opened(wanted).err().map(|error| cannot(wanted, &error))
}

fn opened(wanted: &HostFile) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(wanted.access != Access::Write)
        .write(wanted.access != Access::Read)
        .open(&wanted.path);
    match opened {
        // A directory of a <filesystem> is opened for reading only, whoever makes files in it. An image is none.
        Err(error)
            if error.kind() == io::ErrorKind::IsADirectory && wanted.descriptor.is_none() =>
        {
            File::open(&wanted.path)
        }
        opened => opened,
    }
}

fn cannot(wanted: &HostFile, error: &io::Error) -> Fault {
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
    wanted.place.refused(format!("'{}' {advice}", wanted.path))
}

/// A PCI device of the host is the guest's only when VFIO drives it, which no account but root's can bring about.
fn unbound(device: &PassedPci) -> Option<Fault> {
    let address = device.address;
    let folder = format!("/sys/bus/pci/devices/{address}");
    if !Path::new(&folder).exists() {
        let what = format!("the host has no PCI device {address}; see `lspci -D`");
        return Some(device.place.refused(what));
    }
    let driver = drivers::driver_in(Path::new(&folder));
    if driver.as_deref().is_some_and(drivers::gives_to_programs) {
        return None;
    }
    let name = driver.as_deref().unwrap_or("no driver");
    let advice = match &device.driver {
        None => format!("add managed='yes', or run `driverctl set-override {address} vfio-pci`"),
        Some(driver) => format!(
            "start the guest by its unit, which has {driver} take it, or run `driverctl set-override {address} {driver}`"
        ),
    };
    Some(device.place.refused(format!("PCI device {address} belongs to {name}; {advice}")))
}

/// What a plan asks of the host that the guest does without, a line for each.
pub(crate) fn left_out(prepared: &Prepared) -> Vec<String> {
    let faults = tapped(&prepared.plan).flat_map(tap::left_out);
    faults.map(|fault| fault.in_file(&prepared.file)).collect()
}

/// Interfaces whose tap device the shim opens.
fn tapped(plan: &LaunchPlan) -> impl Iterator<Item = &Interface> {
    plan.fds.iter().filter_map(|fd| match &fd.kind {
        FdKind::Tap { interface, queue: 0, .. } | FdKind::MacVtap { interface, queue: 0 } => {
            Some(&**interface)
        }
        FdKind::Tap { .. }
        | FdKind::MacVtap { .. }
        | FdKind::Vsock { .. }
        | FdKind::Device { .. }
        | FdKind::Connection { .. }
        | FdKind::Credential { .. }
        | FdKind::Inherited { .. }
        | FdKind::ShimMonitor
        | FdKind::DaemonMonitor
        | FdKind::Listener { .. }
        | FdKind::Output { .. } => None,
    })
}

/// Programs that are to serve the guest and do not: no unit starts them, or it is not running.
fn unserved(prepared: &Prepared) -> impl Iterator<Item = Fault> {
    prepared.plan.helpers.iter().filter_map(|helper| {
        let program = &helper.program.program;
        let what = if !prepared.has_companions {
            format!("{program} is started for guests of the system's units only; start one and use its socket")
        } else if Path::new(&helper.socket).exists() {
            return None;
        } else {
            let unit = companion::unit(helper, &prepared.instance);
            format!(
                "{unit} is not running; see `systemctl status {unit}`, or run `systemctl daemon-reload` if this or \
                 {program} is new"
            )
        };
        Some(helper.place.refused(what))
    })
}

pub(crate) fn own_account() -> String {
    let account = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(account).ok().flatten();
    user.map_or_else(|| format!("uid {account}"), |user| format!("user '{}'", user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_shared_and_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = |descriptor: Option<&str>| HostFile {
            path: folder.path().display().to_string(),
            access: Access::ReadWrite,
            descriptor: descriptor.map(str::to_owned),
            place: crate::tap::tests::domain("").place.clone(),
        };
        assert_eq!(unusable(&wanted(None)), None);
        let fault = unusable(&wanted(Some("vda"))).unwrap().to_string();
        assert!(fault.contains("Is a directory"), "{fault}");
    }
}
