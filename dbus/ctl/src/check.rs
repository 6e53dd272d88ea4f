//! `glassboxctl check`: every complaint of definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use domain::{DomainName, SearchPath};

use crate::Verdict;
use crate::cli::Check;
use crate::programs::{self, Opinion, Subject};

/// The definitions that count, by the names of their guests.
type Defined = BTreeMap<DomainName, PathBuf>;

/// Prints every complaint, each once, on standard output.
pub(crate) fn check(wanted: &Check) -> Result<Verdict> {
    let defined = defined(&crate::search_path(wanted.user));
    let mut told = Told::default();
    if wanted.files.is_empty() {
        // What is wrong with names of files and entries of autostart, only the generator knows.
        if let Some(opinion) = programs::generator(wanted.user)? {
            told.tell(&opinion)?;
        }
        for (name, path) in defined.iter().filter(|(_, path)| !is_mask(path)) {
            let guest = guest(name, &defined);
            let opinion = programs::translator(Subject::Guest(&guest), wanted.user)?;
            told.count(path, &opinion)?;
        }
        return Ok(told.verdict());
    }
    for file in &wanted.files {
        let guest = guest_of(file, &defined);
        let subject = guest.as_ref().map_or(Subject::File(file), Subject::Guest);
        told.count(file, &programs::translator(subject, wanted.user)?)?;
    }
    Ok(told.verdict())
}

/// A definition that counts is asked for by its guest's name, which it must have; another file may have any.
fn guest_of(file: &Path, defined: &Defined) -> Option<DomainName> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (name, _) = defined.iter().find(|(_, path)| **path == absolute)?;
    Some(guest(name, defined))
}

/// The guest to ask for: of a template, which is none, the first without a definition of its own.
fn guest(name: &DomainName, defined: &Defined) -> DomainName {
    let free = |number| {
        let guest = DomainName::try_from(format!("{name}{number}").as_str()).ok()?;
        (!defined.contains_key(&guest)).then_some(guest)
    };
    let guest = name.is_template().then(|| (1..=defined.len()).find_map(free)).flatten();
    guest.unwrap_or_else(|| name.clone())
}

/// The first file of each name in the directories of definitions. What stands for no guest is the generator's to tell,
/// and so is a directory that cannot be read.
fn defined(search: &SearchPath) -> Defined {
    let mut defined = Defined::new();
    for directory in search.directories() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Some(Ok(name)) = domain::defined::<DomainName>(&entry.file_name())
                && entry.path().exists()
            {
                defined.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    defined
}

/// Whether a definition is one that keeps its guest from being started, on purpose.
fn is_mask(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device() || found.len() == 0)
}

/// What was said so far.
#[derive(Debug, Default)]
struct Told {
    lines: BTreeSet<String>,
    refused: BTreeSet<PathBuf>,
    checked: usize,
    elsewhere: bool,
}

impl Told {
    /// Prints the complaints of a definition.
    fn count(&mut self, path: &Path, opinion: &Opinion) -> io::Result<()> {
        self.checked += 1;
        if opinion.verdict == Verdict::Refused {
            self.refused.insert(path.to_owned());
        }
        self.print(&opinion.lines)
    }

    /// Prints complaints that are of no one definition.
    fn tell(&mut self, opinion: &Opinion) -> io::Result<()> {
        self.elsewhere |= opinion.verdict == Verdict::Refused;
        self.print(&opinion.lines)
    }

    fn print(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            if self.lines.insert(line.clone()) {
                writeln!(io::stdout(), "{line}")?;
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Verdict {
        if !self.refused.is_empty() {
            let (refused, checked) = (self.refused.len(), self.checked);
            crate::complain(&format!("{refused} of {checked} definitions would start no guest"));
        }
        if self.refused.is_empty() && !self.elsewhere { Verdict::Fine } else { Verdict::Refused }
    }
}
