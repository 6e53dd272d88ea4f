//! Parallel ports.

use domain::Domain;
use domain::devices::Parallel;

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::serial::FreePorts;
use crate::devices::{chardev, placed};
use crate::json::Object;

/// Fills in numbers.
pub(crate) fn complete(domain: &mut Domain) {
    let mut ports = FreePorts::after(domain.devices.parallels.iter().filter_map(|p| p.port));
    for parallel in &mut domain.devices.parallels {
        parallel.port.get_or_insert_with(|| ports.next());
    }
}

/// Adds the host's side and the port.
pub(crate) fn arguments(command: &mut Command<'_>, parallel: &Parallel) {
    let alias = parallel.info.alias();
    let backend = chardev::arguments(command, &parallel.chardev, alias, Purpose::Parallel);
    let device = Object::new("driver", "isa-parallel").set("chardev", backend);
    command.device(&placed(command, &parallel.info, device));
}
