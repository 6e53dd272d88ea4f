//! SCSI controllers.

use domain::devices::{Controller, ControllerDriver, ControllerKind, ScsiModel, VirtioModel};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::devices::{placed, thread_map, virtio, virtio_driver};
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
            let what = "no supported guest has this SCSI controller; use model='virtio-scsi'";
            command.refuse(&controller.place, what);
            return;
        }
    };
    command.device(&placed(command, &controller.info, device));
}

/// Refuses words that only virtio has, and threads that the domain has not.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let known = domain.iothreads.ids();
    for controller in &domain.devices.controllers {
        let virtio = matches!(
            controller.kind,
            ControllerKind::Scsi(Some(
                ScsiModel::VirtioScsi
                    | ScsiModel::VirtioTransitional
                    | ScsiModel::VirtioNonTransitional
            ))
        );
        let threads: Vec<u32> = controller
            .driver
            .iothread
            .into_iter()
            .chain(controller.threads.iter().map(|thread| thread.id))
            .collect();
        let place = controller.place.child("driver");
        if !virtio && (controller.driver != ControllerDriver::default() || !threads.is_empty()) {
            let what = "queues, requests and threads are for model='virtio-scsi'; remove them";
            faults.push(place.refused(what));
        }
        if threads.iter().any(|id| !known.contains(id)) {
            faults.push(place.refused("the thread is not one of <iothreads>; add it there"));
        }
    }
}

fn virtio_scsi(controller: &Controller, model: VirtioModel) -> Object {
    let driver = &controller.driver;
    let device = Object::new("driver", virtio_driver("virtio-scsi", model))
        .some("iothread", driver.iothread.map(|id| format!("iothread{id}")))
        .some("iothread-vq-mapping", thread_map(&controller.threads))
        .some("num_queues", driver.queues)
        .some("cmd_per_lun", driver.commands_per_disk)
        .some("max_sectors", driver.max_sectors)
        .some("ioeventfd", driver.ioeventfd);
    virtio(&controller.virtio, device)
}
