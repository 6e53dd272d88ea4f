//! Controllers of channels and consoles.

use domain::devices::{Controller, VirtioModel};

use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;

/// Adds a virtio serial controller.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    controller: &Controller,
    model: Option<VirtioModel>,
) {
    let name = virtio_driver("virtio-serial", model.unwrap_or(VirtioModel::Virtio));
    let device = virtio(&controller.virtio, Object::new("driver", name))
        .some("max_ports", controller.ports)
        .some("vectors", controller.vectors);
    command.device(&placed(command, &controller.info, device));
}
