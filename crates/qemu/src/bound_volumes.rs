//! Bound volumes: disks of a running guest whose images came as open files, and which no definition has.
//!
//! Their files are in sets of descriptors that QEMU was given (qemu(1), `-add-fd`), and the disks lie on the sets' paths.
//! Nobody but QEMU opens such a path. A volume stays, whatever the definition says, until somebody takes it out.

use domain::devices::{Address, Controller, ControllerType, Disk, SourceKind};
use domain::{Domain, Place};

/// What the path of a set of descriptors begins with.
const SETS: &str = "/dev/fdset/";

/// The first number of the sets that volumes have, which the management daemon gives them (`work/volumes.rs` there).
///
/// Other sets are numbered below, each behind the last: two who number at once never mean the same set.
pub const FIRST_VOLUME_SET: u64 = 1 << 30;

/// The path by which QEMU opens what a set of descriptors has.
pub(crate) fn set_path(number: u32) -> String {
    format!("{SETS}{number}")
}

/// Whether a path is that of a volume's set of descriptors, and no file of the host.
///
/// ```
/// assert!(qemu::is_volume_set("/dev/fdset/1073741824"));
/// assert!(!qemu::is_volume_set("/dev/fdset/1"));
/// assert!(!qemu::is_volume_set("/dev/fdset/1073741824/../../etc/passwd"));
/// ```
#[must_use]
pub fn is_volume_set(path: &str) -> bool {
    let number = path.strip_prefix(SETS).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|it| it.parse().ok()).is_some_and(|number: u64| number >= FIRST_VOLUME_SET)
}

/// Adds the volumes of a running guest to what its definition says, with the controllers that they stand on.
///
/// A disk of the definition that has the target of one takes precedence.
pub fn keep_bound_volumes(live: &Domain, wanted: &mut Domain) {
    for volume in live.devices.disks.iter().filter(|disk| is_volume(disk)) {
        if wanted.devices.disks.iter().any(|disk| disk.target == volume.target) {
            continue;
        }
        // The definition has no place for it.
        wanted.devices.disks.push(Disk { place: Place::default(), ..volume.clone() });
        let Some(controller) = controller_of(live, volume) else { continue };
        let same = |it: &Controller| {
            it.controller_type() == ControllerType::Scsi && it.number() == controller.number()
        };
        if !wanted.devices.controllers.iter().any(same) {
            let kept = Controller { place: Place::default(), ..controller.clone() };
            wanted.devices.controllers.push(kept);
        }
    }
}

fn is_volume(disk: &Disk) -> bool {
    let (SourceKind::File(Some(path)) | SourceKind::Block(Some(path))) = &disk.source.kind else {
        return false;
    };
    is_volume_set(path)
}

/// The SCSI controller that a disk stands on.
fn controller_of<'a>(domain: &'a Domain, disk: &Disk) -> Option<&'a Controller> {
    let Some(Address::Drive(address)) = &disk.info.address else { return None };
    let mut controllers = domain.devices.controllers.iter();
    controllers.find(|it| {
        it.controller_type() == ControllerType::Scsi && it.number() == address.controller
    })
}
