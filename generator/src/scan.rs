//! The definitions that there are: names only, no content.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, DirEntry, FileType, ReadDir};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use domain::{DomainName, NameError, NetworkName, SearchPath, TemplateInstance};
use nix::fcntl::OFlag;

use crate::environment::Environment;
use crate::log::Log;
use crate::output::Unit;

/// What a definition `NAME.xml` is of.
pub(crate) trait Defined:
    Ord + Display + for<'t> TryFrom<&'t str, Error = NameError>
{
    /// The word for it in messages.
    const WHAT: &'static str;

    /// Its unit.
    fn unit(&self) -> Unit;

    /// Whether the name is a template's.
    fn is_template(&self) -> bool {
        false
    }

    /// Whether a link that leads there says that this is one of its template's.
    fn is_declared_by(&self, _target: &Path) -> bool {
        false
    }
}

impl Defined for DomainName {
    const WHAT: &'static str = "guest";

    fn unit(&self) -> Unit {
        Unit::of_guest(self)
    }

    fn is_template(&self) -> bool {
        DomainName::is_template(self)
    }

    fn is_declared_by(&self, target: &Path) -> bool {
        TemplateInstance::of(self).is_some_and(|instance| instance.is_declared_by(target))
    }
}

impl Defined for NetworkName {
    const WHAT: &'static str = "network";

    fn unit(&self) -> Unit {
        Unit::of_network(self)
    }
}

/// What is known of a guest or network by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its definition is in the directory with this number of the search path.
    DefinedIn(usize),
    /// The first file of its name is a link to /dev/null or empty, so that it can't be started, as with units
    /// (systemd.unit(5)).
    Masked,
    /// A link in the directory with this number says that it is one of its template's.
    DeclaredIn(usize),
    /// It is one of the template that this directory of the search path has.
    OfTemplateIn(usize),
    /// No guest but a template, in the directory with this number.
    TemplateIn(usize),
}

/// Each name of a search path once, in the order of the names.
pub(crate) type Listing<N> = BTreeMap<N, State>;

/// Lists the definitions. A regular file counts as one here even when it turns out to be empty.
pub(crate) fn definitions<N: Defined>(
    environment: &Environment,
    search: &SearchPath,
    log: &mut Log,
) -> Listing<N> {
    let mut listing = Listing::new();
    for (number, directory) in search.directories().iter().enumerate() {
        for_each_name(environment, directory, log, |name: N, entry, log| {
            if listing.contains_key(&name) {
                return;
            }
            let state = match target(environment, entry) {
                _ if declares(entry, &name) => State::DeclaredIn(number),
                Target::Null => State::Masked,
                Target::File if name.is_template() => State::TemplateIn(number),
                Target::File => State::DefinedIn(number),
                // As with units, such a link is passed over, and a later directory may define the name.
                Target::Nothing => {
                    let what = "the link points to nothing and is passed over; restore its target or remove it";
                    return log.warning(&entry.path, what);
                }
            };
            listing.insert(name, state);
        });
    }
    listing
}

/// A file NAME.xml of a directory.
pub(crate) struct Entry {
    /// Its path as the running system has it.
    pub(crate) path: PathBuf,
    found: DirEntry,
}

/// Calls `each` for the entries of a directory called NAME.xml, in the order of their names so that the
/// messages about them have one too; logs what is called so and cannot be a name. A directory that isn't there
/// has no entries.
pub(crate) fn for_each_name<N: Defined>(
    environment: &Environment,
    directory: &Path,
    log: &mut Log,
    mut each: impl FnMut(N, &Entry, &mut Log),
) {
    let mut files = match fs::read_dir(environment.rooted(directory)) {
        Ok(entries) => definition_files(entries, directory, log),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            log.error(directory, &format!("{error}; its definitions are left out"));
            return;
        }
    };
    files.sort_by_cached_key(|(found, _)| found.file_name());
    for (found, name) in files {
        let entry = Entry { path: directory.join(found.file_name()), found };
        match name {
            Ok(name) => each(name, &entry, log),
            Err(why) => {
                let what = N::WHAT;
                log.error(&entry.path, &format!("the file stands for no {what}: {why}"));
            }
        }
    }
}

/// Whether an entry is a link by which it stands for one of its template's.
fn declares(entry: &Entry, name: &impl Defined) -> bool {
    // What is no link costs no system call.
    entry.found.file_type().is_ok_and(|kind| kind.is_symlink())
        && fs::read_link(entry.found.path()).is_ok_and(|target| name.is_declared_by(&target))
}

/// An entry called NAME.xml, with the guest or network that it stands for.
type Found<N> = (DirEntry, Result<N, NameError>);

/// The entries called *.xml, as far as the directory can be read.
fn definition_files<N: Defined>(
    entries: ReadDir,
    directory: &Path,
    log: &mut Log,
) -> Vec<Found<N>> {
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = domain::defined(&entry.file_name());
                files.extend(name.map(|name| (entry, name)));
            }
            Err(error) => {
                log.error(directory, &format!("{error}; some definitions are left out"));
                break;
            }
        }
    }
    files
}

/// What an entry comes to when links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A device such as /dev/null.
    Null,
    /// Anything else, also what can't be looked at: opening it will tell why.
    File,
    /// A link without an end.
    Nothing,
}

/// Looks where an entry leads; costs no system call for what is no link.
pub(crate) fn target(environment: &Environment, entry: &Entry) -> Target {
    let device = |kind: FileType| kind.is_char_device() || kind.is_block_device();
    match entry.found.file_type() {
        Ok(kind) if kind.is_symlink() => {}
        Ok(kind) if device(kind) => return Target::Null,
        Ok(_) | Err(_) => return Target::File,
    }
    // A root for tests or of an image has no device there.
    if fs::read_link(entry.found.path()).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Target::Null;
    }
    let end = environment.open(&entry.path, OFlag::O_PATH).and_then(|file| file.metadata());
    match end {
        Ok(metadata) if device(metadata.file_type()) => Target::Null,
        Err(error) if error.kind() == ErrorKind::NotFound => Target::Nothing,
        Ok(_) | Err(_) => Target::File,
    }
}
