//! Libvirt domain XML, to and from a typed model.
//!
//! The crate takes text and returns values: it opens no file, knows no QEMU word, and starts nothing.
//! The generator and the shim read the file, call [`DomainName`] and friends for the words of the domain,
//! and print the faults that the crate collects.
//!
//! The format is libvirt's, <https://libvirt.org/formatdomain.html>.

mod definition;
mod fault;
mod header;
mod names;
mod reader;
pub mod tree;
mod writer;

pub use definition::{LARGEST_DEFINITION, SearchPath, UserEnvironment, definition_text};
pub use fault::{Fault, Faults, Place, Position, Severity};
pub use header::{DomainKind, Header};
pub use names::{DomainName, DomainUuid, MachineName, NameError, UnitInstance};
pub use reader::{Keyword, OnOff, Reader, YesNo};
pub use writer::{OpenElement, Writer};
