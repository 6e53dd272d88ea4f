//! Power management: what QEMU does when the guest powers off, and which sleep states there are.

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;

/// Adds `-no-shutdown` and the sleep states.
pub(crate) fn arguments(command: &mut Command<'_>) {
    // The shim decides what a power-off means, so QEMU stays until it is told to go.
    command.argv.flag("-no-shutdown");
    let pm = command.domain.pm;
    let device = match Board::of_domain(command.domain) {
        Board::Q35 => "ICH9-LPC",
        Board::I440fx => "PIIX4_PM",
        Board::Isa | Board::Microvm | Board::ArmVirt | Board::RiscvVirt => return,
    };
    for (state, enabled) in [("s3", pm.suspend_to_mem), ("s4", pm.suspend_to_disk)] {
        if let Some(enabled) = enabled {
            let key = format!("{device}.disable_{state}");
            command.argv.options("-global", Options::pair(&key, u8::from(!enabled)));
        }
    }
}
