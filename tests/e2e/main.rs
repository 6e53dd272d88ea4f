//! The product on a real systemd, with real guests: what an administrator does, and what must come of it.
//!
//! One program, so that `cargo test` always has two containers to run side by side.

mod account;
mod boot;
mod claims;
mod daemon;
mod fate;
mod faults;
mod health;
mod path;
mod stop;
mod tools;
mod user;
