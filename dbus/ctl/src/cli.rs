//! The command line. `--help` and the option list of glassboxctl(1) are made from these definitions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

/// Check definitions of guests, and take over those of libvirt
#[derive(Debug, Clone, Parser)]
#[command(name = "glassboxctl", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What is to be done
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What is to be done.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Verb {
    /// Print every complaint of definitions, with file, line and column
    Check(Check),
    /// Take over definitions of libvirt's, with what belongs to their guests
    Import(Import),
    /// Print the completions of this program for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Which definitions are checked.
#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    /// The domain XML; without one, all definitions in the directories of definitions
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,

    /// The user's definitions instead of the system's
    #[arg(long)]
    pub(crate) user: bool,
}

/// What is taken over.
#[derive(Debug, Clone, Args)]
pub(crate) struct Import {
    /// The guests
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) names: Vec<String>,

    /// All guests that libvirt has
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,

    /// Where libvirt's definitions are [default: /etc/libvirt/qemu, or ~/.config/libvirt/qemu with --user]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: Option<PathBuf>,

    /// Replace definitions and firmware variables that are there already
    #[arg(long)]
    pub(crate) force: bool,

    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// From the user's libvirt to the user's definitions instead of the system's
    #[arg(long)]
    pub(crate) user: bool,
}
