//! Sockets between guest and host, `<vsock>`: the kernel's, or those of a program beside the guest.

use domain::devices::{VirtioModel, Vsock};
use domain::{Domain, Faults};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::{placed, ready, virtio, virtio_driver};
use crate::facts::HostFacts;
use crate::inherited::Opened;
use crate::json::Object;
use crate::memory_backing;
use crate::plan::{Access, FdKind, Helper, Invocation, Service, VsockNumber};

/// What the device is called among those that programs serve.
const DEVICE: &str = "vsock0";

/// Fills in models; a guest has one such device, with a number that is given or chosen. The memory of a guest whose vsock
/// is not the kernel's is shared with the program that serves it.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
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
    let Some(place) = domain.devices.vsocks.first().map(|vsock| vsock.place.clone()) else {
        return;
    };
    if !facts.network.vhost_vsock && !memory_backing::share(domain) {
        let what = "the host has no /dev/vhost-vsock, and the program that serves a vsock in its place must see the \
                    guest's memory; use <access mode='shared'/>, or load the module vhost_vsock";
        faults.push(place.refused(what));
    }
}

/// Adds the device.
pub(crate) fn arguments(command: &mut Command<'_>, vsock: &Vsock) {
    let Some(cid) = vsock.cid.address.or(command.facts.network.vsock_cid) else {
        let what = "no number can be chosen on this host; give one such as <cid address='3'/>";
        command.refuse(&vsock.place, what);
        return;
    };
    if command.facts.network.vhost_vsock {
        by_kernel(command, vsock, cid);
    } else {
        by_program(command, vsock, cid);
    }
}

fn by_kernel(command: &mut Command<'_>, vsock: &Vsock, cid: u32) {
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
    let device = Object::new("driver", virtio_driver("vhost-vsock", model(vsock)));
    let device = virtio(&vsock.virtio, device).set("guest-cid", cid).set("vhostfd", fd.to_string());
    command.device(&placed(command, &vsock.info, device));
    ready::note_vsock(command, cid);
}

/// Plans vhost-device-vsock, <https://github.com/rust-vmm/vhost-device>, which tells the guest its number.
fn by_program(command: &mut Command<'_>, vsock: &Vsock, cid: u32) {
    let helpers = &command.facts.helpers;
    let (socket, ports) = (helpers.vsock.of(DEVICE), helpers.vsock_ports.of(DEVICE));
    let id = format!("chr-vu-{}", vsock.info.alias());
    let options = Options::new("socket").set("id", &id).set("path", &socket);
    command.argv.options("-chardev", options);
    let device = Object::new("driver", virtio_driver("vhost-user-vsock", model(vsock)));
    let device = virtio(&vsock.virtio, device).set("chardev", id);
    command.device(&placed(command, &vsock.info, device));
    command.vsock = Some(VsockNumber { cid, place: vsock.place.clone() });
    ready::note_vsock_program(command, &ports);
    let options =
        [("--guest-cid", cid.to_string()), ("--socket", socket.clone()), ("--uds-path", ports)];
    let arguments = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    let service = Service::Vsock;
    command.needs_helper(Helper {
        service,
        device: DEVICE.to_owned(),
        before: Vec::new(),
        program: Invocation {
            program: service.as_str().to_owned(),
            arguments: arguments.collect(),
        },
        inputs: Vec::new(),
        socket,
        files: Vec::new(),
        place: vsock.place.clone(),
    });
}

fn model(vsock: &Vsock) -> VirtioModel {
    vsock.model.unwrap_or(VirtioModel::Virtio)
}
