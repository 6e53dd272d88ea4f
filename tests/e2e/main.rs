//! The product on a real systemd, with real guests: what an administrator does, and what must come of it.
//!
//! One program, so that `cargo test` always has two containers to run side by side.

mod account;
mod boot;
mod claims;
mod companions;
mod compromise;
mod credentials;
mod daemon;
mod descriptors;
mod directory;
mod embedding;
mod fate;
mod faults;
mod guestfs;
mod health;
mod import;
mod inherit;
mod input;
mod lan;
mod launcher;
mod libvirt;
mod machined;
mod machines;
mod manage;
mod network;
mod path;
mod pinning;
mod pod;
mod ports;
mod probe;
mod resources;
mod sandbox;
mod sector;
mod shutdown;
mod stop;
mod storage;
mod system;
mod templates;
mod thread_groups;
mod tools;
mod unruly;
mod user;
mod virtual_networks;
mod vm;
mod vsock;
