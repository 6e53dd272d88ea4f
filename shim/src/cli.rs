//! The command line. `--help` and the option list of glassbox-qemu(1) are made from these definitions.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

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

    /// Use this open file descriptor for a device instead of opening one; may be repeated. NAME is an
    /// interface's alias such as net0 (a tap device, once for each pair of queues), net0-vhost, vsock0,
    /// a disk's target or fdgroup, or kvm
    #[arg(long = "fd", value_name = "NAME=N")]
    pub(crate) fds: Vec<NamedFd>,

    /// Whether the management daemon must know of the guest
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Register::Auto)]
    pub(crate) register: Register,

    /// The registry's socket
    #[arg(long, value_name = "PATH")]
    pub(crate) registry: Option<PathBuf>,

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

/// The first file descriptor after standard input, output and messages, which are QEMU's.
const FIRST_FD: RawFd = 3;

/// A file descriptor with the name of what it is for, `NAME=N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFd {
    /// The name.
    pub(crate) name: String,
    /// The number, 3 or more.
    pub(crate) number: RawFd,
}

impl FromStr for NamedFd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) =
            text.split_once('=').ok_or("there is no '='; give one such as net0=3")?;
        let number =
            number.parse().map_err(|_| format!("'{number}' is no number; give one such as 3"))?;
        if name.is_empty() {
            return Err("the name is missing; give one such as net0=3".to_owned());
        }
        if number < FIRST_FD {
            return Err("0 to 2 are QEMU's input, output and messages; give 3 or more".to_owned());
        }
        Ok(Self { name: name.to_owned(), number })
    }
}
