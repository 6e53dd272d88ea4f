//! What happens when the guest ends, `<on_poweroff>` and its siblings.

use crate::fault::Place;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// `<on_poweroff>`
    pub on_poweroff: Option<LifecycleAction>,
    /// `<on_reboot>`
    pub on_reboot: Option<LifecycleAction>,
    /// `<on_crash>`
    pub on_crash: Option<CrashAction>,
    /// `<on_lockfailure>`
    pub on_lock_failure: Option<LockFailure>,
    /// The elements that say `rename-restart`.
    pub renames: Vec<Place>,
}

/// What happens when locks are lost, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFailure {
    /// What happens.
    pub action: LockFailureAction,
    /// Where the document says so.
    pub place: Place,
}

impl Lifecycle {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        let mut renames = Vec::new();
        let mut action = |name| {
            let element = root.child(name)?;
            let action = element.text_keyword()?;
            if action == LifecycleAction::RenameRestart {
                renames.push(element.place());
            }
            Some(action)
        };
        let (on_poweroff, on_reboot) = (action("on_poweroff"), action("on_reboot"));
        let crash = root.child("on_crash");
        let on_crash = crash.as_ref().and_then(Reader::text_keyword);
        if on_crash == Some(CrashAction::RenameRestart) {
            renames.extend(crash.map(|element| element.place()));
        }
        let on_lock_failure = root.child("on_lockfailure").and_then(|r| LockFailure::parse(&r));
        Self { on_poweroff, on_reboot, on_crash, on_lock_failure, renames }
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
            (
                "on_lockfailure",
                self.on_lock_failure.as_ref().map(|failure| failure.action.as_str()),
            ),
        ] {
            if let Some(action) = action {
                writer.element(name).text(action);
            }
        }
    }
}

impl LockFailure {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        Some(Self { action: reader.text_keyword()?, place: reader.place() })
    }
}
