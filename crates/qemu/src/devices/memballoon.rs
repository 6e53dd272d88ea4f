//! The memory balloon.

use domain::Domain;
use domain::devices::{BalloonModel, MemBalloon, VirtioModel};

use crate::board::Board;
use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;

/// Adds the balloon that guests of most boards have.
pub(crate) fn add_implicit(domain: &mut Domain) {
    if domain.devices.memballoons.is_empty() && Board::of_domain(domain).has_balloon() {
        domain.devices.memballoons.push(MemBalloon::new());
    }
}

/// Adds the balloon.
pub(crate) fn arguments(command: &mut Command<'_>, balloon: &MemBalloon) {
    let first = command.domain.devices.memballoons.first();
    if !first.is_some_and(|first| std::ptr::eq(first, balloon)) {
        command.refuse(&balloon.place, "a guest has one balloon; remove this one");
    }
    let model = match balloon.model {
        BalloonModel::None | BalloonModel::Xen => return,
        BalloonModel::Virtio => VirtioModel::Virtio,
        BalloonModel::Transitional => VirtioModel::Transitional,
        BalloonModel::NonTransitional => VirtioModel::NonTransitional,
    };
    let device = Object::new("driver", virtio_driver("virtio-balloon", model));
    let device = virtio(&balloon.virtio, device)
        .some("deflate-on-oom", balloon.auto_deflate)
        .some("free-page-reporting", balloon.free_page_reporting);
    command.device(&placed(command, &balloon.info, device));
}
