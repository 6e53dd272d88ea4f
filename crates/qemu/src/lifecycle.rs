//! What happens when the guest ends. The shim carries it out; here is what it cannot.

use domain::{Domain, Faults, LifecycleAction};

use crate::rules::refuse_broken;

/// Fills in what happens by default, and refuses what no guest of QEMU does.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let lifecycle = &mut domain.lifecycle;
    let (poweroff, reboot, crash) = (lifecycle.poweroff(), lifecycle.reboot(), lifecycle.crash());
    lifecycle.on_poweroff = Some(poweroff);
    lifecycle.on_reboot = Some(reboot);
    lifecycle.on_crash = Some(crash);
    let rules = [
        (
            poweroff == LifecycleAction::Restart && reboot == LifecycleAction::Destroy,
            "<on_poweroff>restart with <on_reboot>destroy cannot be done; change one of both",
        ),
        (
            reboot == LifecycleAction::Preserve,
            "<on_reboot>preserve cannot be done; use destroy or restart",
        ),
    ];
    refuse_broken(faults, &domain.place, rules);
}
