//! Finding and reading the definition of a guest.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domain::{DomainName, LARGEST_DEFINITION, SearchPath, UserEnvironment};

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
    Named {
        /// The guest's name.
        name: DomainName,
        /// The directories.
        search: SearchPath,
    },
}

/// A definition that was read.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// How messages call the file.
    pub(crate) file: String,
    /// The name that the document must have, if it was looked for by name.
    pub(crate) expected_name: Option<DomainName>,
    /// The file's bytes, at most one more than [`LARGEST_DEFINITION`].
    pub(crate) bytes: Vec<u8>,
}

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// No directory has the file.
    #[error("guest '{name}' is not defined: no {name}.xml in {}; put its domain XML there", .directories.join(", "))]
    NotFound { name: DomainName, directories: Vec<String> },
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
            Ok(Definition { file: "<stdin>".to_owned(), expected_name: None, bytes })
        }
        Source::File(path) => {
            let bytes = contents(path).map_err(|source| unreadable(path, source))?;
            Ok(Definition { file: path.display().to_string(), expected_name: None, bytes })
        }
        Source::Descriptor { number, file } => {
            let name = format!("<fd {number}>");
            let bytes = bounded(file).map_err(|source| unreadable(Path::new(&name), source))?;
            Ok(Definition { file: name, expected_name: None, bytes })
        }
        Source::Named { name, search } => named(name, search),
    }
}

/// The directories of a user's definitions, by this process's environment.
pub(crate) fn user_search_path() -> SearchPath {
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    SearchPath::user(&UserEnvironment {
        home: path("HOME"),
        config_home: path("XDG_CONFIG_HOME"),
        runtime_dir: path("XDG_RUNTIME_DIR"),
        data_home: path("XDG_DATA_HOME"),
    })
}

fn named(name: &DomainName, search: &SearchPath) -> Result<Definition, DefinitionError> {
    for directory in search.directories() {
        let path = directory.join(format!("{name}.xml"));
        match contents(&path) {
            Ok(bytes) if bytes.is_empty() => {
                return Err(DefinitionError::Masked { name: name.clone(), path });
            }
            Ok(bytes) => {
                let file = path.display().to_string();
                return Ok(Definition { file, expected_name: Some(name.clone()), bytes });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DefinitionError::Unreadable { path, source }),
        }
    }
    let directories = search.directories().iter().map(|path| path.display().to_string()).collect();
    Err(DefinitionError::NotFound { name: name.clone(), directories })
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
