//! What guests and the programs beside them wait for at the start, and are stopped before.

use std::path::Path;

use crate::directive::Directive;
use crate::value::UnitValue;

/// What is mounted before the file systems of servers, so that no file below is on one.
const OF_THE_HOST: [&str; 3] = ["/dev", "/run", "/usr"];

/// After the file systems of servers, where one of these files may be on one. Where a path leads cannot be seen now, for
/// at boot the generator runs before anything is mounted: `RequiresMountsFor=` goes by the names in a path and not by
/// symbolic links.
pub(crate) fn after_file_systems<'p>(
    mut files: impl Iterator<Item = &'p Path>,
) -> Option<Directive> {
    let of_host = |file: &Path| OF_THE_HOST.iter().any(|folder| file.starts_with(folder));
    files.any(|file| file.is_absolute() && !of_host(file)).then(remote_file_systems)
}

/// A block device may be one of iSCSI, whose units log in before this target and out after it. On a host without such
/// storage nothing waits.
pub(crate) fn remote_file_systems() -> Directive {
    Directive::new("After", UnitValue::word("remote-fs.target"))
}

/// For a server the network must be up, and not only the network's programs.
pub(crate) fn network_online() -> [Directive; 2] {
    let target = UnitValue::word("network-online.target");
    [Directive::new("Wants", target.clone()), Directive::new("After", target)]
}
