//! The guests and networks to start at boot: the entries NAME.xml of the autostart directory.
//!
//! The name of an entry decides, not where it leads: virsh and other clients of libvirt know guests to start
//! by name, and a link to a definition in another directory must not start an overridden copy of it.

use std::path::PathBuf;

use domain::SearchPath;

use crate::environment::Environment;
use crate::log::Log;
use crate::scan::{self, Defined, Target};

/// An entry of the autostart directory.
pub(crate) struct Autostart<N> {
    /// What it names, defined or not.
    pub(crate) name: N,
    /// The entry's path as the running system has it.
    pub(crate) path: PathBuf,
    /// Whether it is a link that points to nothing.
    pub(crate) dangling: bool,
}

/// The entries of a search path's autostart directory, if it has one, in the order of their names.
pub(crate) fn entries<N: Defined>(
    environment: &Environment,
    search: &SearchPath,
    log: &mut Log,
) -> Vec<Autostart<N>> {
    let mut entries = Vec::new();
    let Some(directory) = search.autostart() else { return entries };
    scan::for_each_name(environment, directory, log, |name, entry, _| {
        let target = scan::target(environment, entry);
        // As in a .wants directory, a link to /dev/null takes the place of one that a package would put here.
        if target != Target::Null {
            let dangling = target == Target::Nothing;
            entries.push(Autostart { name, path: entry.path.clone(), dangling });
        }
    });
    entries
}
