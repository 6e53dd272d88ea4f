//! The command line. `--help` and the option list of glassboxd(8) are made from these definitions.

use std::path::PathBuf;

use clap::Parser;

/// Holds the claims of running guests on their names and UUIDs, and shows the guests on D-Bus.
#[derive(Debug, Parser)]
#[command(name = "glassboxd", version)]
pub(crate) struct Options {
    /// Serve the user's own guests, on the session bus
    #[arg(long)]
    pub(crate) user: bool,

    /// Listen on this socket, unless systemd passes one [default: /run/glassbox/registry, or
    /// $XDG_RUNTIME_DIR/glassbox/registry with --user]
    #[arg(long, value_name = "PATH")]
    pub(crate) registry: Option<PathBuf>,

    /// Log what is of use only when looking for a fault
    #[arg(long, short)]
    pub(crate) verbose: bool,
}
