//! SCSI devices of the host, and those behind iSCSI.

use domain::devices::{
    Address, ControllerKind, DriveAddress, Hostdev, ScsiIscsi, ScsiModel, ScsiSource,
};

use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;
use crate::plan::Access;
use crate::secrets;
use crate::storage::SecretNeed;

/// The port of iSCSI (RFC 7143, section 2.2).
const ISCSI_PORT: u16 = 3260;

/// Adds the block node with this number and the device.
pub(super) fn arguments(
    command: &mut Command<'_>,
    hostdev: &Hostdev,
    source: &ScsiSource,
    number: u32,
) {
    let Some(Address::Drive(place)) = &hostdev.info.address else {
        command.refuse(&hostdev.place, "the device has no place on SCSI; give type='drive'");
        return;
    };
    let node = match source {
        ScsiSource::Host(host) => {
            let name = host.to_string();
            let Some(path) = command.facts.scsi_generics.get(&name) else {
                let what = format!("the host has no SCSI device {name}; see `lsscsi -g`");
                command.refuse(&hostdev.place.child("source"), what);
                return;
            };
            command.needs_file(path, Access::ReadWrite, &hostdev.place.child("source"));
            Object::new("driver", "host_device").set("filename", path)
        }
        ScsiSource::Iscsi(target) => iscsi(command, target, hostdev),
    };
    let name = format!("libvirt-{number}-backend");
    let node = node.set("node-name", &name).set("read-only", hostdev.readonly);
    command.argv.json("-blockdev", &node);
    let device = Object::new("driver", "scsi-generic").set("drive", name);
    let device = on_bus(command, *place, device);
    command.device(&placed(command, &hostdev.info, device));
}

fn iscsi(command: &mut Command<'_>, target: &ScsiIscsi, hostdev: &Hostdev) -> Object {
    let (name, lun) = target.name.split_once('/').unwrap_or((&target.name, "0"));
    let port = target.port.unwrap_or(ISCSI_PORT);
    let secret = target.auth.as_ref().map(|auth| {
        let id = format!("{}-secret0", hostdev.info.alias());
        let need = SecretNeed::Stored(auth.secret.clone());
        secrets::add(command, id, &need, &hostdev.place.child("source/auth"))
    });
    Object::new("driver", "iscsi")
        .set("portal", format!("{}:{port}", target.host))
        .set("target", name)
        .set("lun", lun.parse::<u32>().unwrap_or_default())
        .set("transport", "tcp")
        .some("user", target.auth.as_ref().map(|auth| auth.username.as_str()))
        .some("password-secret", secret)
        .some("initiator-name", target.initiator.as_ref())
}

/// The oldest controller knows no channels and targets.
fn on_bus(command: &Command<'_>, place: DriveAddress, device: Object) -> Object {
    let mut controllers = command.domain.devices.controllers.iter();
    let found = controllers.find(|controller| {
        matches!(controller.kind, ControllerKind::Scsi(_))
            && controller.number() == place.controller
    });
    let Some(controller) = found else { return device };
    let alias = controller.info.alias();
    if let ControllerKind::Scsi(Some(ScsiModel::Lsilogic)) = controller.kind {
        return device.set("bus", format!("{alias}.{}", place.bus)).set("scsi-id", place.unit);
    }
    device
        .set("bus", format!("{alias}.0"))
        .set("channel", place.bus)
        .set("scsi-id", place.target)
        .set("lun", place.unit)
}
