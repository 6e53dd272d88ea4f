//! What happens when the guest ends, `<on_poweroff>` and its siblings.

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// What happens when the guest powers off or reboots.
    pub enum LifecycleAction {
        /// The guest ends.
        Destroy = "destroy",
        /// The guest starts again.
        Restart = "restart",
        /// The guest ends, and its resources are kept for a look.
        Preserve = "preserve",
        /// The guest starts again under a new name.
        RenameRestart = "rename-restart",
    }
}

crate::keywords! {
    /// What happens when the guest crashes.
    pub enum CrashAction {
        /// The guest ends.
        Destroy = "destroy",
        /// The guest starts again.
        Restart = "restart",
        /// The guest ends, and its resources are kept for a look.
        Preserve = "preserve",
        /// The guest starts again under a new name.
        RenameRestart = "rename-restart",
        /// Its memory is written to a file, then it ends.
        CoredumpDestroy = "coredump-destroy",
        /// Its memory is written to a file, then it starts again.
        CoredumpRestart = "coredump-restart",
    }
}

crate::keywords! {
    /// What happens when the lock manager loses a lock.
    pub enum LockFailureAction {
        /// The guest ends by force.
        Poweroff = "poweroff",
        /// The guest starts again.
        Restart = "restart",
        /// The guest is paused.
        Pause = "pause",
        /// Nothing.
        Ignore = "ignore",
    }
}

/// What happens when the guest ends. [`Option::None`] is what the user left out; see the accessors for what
/// that means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// `<on_poweroff>`
    pub on_poweroff: Option<LifecycleAction>,
    /// `<on_reboot>`
    pub on_reboot: Option<LifecycleAction>,
    /// `<on_crash>`
    pub on_crash: Option<CrashAction>,
    /// `<on_lockfailure>`
    pub on_lock_failure: Option<LockFailureAction>,
}

impl Lifecycle {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        Self {
            on_poweroff: root.child("on_poweroff").and_then(|r| r.text_keyword()),
            on_reboot: root.child("on_reboot").and_then(|r| r.text_keyword()),
            on_crash: root.child("on_crash").and_then(|r| r.text_keyword()),
            on_lock_failure: root.child("on_lockfailure").and_then(|r| r.text_keyword()),
        }
    }

    /// What happens on power-off; the guest ends when nothing is written.
    #[must_use]
    pub fn poweroff(&self) -> LifecycleAction {
        self.on_poweroff.unwrap_or(LifecycleAction::Destroy)
    }

    /// What happens on reboot; the guest starts again when nothing is written.
    #[must_use]
    pub fn reboot(&self) -> LifecycleAction {
        self.on_reboot.unwrap_or(LifecycleAction::Restart)
    }

    /// What happens on a crash; the guest ends when nothing is written.
    #[must_use]
    pub fn crash(&self) -> CrashAction {
        self.on_crash.unwrap_or(CrashAction::Destroy)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        for (name, action) in [
            ("on_poweroff", self.on_poweroff.map(LifecycleAction::as_str)),
            ("on_reboot", self.on_reboot.map(LifecycleAction::as_str)),
            ("on_crash", self.on_crash.map(CrashAction::as_str)),
            ("on_lockfailure", self.on_lock_failure.map(LockFailureAction::as_str)),
        ] {
            if let Some(action) = action {
                writer.element(name).text(action);
            }
        }
    }
}
