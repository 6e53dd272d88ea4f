//! The program as systemd calls it: a root tree in, a unit tree out.

// What helps the tests fails by panicking, as they do.
#![allow(clippy::unwrap_used)]

mod call;
mod corpus;
mod dry_run;
mod golden;
mod hostile;
mod odd;
mod tree;
mod verify;
