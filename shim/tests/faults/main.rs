//! What `glassbox-qemu` does when QEMU, the system or an administrator fails it: each fault ends in the state that
//! glassbox-qemu(1) documents, in time, with no process and no file left behind.
//!
//! QEMU is a stand-in here, for the real one has none of these faults. No test needs root or systemd.

// Clippy's own exception for tests does not reach the functions that several tests share.
#![allow(clippy::unwrap_used)]

mod limits;
mod monitor;
mod setup;
mod surroundings;
