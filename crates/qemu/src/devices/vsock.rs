//! Sockets between guest and host, `<vsock>`.

use domain::devices::{VirtioModel, Vsock};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::devices::{placed, ready, virtio, virtio_driver};
use crate::inherited::Opened;
use crate::json::Object;
use crate::plan::{Access, FdKind};

/// Fills in models; a guest has one such device, with a number that is given or chosen.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    for (index, vsock) in domain.devices.vsocks.iter_mut().enumerate() {
        vsock.model.get_or_insert(VirtioModel::Virtio);
        if index > 0 {
            faults.push(vsock.place.refused("a guest has one vsock; remove this one"));
        }
        if vsock.cid.address.is_none() && vsock.cid.auto != Some(true) {
            let what = "the guest has no number; add <cid auto='yes'/>";
            faults.push(vsock.place.refused(what));
        }
        vsock.cid.auto.get_or_insert(false);
    }
}

/// Adds the device.
pub(crate) fn arguments(command: &mut Command<'_>, vsock: &Vsock) {
    let Some(cid) = vsock.cid.address.or(command.facts.network.vsock_cid) else {
        let what = "no number can be chosen on this host; give one such as <cid address='3'/>";
        command.refuse(&vsock.place, what);
        return;
    };
    let (alias, place) = (vsock.info.alias(), &vsock.place);
    let fd = match command.inherits(alias, &Opened::VhostVsock, place).as_deref() {
        Some([fd]) => *fd,
        Some(_) => {
            let what = format!("there are several file descriptors '{alias}'; give one");
            command.refuse(place, what);
            return;
        }
        None => {
            command.needs_file("/dev/vhost-vsock", Access::ReadWrite, place);
            command.pass_fd(FdKind::Vsock { cid, place: place.clone() })
        }
    };
    let driver = virtio_driver("vhost-vsock", vsock.model.unwrap_or(VirtioModel::Virtio));
    let device = virtio(&vsock.virtio, Object::new("driver", driver))
        .set("guest-cid", cid)
        .set("vhostfd", fd.to_string());
    command.device(&placed(command, &vsock.info, device));
    ready::note_vsock(command, cid);
}
