//! Guests of templates whose units systemd has no settings for yet.
//!
//! glassbox-generator writes a drop-in for each guest that it knows of. A guest that only a template stands for
//! is known when a link, an autostart entry or an enabled unit names it; `systemctl start` alone names it to
//! nobody. Without its drop-in it would run without its limits, its order among units and its sandbox.
//!
//! So glassbox-instance@.service, which is started before such a unit, makes the link here and has the manager
//! reload. And a unit whose guest is a template's and that has no drop-in all the same does not start its guest.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use domain::UnitInstance;
use nix::fcntl::{Flock, FlockArg};

use crate::definition::{self, Definition, Named, Scope, Source};
use crate::runtime_dir::granted;
use crate::service_manager::reload_and_start;

/// How long a reload may take that is under way: ten seconds.
const RELOAD_TRIES: u32 = 100;
const RELOAD_PAUSE: Duration = Duration::from_millis(100);

/// A guest's unit lacks what glassbox-generator makes of its definition.
#[derive(Debug, thiserror::Error)]
#[error(
    "qemu@{instance}.service has no settings for this guest of {file}; start qemu@{usual}.service after \
     `systemctl daemon-reload`, and name the guest by `systemctl enable` or a link to the template before"
)]
pub(crate) struct Undeclared {
    instance: UnitInstance,
    usual: UnitInstance,
    file: String,
}

/// Refuses to start a template's guest in a unit of a user's that has no settings for it; in the system's units
/// the account tells, [`crate::host_files::check_account`].
///
/// # Errors
/// [`Undeclared`].
pub(crate) fn check(source: &Source, definition: &Definition) -> Result<(), Undeclared> {
    let Source::Named(guest) = source else { return Ok(()) };
    // Whoever starts it elsewhere than in the unit decides all of that.
    let in_unit = granted("RUNTIME_DIRECTORY").is_some();
    if !definition.template || !in_unit || is_to_be_seen(guest) {
        return Ok(());
    }
    Err(Undeclared {
        instance: guest.instance.clone(),
        usual: UnitInstance::from(&guest.name),
        file: definition.file.clone(),
    })
}

/// Sees to it that the guest's unit has its settings, and is started with them.
///
/// # Errors
/// When the link cannot be made or the manager does not reload.
pub(crate) fn declare(guest: &Named) -> anyhow::Result<()> {
    let usual = UnitInstance::from(&guest.name);
    let declared = || is_generated(&usual, guest.scope) == Some(true);
    if declared() {
        return Ok(());
    }
    // What cannot be read is told by the start that follows.
    let Ok(definition) = definition::read_named(guest) else { return Ok(()) };
    let directory = guest.scope.runtime().join("glassbox/qemu");
    let shown = || directory.display().to_string();
    DirBuilder::new().recursive(true).mode(0o755).create(&directory).with_context(shown)?;
    if definition.template {
        let link = directory.join(format!("{}.xml", guest.name));
        match symlink(&definition.file, &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| link.display().to_string());
            }
            Ok(()) | Err(_) => {}
        }
    }
    // Of many that are started together one reloads for all whose links are made by then.
    let lock = File::open(&directory).with_context(shown)?;
    let _turn = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(shown)?;
    if declared() {
        return Ok(());
    }
    let unit = format!("qemu@{usual}.service");
    let started = (guest.instance == usual).then_some(unit.as_str());
    reload_and_start(started).with_context(|| format!("{unit} cannot get its settings"))
}

/// Whether the guest has a drop-in, now or when a reload is over: one that is under way has removed all.
fn is_to_be_seen(guest: &Named) -> bool {
    let seen = || is_generated(&guest.instance, guest.scope) != Some(false);
    (0..RELOAD_TRIES).any(|_| {
        seen() || {
            std::thread::sleep(RELOAD_PAUSE);
            seen()
        }
    })
}

/// Whether the generator has made a drop-in of this guest; `None` where its directory is not to be seen.
fn is_generated(instance: &UnitInstance, scope: Scope) -> Option<bool> {
    let generated = scope.runtime().join("systemd/generator");
    let drop_in = Path::new(&format!("qemu@{instance}.service.d")).join("50-glassbox.conf");
    generated.exists().then(|| generated.join(drop_in).exists())
}
