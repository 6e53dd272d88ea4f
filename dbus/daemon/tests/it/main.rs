//! The real daemon between a private bus and a stand-in for the service manager.

// The helpers of tests are tests as well, which clippy's allow-unwrap-in-tests does not see.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod defined;
mod host;
mod load;
mod machined;
mod manage;
mod ports;
mod qemu;
mod registry;
mod restart;
mod strangers;
