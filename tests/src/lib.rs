//! The test host: throw-away containers with a real systemd, and a small guest to run in them.
//!
//! A test asks [`Setup`] for a [`Host`]: a systemd-nspawn container on an overlay of a cached Debian root, with
//! the product *installed* by `make install` and the guest image beside it. It then talks to the host as an
//! administrator would, with `systemctl`, `machinectl` and files. Dropping the host removes all of it.
//!
//! A container shares the kernel of this machine, and mostly its control groups of version 1. [`Host::restore`] gives
//! a host that is a virtual machine with a kernel of its own and every controller of version 2.
//!
//! The library knows nothing of how the product works inside: it never calls its crates, only its programs.
//!
//! ```no_run
//! use tests::{Root, Setup};
//!
//! # fn main() -> anyhow::Result<()> {
//! let host = Setup::new(Root::Trixie).product()?.guest()?.boot()?;
//! host.run(["systemctl", "start", "qemu@web"])?.success()?;
//! # Ok(())
//! # }
//! ```

pub mod cache;
mod cgroups;
mod crate_layer;
pub mod definition;
pub mod demo;
mod each_root;
mod foreign;
pub mod guest;
mod host;
pub mod install;
mod layer;
mod package_layer;
mod packages;
mod process;
mod roots;
mod run;
mod scratch;
pub mod second_process;
mod setup;
mod skip;
mod stand_in;
mod state;
mod system_guest;
pub mod tally;
pub mod unit;
mod vm;

pub use definition::Definition;
pub use foreign::Foreign;
pub use host::Host;
pub use packages::require as require_packages;
pub use process::{Output, stream};
pub use roots::Root;
pub use run::Run;
pub use scratch::Scratch;
pub use second_process::SecondProcess;
pub use setup::Setup;
pub use skip::ready;
pub use stand_in::StandInQemu;
pub use unit::{PATIENCE, STAND_IN_FOLDER, Unit};
