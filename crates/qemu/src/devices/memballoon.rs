//! The memory balloon.

use domain::devices::{BalloonModel, MemBalloon, VirtioModel};
use domain::{Domain, MemorySize};

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
        BalloonModel::None | BalloonModel::Xen => {
            keeps_all(command);
            return;
        }
        BalloonModel::Virtio => VirtioModel::Virtio,
        BalloonModel::Transitional => VirtioModel::Transitional,
        BalloonModel::NonTransitional => VirtioModel::NonTransitional,
    };
    if let Some(left) = less_than_all(command.domain) {
        command.inflates_balloon(left);
    }
    let device = Object::new("driver", virtio_driver("virtio-balloon", model));
    let device = virtio(&balloon.virtio, device)
        .some("deflate-on-oom", balloon.auto_deflate)
        .some("free-page-reporting", balloon.free_page_reporting);
    command.device(&placed(command, &balloon.info, device));
}

/// What the guest is to use of its memory, when it is less than all.
fn less_than_all(domain: &Domain) -> Option<MemorySize> {
    let (all, current) = (domain.memory.size?, domain.memory.current?);
    (current < all).then_some(current)
}

/// Says that nothing takes memory from the guest.
fn keeps_all(command: &Command<'_>) {
    if less_than_all(command.domain).is_some() {
        let what =
            "without a balloon the guest has all its <memory>; add <memballoon model='virtio'/>";
        command.ignore(&command.domain.place.child("currentMemory"), what);
    }
}
