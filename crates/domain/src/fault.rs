//! What is wrong with a domain's XML, and where.
//!
//! Every part of the translation puts what it finds into one [`Faults`] and goes on, so that a user sees all
//! faults of a file at once. A fault knows the line, column and path of its element; the file's name is
//! added by the program that read it.

use std::cell::RefCell;
use std::fmt;

/// A place in the text of a document, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where an element of the model came from, for messages about it later on.
///
/// Two places compare equal always: where a value stood is no part of what it says.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Line and column of the element; 0:0 for one that defaults added.
    pub position: Position,
    /// The path, such as `/domain/devices/disk[2]`.
    pub path: String,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Place {
    /// A fault at this place.
    #[must_use]
    pub fn refused(&self, what: impl Into<String>) -> Fault {
        Fault::refused(self.position, &self.path, what)
    }

    /// A report at this place that a part is left out of the guest.
    #[must_use]
    pub fn ignored(&self, what: impl Into<String>) -> Fault {
        Fault::ignored(self.position, &self.path, what)
    }

    /// A report at this place that a part is the guest's unit to carry out, by these settings.
    #[must_use]
    pub fn left_to_unit(&self, settings: &str) -> Fault {
        Fault::left_to_unit(self.position, &self.path, settings)
    }

    /// The place of the child element `name`, where the position of the child itself is not known.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { position: self.position, path: format!("{}/{name}", self.path) }
    }
}

/// What becomes of a document with the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The guest is not started.
    Refused,
    /// The part is left out of the guest; the rest starts.
    Ignored,
    /// The part is carried out by the guest's unit, so it is left out of a guest that runs without one.
    Unit,
}

/// One thing wrong with a document. Displays as `LINE:COL: PATH: what; what to do`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {}{what}", path_prefix(.path))]
pub struct Fault {
    /// Where it is.
    pub position: Position,
    /// The element's path; empty when the text is no document.
    pub path: String,
    /// What is wrong and what to do, in lower case and without a full stop.
    pub what: String,
    /// What becomes of the document.
    pub severity: Severity,
}

impl Fault {
    /// A fault for which the guest is not started.
    pub fn refused(position: Position, path: &str, what: impl Into<String>) -> Self {
        Self { position, path: path.to_owned(), what: what.into(), severity: Severity::Refused }
    }

    /// A part that is left out of the guest.
    pub fn ignored(position: Position, path: &str, what: impl Into<String>) -> Self {
        Self { position, path: path.to_owned(), what: what.into(), severity: Severity::Ignored }
    }

    /// A part that the guest's unit carries out, by these settings of it.
    #[must_use]
    pub fn left_to_unit(position: Position, path: &str, settings: &str) -> Self {
        let what = format!(
            "the guest's unit has this as {settings}; without a unit it is left to whoever starts glassbox-qemu"
        );
        Self { position, path: path.to_owned(), what, severity: Severity::Unit }
    }

    /// The message with the file's name before it, `FILE:LINE:COL: PATH: what; what to do`.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        format!("{file}:{self}")
    }
}

fn path_prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// The faults of one document, collected while it is read and planned.
///
/// It is shared by all readers of the document, hence pushed to through a shared reference.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    /// No fault yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault.
    pub fn push(&self, fault: Fault) {
        self.0.borrow_mut().push(fault);
    }

    /// Whether a fault was found for which the guest is not started.
    #[must_use]
    pub fn any_refused(&self) -> bool {
        self.0.borrow().iter().any(|fault| fault.severity == Severity::Refused)
    }

    /// The faults in the order of the document.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Fault> {
        let mut faults = self.0.into_inner();
        faults.sort_by_key(|fault| fault.position);
        faults
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(RefCell::new(vec![fault]))
    }
}
