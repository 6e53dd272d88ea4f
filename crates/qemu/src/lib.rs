//! A domain and the facts of its host to a plan of QEMU's launch.
//!
//! The crate is one pure function: it opens no file, asks no QEMU and starts nothing. What it must know of
//! the host comes in as plain data; what must be opened or passed on goes out as plain data, a
//! [`LaunchPlan`]. The shim carries the plan out.

mod plan;

pub use plan::{Access, Console, FdKind, HostFile, LaunchPlan, PassedFd};
