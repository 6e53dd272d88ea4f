//! Finding and reading the definition of a guest.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domain::{
    DomainName, LARGEST_DEFINITION, SearchPath, TemplateInstance, UnitInstance, UserEnvironment,
};

/// Where the definition comes from, as the command line names it.
#[derive(Debug)]
pub(crate) enum Source {
    /// This file; `-` is standard input.
    File(PathBuf),
    /// What is left to read in a file, pipe or socket of the caller's.
    Descriptor {
        /// The number that the caller gives it.
        number: i32,
        /// It.
        file: File,
    },
    /// `NAME.xml` in the directories of definitions.
    Named(Named),
}

/// A guest that is looked for by its name.
#[derive(Debug)]
pub(crate) struct Named {
    /// The guest's name.
    pub(crate) name: DomainName,
    /// The instance by which its unit was called, perhaps not the one that the name gives.
    pub(crate) instance: UnitInstance,
    /// Where it is looked for.
    pub(crate) scope: Scope,
}

/// Whose definitions and units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The system's.
    System,
    /// The user's of this process, by its environment.
    User,
}

/// A definition that was read.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// How messages call the file.
    pub(crate) file: String,
    /// The name that the document must have, if it was looked for by name.
    pub(crate) expected_name: Option<DomainName>,
    /// Whether the file is the template of the guest with that name.
    pub(crate) template: bool,
    /// The file's bytes, at most one more than [`LARGEST_DEFINITION`].
    pub(crate) bytes: Vec<u8>,
}

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// No directory has the file.
    #[error("guest '{name}' is not defined: no {files} in {}; put its domain XML there", .directories.join(", "))]
    NotFound { name: DomainName, files: String, directories: Vec<String> },
    /// A template was named and not one of its guests.
    #[error(
        "{file} is a template and no guest; name one of its guests, as in --instance {prefix}1"
    )]
    Template { file: String, prefix: DomainName },
    /// The file that counts is a link to /dev/null, or empty.
    #[error("{path}: guest '{name}' is masked; remove the file to unmask it", path = .path.display())]
    Masked { name: DomainName, path: PathBuf },
    /// The file is there and cannot be read.
    #[error("{path}: {source}; it must be a file that this account may read", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Reads the definition.
pub(crate) fn read(source: &Source) -> Result<Definition, DefinitionError> {
    match source {
        Source::File(path) if path == Path::new("-") => {
            let bytes = bounded(io::stdin().lock()).map_err(|source| unreadable(path, source))?;
            Ok(Definition {
                file: "<stdin>".to_owned(),
                expected_name: None,
                template: false,
                bytes,
            })
        }
        Source::File(path) => {
            refuse_template(path)?;
            let bytes = contents(path).map_err(|source| unreadable(path, source))?;
            Ok(Definition {
                file: path.display().to_string(),
                expected_name: None,
                template: false,
                bytes,
            })
        }
        Source::Descriptor { number, file } => {
            let name = format!("<fd {number}>");
            let bytes = bounded(file).map_err(|source| unreadable(Path::new(&name), source))?;
            Ok(Definition { file: name, expected_name: None, template: false, bytes })
        }
        Source::Named(guest) => read_named(guest),
    }
}

/// Reads the definition of a guest that is looked for by its name.
pub(crate) fn read_named(guest: &Named) -> Result<Definition, DefinitionError> {
    find(&guest.name, &guest.scope.search())
}

impl Scope {
    /// The directories of definitions.
    pub(crate) fn search(self) -> SearchPath {
        match self {
            Self::System => SearchPath::system(),
            Self::User => SearchPath::user(&user_environment()),
        }
    }

    /// The directory of what lasts until the next boot, or until the user's last logout.
    pub(crate) fn runtime(self) -> PathBuf {
        match self {
            Self::System => PathBuf::from("/run"),
            Self::User => user_environment().runtime().unwrap_or_else(|| "/run".into()),
        }
    }
}

fn user_environment() -> UserEnvironment {
    UserEnvironment::of(|name| std::env::var_os(name))
}

/// A template that is named as a file: nobody knows which of its guests is meant.
fn refuse_template(path: &Path) -> Result<(), DefinitionError> {
    let stem = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(".xml"));
    match stem.map(DomainName::try_from) {
        Some(Ok(prefix)) if prefix.is_template() => {
            Err(DefinitionError::Template { file: path.display().to_string(), prefix })
        }
        Some(_) | None => Ok(()),
    }
}

/// The guest's own file wherever it is, else that of its template.
fn find(name: &DomainName, search: &SearchPath) -> Result<Definition, DefinitionError> {
    let file = format!("{name}.xml");
    if name.is_template() {
        return Err(DefinitionError::Template { file, prefix: name.clone() });
    }
    let instance = TemplateInstance::of(name);
    // What comes after a link that declares the guest is not looked at.
    let declares = |directory: &&PathBuf| {
        instance.is_some_and(|instance| declares(&directory.join(&file), &instance))
    };
    let own = search.directories().iter().take_while(|directory| !declares(directory));
    if let Some(found) = found(&file, own)? {
        return definition(name, found, false);
    }
    let template = instance.map(|instance| format!("{}.xml", instance.template()));
    if let Some(template) = &template
        && let Some(found) = found(template, search.directories())?
    {
        return definition(name, found, true);
    }
    let files = template.map_or(file.clone(), |template| format!("{file} or {template}"));
    let directories = search.directories().iter().map(|path| path.display().to_string()).collect();
    Err(DefinitionError::NotFound { name: name.clone(), files, directories })
}

/// Whether this is a link by which the guest is one of its template's.
fn declares(path: &Path, instance: &TemplateInstance<'_>) -> bool {
    std::fs::read_link(path).is_ok_and(|target| instance.is_declared_by(&target))
}

/// What is found for a guest, unless it is a mask.
fn definition(
    name: &DomainName,
    (path, bytes): (PathBuf, Vec<u8>),
    template: bool,
) -> Result<Definition, DefinitionError> {
    if bytes.is_empty() {
        return Err(DefinitionError::Masked { name: name.clone(), path });
    }
    let file = path.display().to_string();
    Ok(Definition { file, expected_name: Some(name.clone()), template, bytes })
}

/// The first file of this name in some directories with its bytes, at most one more than [`LARGEST_DEFINITION`]; one
/// without bytes is a mask.
///
/// # Errors
/// [`DefinitionError::Unreadable`].
pub(crate) fn found<'d>(
    file: &str,
    directories: impl IntoIterator<Item = &'d PathBuf>,
) -> Result<Option<(PathBuf, Vec<u8>)>, DefinitionError> {
    for directory in directories {
        let path = directory.join(file);
        match contents(&path) {
            Ok(bytes) => return Ok(Some((path, bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DefinitionError::Unreadable { path, source }),
        }
    }
    Ok(None)
}

/// What the file holds; nothing for `/dev/null`. A FIFO or a device does not make this wait.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_char_device() || kind.is_file() {
        return bounded(file);
    }
    let what = if kind.is_dir() { "it is a directory" } else { "it is no regular file" };
    Err(io::Error::other(what))
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LARGEST_DEFINITION as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, source: io::Error) -> DefinitionError {
    DefinitionError::Unreadable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What is found for `worker@3` with these files of the first and of the last directory; a file's text is its
    /// name, and one with an arrow is a link.
    fn found(first: &[&str], last: &[&str]) -> String {
        let home = tempfile::tempdir().unwrap();
        let search = SearchPath::user(&UserEnvironment {
            home: Some(home.path().to_owned()),
            ..UserEnvironment::default()
        });
        for (directory, files) in search.directories().iter().zip([first, last]) {
            fs::create_dir_all(directory).unwrap();
            for file in files {
                match file.split_once(" -> ") {
                    Some((link, target)) => symlink(target, directory.join(link)).unwrap(),
                    None => fs::write(directory.join(file), file).unwrap(),
                }
            }
        }
        match find(&DomainName::try_from("worker@3").unwrap(), &search) {
            Ok(found) => {
                let file = Path::new(&found.file).strip_prefix(home.path()).unwrap();
                format!("{} {}", file.display(), found.template)
            }
            Err(error) => error.to_string().replace(&home.path().display().to_string(), "~"),
        }
    }

    #[test]
    fn a_file_of_ones_own_counts_before_a_template() {
        const FIRST: &str = ".config/glassbox/qemu";
        const LAST: &str = ".local/share/glassbox/qemu";
        let [own, template] = ["worker@3.xml", "worker@.xml"];
        for (first, last, expected) in [
            (&[own, template][..], &[][..], format!("{FIRST}/{own} false")),
            (&[template], &[own], format!("{LAST}/{own} false")),
            (&[template], &[template], format!("{FIRST}/{template} true")),
            (&[], &[template], format!("{LAST}/{template} true")),
            (&["worker@3.xml -> worker@.xml"], &[template, own], format!("{LAST}/{template} true")),
            (
                &["worker@3.xml -> /dev/null"],
                &[template],
                format!(
                    "~/{FIRST}/{own}: guest 'worker@3' is masked; remove the file to unmask it"
                ),
            ),
            (
                &["worker@3.xml -> gone.xml"],
                &[],
                format!(
                    "guest 'worker@3' is not defined: no {own} or {template} in ~/{FIRST}, ~/{LAST}; put its domain XML there"
                ),
            ),
        ] {
            assert_eq!(found(first, last), expected, "{first:?} {last:?}");
        }
    }

    #[test]
    fn a_template_is_no_guest() {
        let told = |source| read(&source).unwrap_err().to_string();
        let expected = "worker@.xml is a template and no guest; name one of its guests, as in --instance worker@1";
        assert_eq!(told(Source::File("worker@.xml".into())), expected);
        let name = DomainName::try_from("worker@").unwrap();
        let instance = UnitInstance::from(&name);
        assert_eq!(told(Source::Named(Named { name, instance, scope: Scope::User })), expected);
    }
}
