//! Whether what a plan names on the host is there for this account.
//!
//! QEMU would find out by itself, but its message would name neither the XML file nor the line.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use domain::devices::Interface;
use domain::{Fault, Place};
use qemu::{Access, FdKind, HostFile, LaunchPlan, PassedPci};

use crate::prepare::{PrepareError, Prepared};
use crate::tap;

/// Checks that the files which the plan names can be used by this account.
///
/// # Errors
/// [`PrepareError::HostFiles`], a line for each that cannot.
pub(crate) fn check(prepared: &Prepared) -> Result<(), PrepareError> {
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
        | FdKind::Listener { .. }
        | FdKind::Output { .. } => None,
    })
}

/// What a plan asks for that the shim cannot make yet.
fn unmade(plan: &LaunchPlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(tapped(plan).flat_map(tap::not_done));
    let mut refuse = |place: &Place, what: &str| {
        faults.push(place.refused(format!("{what} not supported yet by glassbox; remove it")));
    };
    // Such a program is to be a unit of its own beside the guest's, sandboxed and watched like it.
    for helper in &plan.helpers {
        refuse(&helper.place, &format!("the program {} beside the guest is", helper.program));
    }
    faults
}

pub(crate) fn own_account() -> String {
    let account = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(account).ok().flatten();
    user.map_or_else(|| format!("uid {account}"), |user| format!("user '{}'", user.name))
}
