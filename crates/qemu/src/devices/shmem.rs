//! Memory that guests share.

use domain::devices::{Shmem, ShmemModel, ShmemRole};
use domain::{Domain, MemorySize};

use crate::argv::Options;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;

/// How large plain memory is when the domain does not say.
const DEFAULT_SIZE: MemorySize = MemorySize::from_bytes(4 << 20);

/// Fills in sizes and interrupts.
pub(crate) fn complete(domain: &mut Domain) {
    for shmem in &mut domain.devices.shmems {
        match shmem.model {
            ShmemModel::Plain => {
                shmem.size.get_or_insert(DEFAULT_SIZE);
            }
            ShmemModel::Doorbell => {
                let msi = shmem.msi.get_or_insert_default();
                msi.ioeventfd.get_or_insert(true);
                // Libvirt's form of what every doorbell has.
                msi.enabled = msi.enabled.filter(|enabled| !*enabled);
            }
            ShmemModel::Ivshmem => {}
        }
    }
}

/// Adds the memory, and the server's socket.
pub(crate) fn arguments(command: &mut Command<'_>, shmem: &Shmem) {
    match shmem.model {
        ShmemModel::Plain => plain(command, shmem),
        ShmemModel::Doorbell => doorbell(command, shmem),
        // The crate `domain` refuses it.
        ShmemModel::Ivshmem => {}
    }
}

fn plain(command: &mut Command<'_>, shmem: &Shmem) {
    let memory = format!("shmmem-{}", shmem.info.alias());
    let object = Object::new("qom-type", "memory-backend-file")
        .set("id", &memory)
        .set("mem-path", format!("/dev/shm/{}", shmem.name))
        .set("size", shmem.size.unwrap_or(DEFAULT_SIZE).bytes())
        .set("share", true);
    command.object(&object);
    let master = shmem.role.map(|role| match role {
        ShmemRole::Master => "on",
        ShmemRole::Peer => "off",
    });
    let device =
        Object::new("driver", "ivshmem-plain").set("memdev", memory).some("master", master);
    command.device(&placed(command, &shmem.info, device));
}

fn doorbell(command: &mut Command<'_>, shmem: &Shmem) {
    let chardev = format!("char{}", shmem.info.alias());
    let msi = shmem.msi.clone().unwrap_or_default();
    let master = shmem.role.map(|role| match role {
        ShmemRole::Master => "on",
        ShmemRole::Peer => "off",
    });
    let device = Object::new("driver", "ivshmem-doorbell")
        .set("chardev", &chardev)
        .some("master", master)
        .some("vectors", msi.vectors)
        .some("ioeventfd", msi.ioeventfd);
    command.device(&placed(command, &shmem.info, device));
    let folder = command.facts.directories.guest.rsplit_once('/').map_or("", |(parent, _)| parent);
    let folder = folder.strip_suffix("/qemu").unwrap_or(folder);
    let path = shmem.server.as_ref().and_then(|server| server.path.clone());
    let path = path.unwrap_or_else(|| format!("{folder}/shmem-{}-sock", shmem.name));
    let options = Options::new("socket").set("id", chardev).set("path", path);
    command.argv.options("-chardev", options);
}
