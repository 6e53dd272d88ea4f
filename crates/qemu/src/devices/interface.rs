//! Network interfaces: `-netdev` and the device.

use domain::Domain;
use domain::devices::{Interface, InterfaceType, VirtioModel};

use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;

/// The model of an interface that names none.
const DEFAULT_MODEL: &str = "rtl8139";

/// Fills in models.
pub(crate) fn complete(domain: &mut Domain) {
    for interface in &mut domain.devices.interfaces {
        interface.model.get_or_insert_with(|| DEFAULT_MODEL.to_owned());
    }
}

/// The interface's virtio interface, if its model is a virtio one.
pub(crate) fn virtio_model(interface: &Interface) -> Option<VirtioModel> {
    match interface.model.as_deref()? {
        "virtio" => Some(VirtioModel::Virtio),
        "virtio-transitional" => Some(VirtioModel::Transitional),
        "virtio-non-transitional" => Some(VirtioModel::NonTransitional),
        _ => None,
    }
}

/// Adds the host's side and the device.
pub(crate) fn arguments(command: &mut Command<'_>, interface: &Interface) {
    let id = format!("host{}", interface.info.alias());
    if interface.kind != InterfaceType::User {
        command.refuse(&interface.place, "this type is not supported yet by glassbox; use user");
    }
    command.argv.json("-netdev", &Object::new("type", "user").set("id", &id));
    let device = match virtio_model(interface) {
        Some(model) => {
            let driver = virtio_driver("virtio-net", model);
            virtio(&interface.virtio, Object::new("driver", driver))
        }
        None => Object::new("driver", interface.model.as_deref().unwrap_or(DEFAULT_MODEL)),
    };
    let mac = interface.mac.map(|mac| mac.to_string());
    let device = device.set("netdev", id).some("mac", mac);
    command.device(&placed(command, &interface.info, device));
}
