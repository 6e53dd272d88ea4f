//! SCSI controllers.

use domain::devices::{Controller, ScsiModel, VirtioModel};

use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;

/// Adds a SCSI controller.
pub(crate) fn arguments(
    command: &mut Command<'_>,
    controller: &Controller,
    model: Option<ScsiModel>,
) {
    let device = match model.unwrap_or(ScsiModel::Lsilogic) {
        ScsiModel::VirtioScsi => virtio_scsi(controller, VirtioModel::Virtio),
        ScsiModel::VirtioTransitional => virtio_scsi(controller, VirtioModel::Transitional),
        ScsiModel::VirtioNonTransitional => virtio_scsi(controller, VirtioModel::NonTransitional),
        ScsiModel::Lsilogic => Object::new("driver", "lsi"),
        ScsiModel::Lsisas1068 => Object::new("driver", "mptsas1068"),
        ScsiModel::Lsisas1078 => Object::new("driver", "megasas"),
        ScsiModel::Vmpvscsi => Object::new("driver", "pvscsi"),
        ScsiModel::Dc390 => Object::new("driver", "dc-390"),
        ScsiModel::Am53c974 => Object::new("driver", "am53c974"),
        ScsiModel::Auto | ScsiModel::Buslogic | ScsiModel::Ibmvscsi | ScsiModel::Ncr53c90 => {
            let what = "no x86 QEMU guest has this SCSI controller; use model='virtio-scsi'";
            command.refuse(&controller.place, what);
            return;
        }
    };
    command.device(&placed(command, &controller.info, device));
}

fn virtio_scsi(controller: &Controller, model: VirtioModel) -> Object {
    let device = Object::new("driver", virtio_driver("virtio-scsi", model));
    virtio(&controller.virtio, device)
}
