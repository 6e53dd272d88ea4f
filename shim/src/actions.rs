//! From `<on_poweroff>`, `<on_reboot>` and `<on_crash>` to what the state machine does.

use domain::{CrashAction, Domain, LifecycleAction};

use crate::guest::{Action, Actions};

/// The actions of a domain.
pub(crate) fn of(domain: &Domain) -> Actions {
    let lifecycle = |action| match action {
        LifecycleAction::Destroy => Action::Destroy,
        LifecycleAction::Restart | LifecycleAction::RenameRestart => Action::Restart,
        LifecycleAction::Preserve => Action::Preserve,
    };
    let on_crash = match domain.lifecycle.crash() {
        CrashAction::Destroy | CrashAction::CoredumpDestroy => Action::Destroy,
        CrashAction::Restart | CrashAction::RenameRestart | CrashAction::CoredumpRestart => {
            Action::Restart
        }
        CrashAction::Preserve => Action::Preserve,
    };
    let dumps = match domain.lifecycle.crash() {
        CrashAction::CoredumpDestroy | CrashAction::CoredumpRestart => true,
        CrashAction::Destroy
        | CrashAction::Restart
        | CrashAction::RenameRestart
        | CrashAction::Preserve => false,
    };
    Actions {
        on_poweroff: lifecycle(domain.lifecycle.poweroff()),
        on_reboot: lifecycle(domain.lifecycle.reboot()),
        on_crash,
        dumps,
    }
}
