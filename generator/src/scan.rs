//! The definitions that there are: names only, no content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType, ReadDir};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use domain::{DomainName, TemplateInstance};
use nix::fcntl::OFlag;

use crate::environment::Environment;
use crate::log::Log;

/// What is known of a guest by its name.
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

/// Each guest of the search path once, in the order of the names.
pub(crate) type Listing = BTreeMap<DomainName, State>;

/// Lists the definitions. A regular file counts as one here even when it turns out to be empty.
pub(crate) fn definitions(environment: &Environment, log: &mut Log) -> Listing {
    let mut listing = Listing::new();
    for (number, directory) in environment.search.directories().iter().enumerate() {
        for_each_name(environment, directory, log, |name, entry, log| {
            if listing.contains_key(&name) {
                return;
            }
            let state = match target(environment, entry) {
                _ if declares(entry, &name) => State::DeclaredIn(number),
                Target::Null => State::Masked,
                Target::File if name.is_template() => State::TemplateIn(number),
                Target::File => State::DefinedIn(number),
                // As with units, such a link is passed over, and a later directory may define the guest.
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
/// messages about them have one too; logs what is called so and names no guest. A directory that isn't there
/// has no entries.
pub(crate) fn for_each_name(
    environment: &Environment,
    directory: &Path,
    log: &mut Log,
    mut each: impl FnMut(DomainName, &Entry, &mut Log),
) {
    let mut files = match fs::read_dir(environment.rooted(directory)) {
        Ok(entries) => definition_files(entries, directory, log),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            return log.error(directory, &format!("{error}; its definitions are left out"));
        }
    };
    files.sort_by_cached_key(DirEntry::file_name);
    for found in files {
        let file = found.file_name();
        let entry = Entry { path: directory.join(&file), found };
        match guest(&file) {
            Ok(name) => each(name, &entry, log),
            Err(why) => log.error(&entry.path, &format!("the file stands for no guest: {why}")),
        }
    }
}

/// Whether an entry is a link by which its guest is one of its template's.
fn declares(entry: &Entry, name: &DomainName) -> bool {
    let Some(instance) = TemplateInstance::of(name) else { return false };
    // What is no link costs no system call.
    entry.found.file_type().is_ok_and(|kind| kind.is_symlink())
        && fs::read_link(entry.found.path()).is_ok_and(|target| instance.is_declared_by(&target))
}

/// The entries called *.xml, as far as the directory can be read.
fn definition_files(entries: ReadDir, directory: &Path, log: &mut Log) -> Vec<DirEntry> {
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if is_definition(&entry.file_name()) => files.push(entry),
            Ok(_) => {}
            Err(error) => {
                log.error(directory, &format!("{error}; some definitions are left out"));
                break;
            }
        }
    }
    files
}

fn is_definition(file: &OsStr) -> bool {
    file.as_encoded_bytes().ends_with(b".xml")
}

/// The guest that a file NAME.xml stands for, or why it stands for none.
fn guest(file: &OsStr) -> Result<DomainName, String> {
    let stem = file.to_str().and_then(|file| file.strip_suffix(".xml"));
    let stem = stem.ok_or("the name is not UTF-8; rename it")?;
    DomainName::try_from(stem).map_err(|error| error.to_string())
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
