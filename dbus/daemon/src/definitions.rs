//! The files that define guests, as far as this daemon writes them: `NAME.xml` in the first directory of the search path.
//!
//! Whatever ends the daemon or the host, the old file is there or the new one, whole ([`NewFile`]). What was left beside
//! it is overwritten by the next one that writes. The text is kept as it was given, comments and all.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use definitions::{Existing, NewFile, WriteError};
use domain::{
    Domain, DomainName, Faults, LARGEST_DEFINITION, SearchPath, Severity, TemplateInstance,
    definition_text,
};

/// The name of a file that is being written. It has no `.xml` at its end, so nobody takes it for one.
const UNFINISHED: &str = ".glassboxd-definition";

/// Where guests are defined.
#[derive(Debug)]
pub(crate) struct Definitions {
    search: SearchPath,
    /// The folder of what lasts until the next boot, in which are `qemu`, one of the directories of the search path, and
    /// `transient`, with the definitions that go with their guests.
    runtime: Option<PathBuf>,
    /// One writes at a time, so that what is unfinished is nobody's.
    writing: Mutex<()>,
}

/// A guest that a file defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defined {
    /// The file that counts.
    pub(crate) file: PathBuf,
    /// Whether it starts at boot by an entry of the autostart directory.
    pub(crate) autostart: bool,
}

/// Why a definition is not written or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionsFault {
    /// The directories are not known.
    #[error("there is no directory for definitions; set HOME or XDG_CONFIG_HOME for glassboxd")]
    NoDirectory,
    /// Somebody masked the guest.
    #[error("{file}: guest '{name}' is masked; remove the file to unmask it", file = .file.display())]
    Masked {
        /// The guest.
        name: DomainName,
        /// The link to /dev/null.
        file: PathBuf,
    },
    /// A guest that is to be gone after its end is to be there after it.
    #[error("guest '{name}' is defined by {file}; undefine it first, or start it", file = .file.display())]
    Defined {
        /// The guest.
        name: DomainName,
        /// The file that counts.
        file: PathBuf,
    },
    /// There is no such definition.
    #[error("guest '{0}' is not defined")]
    NotDefined(DomainName),
    /// The definition is not the administrator's.
    #[error("guest '{name}' is defined by {file}, which glassboxd does not remove", file = .file.display())]
    Elsewhere {
        /// The guest.
        name: DomainName,
        /// The file that counts.
        file: PathBuf,
    },
    /// The daemon's account may not read it.
    #[error("{file}: glassboxd may not read it; let its group: chgrp glassboxd FILE && chmod g+r FILE", file = .0.display())]
    Unreadable(PathBuf),
    /// The system refuses.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The name of the guest that a document defines.
///
/// # Errors
/// All that is refused of the document, one line each, as messages about files have it.
pub(crate) fn check(xml: &str) -> Result<DomainName, String> {
    let faults = Faults::new();
    let parsed = match definition_text(xml.as_bytes()) {
        Ok(text) => Domain::parse(text, &faults),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let refused: Vec<String> = faults
        .into_sorted()
        .iter()
        .filter(|fault| fault.severity == Severity::Refused)
        .map(|fault| fault.in_file("xml"))
        .collect();
    match parsed {
        Some(domain) if refused.is_empty() => Ok(domain.name),
        Some(_) | None => Err(refused.join("\n")),
    }
}

impl Definitions {
    /// Definitions in these directories, and those of transient guests below `runtime`.
    pub(crate) fn new(search: SearchPath, runtime: Option<PathBuf>) -> Self {
        Self { search, runtime, writing: Mutex::new(()) }
    }

    /// Writes the definition of a guest, new or in place of the former one.
    pub(crate) fn define(&self, name: &DomainName, xml: &str) -> Result<(), DefinitionsFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.own()?;
        let file = path_in(directory, name);
        if is_masked(&file) {
            return Err(DefinitionsFault::Masked { name: name.clone(), file });
        }
        replace(directory, &file, xml)
    }

    /// Writes the definition of a guest that has none, until [`Self::forget`].
    ///
    /// The file is a link to one in a directory of its own, which tells it from what an administrator puts beside it.
    pub(crate) fn define_transient(
        &self,
        name: &DomainName,
        xml: &str,
    ) -> Result<(), DefinitionsFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Defined { file, .. }) = self.find(name) {
            return Err(DefinitionsFault::Defined { name: name.clone(), file });
        }
        let runtime = self.runtime.as_ref().ok_or(DefinitionsFault::NoDirectory)?;
        let (links, files) = (runtime.join("qemu"), runtime.join("transient"));
        let (link, file) = (path_in(&links, name), path_in(&files, name));
        replace(&files, &file, xml)?;
        make(&links)?;
        std::os::unix::fs::symlink(&file, &link).map_err(at(&link))
    }

    /// Removes the definition of a transient guest that has ended; does nothing to others.
    pub(crate) fn forget(&self, name: &DomainName) -> Result<(), DefinitionsFault> {
        let Some((link, file)) = self.transient(name) else { return Ok(()) };
        fs::remove_file(&link).map_err(at(&link))?;
        fs::remove_file(&file).map_err(at(&file))
    }

    /// Whether the definition of a guest goes with the guest.
    pub(crate) fn is_transient(&self, name: &DomainName) -> bool {
        self.transient(name).is_some()
    }

    /// The link and the file of a transient guest's definition.
    fn transient(&self, name: &DomainName) -> Option<(PathBuf, PathBuf)> {
        let runtime = self.runtime.as_ref()?;
        let link = path_in(&runtime.join("qemu"), name);
        let file = path_in(&runtime.join("transient"), name);
        (fs::read_link(&link).ok()? == file).then_some((link, file))
    }

    /// Removes the definition of a guest, and its entry among those that start at boot.
    pub(crate) fn undefine(&self, name: &DomainName) -> Result<(), DefinitionsFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.own()?;
        let Some(defined) = self.find(name) else {
            return Err(DefinitionsFault::NotDefined(name.clone()));
        };
        let file = path_in(directory, name);
        if defined.file != file {
            return Err(DefinitionsFault::Elsewhere { name: name.clone(), file: defined.file });
        }
        self.unlink_autostart(name)?;
        fs::remove_file(&file).map_err(at(&file))?;
        sync(directory)
    }

    /// Has a guest start at boot or not.
    pub(crate) fn set_autostart(
        &self,
        name: &DomainName,
        on: bool,
    ) -> Result<(), DefinitionsFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(defined) = self.find(name) else {
            return Err(DefinitionsFault::NotDefined(name.clone()));
        };
        let directory = self.search.autostart().ok_or(DefinitionsFault::NoDirectory)?;
        if defined.autostart == on {
            return Ok(());
        }
        if !on {
            return self.unlink_autostart(name);
        }
        make(directory)?;
        let link = path_in(directory, name);
        std::os::unix::fs::symlink(&defined.file, &link).map_err(at(&link))?;
        sync(directory)
    }

    /// The guests that are defined, by name. What cannot be read is not among them.
    pub(crate) fn list(&self) -> BTreeMap<DomainName, Defined> {
        let mut names = BTreeMap::new();
        for directory in self.search.directories() {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let stems = files.filter_map(|file| file.strip_suffix(".xml").map(str::to_owned));
            for name in stems.filter_map(|stem| DomainName::try_from(stem.as_str()).ok()) {
                if let Some(defined) = self.find(&name) {
                    names.insert(name, defined);
                }
            }
        }
        names
    }

    /// The definition of a guest, as it is in its file.
    pub(crate) fn read(&self, name: &DomainName) -> Result<String, DefinitionsFault> {
        let defined = self.find(name).ok_or_else(|| DefinitionsFault::NotDefined(name.clone()))?;
        let text = contents(&defined.file).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        text.map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                return DefinitionsFault::Unreadable(defined.file);
            }
            at(&defined.file)(error)
        })
    }

    /// The directories, the one that counts first first.
    pub(crate) fn directories(&self) -> &[PathBuf] {
        self.search.directories()
    }

    /// The first file of that name that is one; none when that is masked.
    pub(crate) fn find(&self, name: &DomainName) -> Option<Defined> {
        let files = self.search.directories().iter().map(|directory| path_in(directory, name));
        let file = files.into_iter().find(|file| file.exists())?;
        (!is_masked(&file)).then(|| Defined { file, autostart: self.is_autostart(name) })
    }

    /// The file that gives a guest its name, whether it is masked or not: its own, or that of its template.
    pub(crate) fn naming(&self, name: &DomainName) -> Option<PathBuf> {
        let template = TemplateInstance::of(name).map(|it| it.template().to_string());
        let names = std::iter::once(name.to_string()).chain(template);
        let mut files = names.flat_map(|name| {
            self.search.directories().iter().map(move |it| it.join(format!("{name}.xml")))
        });
        files.find(|file| file.symlink_metadata().is_ok())
    }

    /// Whether a guest has an entry in the autostart directory, and no link to /dev/null that takes its place.
    pub(crate) fn is_autostart(&self, name: &DomainName) -> bool {
        let link = self.search.autostart().map(|directory| path_in(directory, name));
        link.is_some_and(|link| link.symlink_metadata().is_ok() && !is_masked(&link))
    }

    /// The directory that is written to.
    fn own(&self) -> Result<&Path, DefinitionsFault> {
        let first = self.search.autostart().and(self.search.directories().first());
        first.map(PathBuf::as_path).ok_or(DefinitionsFault::NoDirectory)
    }

    fn unlink_autostart(&self, name: &DomainName) -> Result<(), DefinitionsFault> {
        let Some(directory) = self.search.autostart() else { return Ok(()) };
        let link = path_in(directory, name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DefinitionsFault::File { path: link, source }),
            Ok(()) => sync(directory),
        }
    }
}

/// What a file holds, at most one byte more than a definition may have.
pub(crate) fn contents(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST_DEFINITION as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn path_in(directory: &Path, name: &DomainName) -> PathBuf {
    directory.join(format!("{name}.xml"))
}

/// Whether it is no file, such as a link to /dev/null, or an empty one; systemd.unit(5) has it so for units.
fn is_masked(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| !found.is_file() || found.len() == 0)
}

fn make(directory: &Path) -> Result<(), DefinitionsFault> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(at(directory))
}

/// Puts a file in the place of the former one, or of none. A definition may hold passwords of displays: only the daemon's
/// own account reads it, and root.
fn replace(directory: &Path, file: &Path, text: &str) -> Result<(), DefinitionsFault> {
    make(directory)?;
    let (content, existing, hidden) = (text.as_bytes(), Existing::Replaced, Some(UNFINISHED));
    Ok(NewFile { path: file, content, mode: 0o600, existing, hidden }.put()?)
}

fn sync(directory: &Path) -> Result<(), DefinitionsFault> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DefinitionsFault + use<> {
    let path = path.to_owned();
    |source| DefinitionsFault::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use domain::UserEnvironment;

    struct Place {
        root: tempfile::TempDir,
        definitions: Definitions,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let search = SearchPath::user(&UserEnvironment {
                config_home: Some(root.path().join("etc")),
                runtime_dir: Some(root.path().join("run")),
                ..UserEnvironment::default()
            });
            let runtime = root.path().join("run/glassbox");
            Self { definitions: Definitions::new(search, Some(runtime)), root }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn files(&self, directory: &str) -> Vec<String> {
            let entries = fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
            let mut names: Vec<_> =
                entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    const XML: &str = "<domain type='qemu'><name>web</name><memory unit='MiB'>16</memory>\
                       <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

    fn name() -> DomainName {
        "web".parse().unwrap()
    }

    #[test]
    fn what_a_reader_refuses_is_not_defined() {
        assert_eq!(check(XML), Ok(name()));
        for (xml, words) in [
            ("<domain", "xml:1:"),
            ("<domain type='qemu'/>", "/domain: <name> is missing"),
            (&XML.replace(" unit='MiB'", " unit='parsec'"), "xml:1:"),
        ] {
            let refused = check(xml).unwrap_err();
            assert!(refused.contains(words), "{xml}: {refused}");
        }
    }

    #[test]
    fn a_definition_is_written_whole_and_removed() {
        let place = Place::new();
        let file = "etc/glassbox/qemu/web.xml";
        place.definitions.define(&name(), XML).unwrap();
        let again = format!("{XML}\n<!-- mine -->\n");
        place.definitions.define(&name(), &again).unwrap();
        assert_eq!(fs::read_to_string(place.path(file)).unwrap(), again);
        assert_eq!(place.definitions.read(&name()).unwrap(), again);
        assert_eq!(fs::metadata(place.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(place.files("etc/glassbox/qemu"), ["web.xml"]);
        place.definitions.set_autostart(&name(), true).unwrap();
        let defined = Defined { file: place.path(file), autostart: true };
        assert_eq!(place.definitions.list(), BTreeMap::from([(name(), defined)]));
        place.definitions.undefine(&name()).unwrap();
        assert_eq!(place.files("etc/glassbox/qemu"), ["autostart"]);
        assert_eq!(place.files("etc/glassbox/qemu/autostart"), Vec::<String>::new());
        let gone = place.definitions.undefine(&name()).unwrap_err();
        assert_eq!(gone.to_string(), "guest 'web' is not defined");
    }

    /// What each step of a write leaves when the host dies after it, and what the next one makes of it.
    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_file_and_no_other() {
        for written in ["", "<dom", XML] {
            let place = Place::new();
            place.definitions.define(&name(), XML).unwrap();
            let unfinished = place.path("etc/glassbox/qemu").join(UNFINISHED);
            fs::write(&unfinished, written).unwrap();
            assert_eq!(place.definitions.read(&name()).unwrap(), XML);
            assert_eq!(place.definitions.list().len(), 1);
            place.definitions.define(&name(), &format!("{XML}\n")).unwrap();
            assert_eq!(place.files("etc/glassbox/qemu"), ["web.xml"]);
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file() {
        let place = Place::new();
        place.definitions.define(&name(), XML).unwrap();
        // In the way of the unfinished file; root is kept from nothing else.
        let unfinished = place.path("etc/glassbox/qemu").join(UNFINISHED);
        fs::create_dir(&unfinished).unwrap();
        place.definitions.define(&name(), "<domain/>").unwrap_err();
        assert_eq!(place.definitions.read(&name()).unwrap(), XML);
    }

    #[test]
    fn a_transient_guest_s_definition_goes_with_it() {
        let place = Place::new();
        place.definitions.define_transient(&name(), XML).unwrap();
        assert!(place.definitions.is_transient(&name()));
        assert_eq!(place.definitions.read(&name()).unwrap(), XML);
        let again = place.definitions.define_transient(&name(), XML).unwrap_err();
        assert!(matches!(again, DefinitionsFault::Defined { .. }), "{again}");
        place.definitions.forget(&name()).unwrap();
        assert_eq!(place.files("run/glassbox/qemu"), Vec::<String>::new());
        assert_eq!(place.files("run/glassbox/transient"), Vec::<String>::new());
        // What an administrator put there is not the daemon's to remove.
        fs::write(place.path("run/glassbox/qemu/web.xml"), XML).unwrap();
        place.definitions.forget(&name()).unwrap();
        assert!(!place.definitions.is_transient(&name()));
        assert_eq!(place.definitions.read(&name()).unwrap(), XML);
    }

    #[test]
    fn what_somebody_else_put_there_stays() {
        let place = Place::new();
        let run = place.path("run/glassbox/qemu");
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("web.xml"), XML).unwrap();
        let refused = place.definitions.undefine(&name()).unwrap_err();
        assert!(matches!(refused, DefinitionsFault::Elsewhere { .. }), "{refused}");
        place.definitions.define(&name(), XML).unwrap();
        place.definitions.undefine(&name()).unwrap();
        assert_eq!(place.definitions.read(&name()).unwrap(), XML, "the other one counts again");
        let own = place.path("etc/glassbox/qemu/web.xml");
        std::os::unix::fs::symlink("/dev/null", &own).unwrap();
        let masked = place.definitions.define(&name(), XML).unwrap_err();
        assert!(matches!(masked, DefinitionsFault::Masked { .. }), "{masked}");
        assert!(place.definitions.list().is_empty());
    }
}
