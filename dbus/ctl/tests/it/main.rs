//! `glassboxctl` as a program, for a user whose home is a directory of the test.
//!
//! Beside it are stand-ins for `glassbox-qemu` and `glassbox-generator`, so that these tests need nothing else built; the
//! end-to-end tests have the real ones, and a real libvirt.

// Clippy's own exception for tests does not reach the functions that several tests share.
#![allow(clippy::unwrap_used)]

mod check;
mod home;
mod import;
