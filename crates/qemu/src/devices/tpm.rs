//! Trusted platform modules.

use domain::devices::{Tpm, TpmBackend, TpmModel, TpmVersion};
use domain::{Domain, Faults};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;
use crate::plan::{Access, FdKind};

mod swtpm;

/// The host's module when the domain does not say.
const DEFAULT_DEVICE: &str = "/dev/tpm0";

/// The id of the socket behind which a module is.
const CHARDEV: &str = "chrtpm";

/// Fills in models and versions.
pub(crate) fn complete(domain: &mut Domain) {
    for tpm in &mut domain.devices.tpms {
        let model = *tpm.model.get_or_insert(TpmModel::Tis);
        match &mut tpm.backend {
            TpmBackend::Emulator(emulator) => {
                emulator.version.get_or_insert(match model {
                    TpmModel::Tis => TpmVersion::V1_2,
                    TpmModel::Crb | TpmModel::Spapr | TpmModel::SpaprProxy => TpmVersion::V2_0,
                });
            }
            TpmBackend::Passthrough(device) => {
                device.get_or_insert_with(|| DEFAULT_DEVICE.to_owned());
            }
            TpmBackend::External(_) => {}
        }
    }
}

/// Refuses a second module, and an interface that the version lacks.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let tpms = &domain.devices.tpms;
    if let Some(second) = tpms.get(1) {
        faults.push(second.place.refused("a guest has one TPM; remove this one"));
    }
    for tpm in tpms {
        let TpmBackend::Emulator(emulator) = &tpm.backend else { continue };
        if emulator.version != Some(TpmVersion::V1_2) {
            continue;
        }
        if tpm.model == Some(TpmModel::Crb) {
            let what = "a TPM 1.2 has no interface 'tpm-crb'; use version='2.0' or model='tpm-tis'";
            faults.push(tpm.place.refused(what));
        }
        if emulator.banks.is_some() || emulator.profile.is_some() {
            let what = "TPM 1.2 has neither banks nor profiles; use version='2.0' or remove them";
            faults.push(tpm.place.child("backend").refused(what));
        }
    }
}

/// Adds a module.
pub(crate) fn arguments(command: &mut Command<'_>, tpm: &Tpm) {
    let alias = tpm.info.alias();
    let id = format!("tpm-{alias}");
    let backend = match &tpm.backend {
        TpmBackend::Passthrough(device) => {
            passthrough(command, device.as_deref().unwrap_or(DEFAULT_DEVICE), &id, tpm)
        }
        TpmBackend::External(socket) => {
            behind_socket(command, socket.path.as_deref().unwrap_or_default(), &id)
        }
        TpmBackend::Emulator(emulator) => match swtpm::start(command, tpm, emulator) {
            Some(path) => behind_socket(command, &path, &id),
            None => return,
        },
    };
    command.argv.options("-tpmdev", backend);
    let driver = match tpm.model.unwrap_or(TpmModel::Tis) {
        TpmModel::Tis if !Board::of_domain(command.domain).is_pc() => "tpm-tis-device",
        model @ (TpmModel::Tis | TpmModel::Crb | TpmModel::Spapr | TpmModel::SpaprProxy) => {
            model.as_str()
        }
    };
    let device = Object::new("driver", driver).set("tpmdev", id);
    command.device(&placed(command, &tpm.info, device));
}

fn behind_socket(command: &mut Command<'_>, path: &str, id: &str) -> Options {
    let chardev = Options::new("socket").set("id", CHARDEV).set("path", path);
    command.argv.options("-chardev", chardev);
    Options::new("emulator").set("id", id).set("chardev", CHARDEV)
}

/// The module, and the file by which a command of it is cancelled: Linux has had two places for that.
fn passthrough(command: &mut Command<'_>, device: &str, id: &str, tpm: &Tpm) -> Options {
    let alias = tpm.info.alias();
    command.needs_file(device, Access::ReadWrite, &tpm.place.child("backend"));
    let module = FdKind::Device { paths: vec![device.to_owned()], access: Access::ReadWrite };
    let path = command.pass_fd_set(module, &format!("{alias}-tpm"));
    let name = device.rsplit('/').next().unwrap_or(device);
    let cancel = FdKind::Device {
        paths: vec![
            format!("/sys/class/tpm/{name}/device/cancel"),
            format!("/sys/class/misc/{name}/device/cancel"),
            "/dev/null".to_owned(),
        ],
        access: Access::Write,
    };
    let cancel = command.pass_fd_set(cancel, &format!("{alias}-cancel"));
    Options::new("passthrough").set("id", id).set("path", path).set("cancel-path", cancel)
}
