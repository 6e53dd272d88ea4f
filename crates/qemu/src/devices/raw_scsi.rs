//! SCSI commands that the kernel lets only privileged programs send to a device of the host.

use domain::Place;
use domain::devices::Sgio;

use crate::command::Command;

/// Says that QEMU is given no rights for a `<disk>` or `<hostdev>`.
pub(crate) fn warn(command: &Command<'_>, place: &Place, raw: Option<bool>, sgio: Option<Sgio>) {
    if raw == Some(true) {
        let what = "glassbox gives QEMU no rights and ignores rawio='yes'; set AmbientCapabilities=CAP_SYS_RAWIO \
                    in a drop-in of the guest's unit";
        command.ignore(place, what);
    }
    if sgio == Some(Sgio::Unfiltered) {
        let what = "no kernel has a switch for sgio='unfiltered'; remove it";
        command.refuse(place, what);
    }
}
