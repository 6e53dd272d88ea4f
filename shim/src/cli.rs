//! The command line. `--help` and the option list of glassbox-qemu(1) are made from these definitions.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Start a guest from a libvirt domain XML file and stay beside it until it ends
///
/// QEMU runs as a child of this program and inherits all that it was started with: cgroup, namespaces,
/// user, limits, CPU affinity. The exit status says how the guest ended.
#[derive(Debug, Clone, Parser)]
#[command(name = "glassbox-qemu", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The domain XML; `-` reads standard input
    #[arg(value_name = "FILE", required_unless_present = "instance", conflicts_with = "instance")]
    pub(crate) file: Option<PathBuf>,

    /// Start the guest of unit qemu@INSTANCE.service, whose NAME.xml is looked for in the
    /// directories of definitions
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,

    /// Look for the definition and the registry in the user's directories instead of the system's
    #[arg(long)]
    pub(crate) user: bool,

    /// Print QEMU's command line, one argument a line, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) print_args: bool,

    /// Print the domain XML with its defaults filled in and its addresses assigned, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) print_xml: bool,

    /// Print every fault of the definition and every part of it that is left out, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) check: bool,

    /// Whether the management daemon must know of the guest
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Register::Auto)]
    pub(crate) register: Register,

    /// The registry's socket
    #[arg(long, value_name = "PATH")]
    pub(crate) registry: Option<PathBuf>,

    /// How long QEMU may take until the guest's CPUs run, before it is killed; in a unit the default is
    /// for ever, for its TimeoutStartSec= bounds the start, elsewhere 600
    #[arg(long, value_name = "SECONDS")]
    pub(crate) start_timeout: Option<u64>,

    /// How long the guest may take to power down when it is stopped, before QEMU is quit; in a unit
    /// the default is most of its TimeoutStopSec=, elsewhere 80
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u64>,
}

/// When a guest is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Register {
    /// Claim the guest's name when there is a daemon; without one, start and register when it comes
    Auto,
    /// Do not start without a claim
    Required,
    /// Start without a claim, and never register
    No,
}
