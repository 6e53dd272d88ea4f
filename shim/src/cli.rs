//! The command line. `--help` and the option list of glassbox-qemu(1) are made from these definitions.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Parser, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Start a guest from a libvirt domain XML file and stay beside it until it ends
///
/// QEMU runs as a child of this program and inherits all that it was started with: cgroup, namespaces,
/// user, limits, CPU affinity. The exit status says how the guest ended.
#[derive(Debug, Clone, Parser)]
#[command(name = "glassbox-qemu", version, max_term_width = 100)]
#[command(group = ArgGroup::new("definition").required(true))]
pub(crate) struct Cli {
    /// The domain XML; `-` reads standard input
    #[arg(value_name = "FILE", group = "definition", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,

    /// Start the guest of unit qemu@INSTANCE.service, whose NAME.xml is looked for in the
    /// directories of definitions
    #[arg(long, value_name = "INSTANCE", groups = ["definition", "unit"])]
    pub(crate) instance: Option<String>,

    /// Be a program beside a guest instead, the one that serves this device: what --hand-over found in the guest's
    /// plan; for swtpm@.service, virtiofsd@.service and others like them
    #[arg(long, value_name = "INSTANCE:DEVICE", groups = ["definition", "unit"],
        conflicts_with_all = ["print_args", "print_xml", "check", "user"])]
    pub(crate) companion: Option<String>,

    /// Read the domain XML from this inherited file descriptor to its end
    #[arg(long, value_name = "N", group = "definition")]
    pub(crate) xml_fd: Option<i32>,

    /// Look for the definition and the registry in the user's directories instead of the system's
    #[arg(long)]
    pub(crate) user: bool,

    /// The guest's name, instead of the definition's
    #[arg(long, value_name = "NAME", conflicts_with = "instance")]
    pub(crate) name: Option<String>,

    /// The guest's UUID, instead of the definition's
    #[arg(long, value_name = "UUID")]
    pub(crate) uuid: Option<String>,

    /// Leave the guest's CPUs stopped until somebody resumes them over the guest's other monitor
    #[arg(long, conflicts_with = "incoming")]
    pub(crate) paused: bool,

    /// Wait for a migration to come in instead of booting: from a URI of QEMU's, from an inherited file
    /// descriptor, or from where the other monitor says (`defer`)
    #[arg(long, value_name = "URI|fd:N|defer")]
    pub(crate) incoming: Option<String>,

    /// Print QEMU's command line, one argument a line, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) print_args: bool,

    /// Print the domain XML with its defaults filled in and its addresses assigned, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) print_xml: bool,

    /// Print every fault of the definition and every part of it that is left out, and start nothing
    #[arg(long, group = "mode")]
    pub(crate) check: bool,

    /// Open what the guest needs, hand that to the service manager for the unit's sandboxed main process, and
    /// start nothing; for ExecStartPre= of qemu@.service and those of companions, as root
    #[arg(long, group = "mode", requires = "unit")]
    pub(crate) hand_over: bool,

    /// Remove what --hand-over made and the kernel does not remove by itself; for ExecStopPost= of
    /// qemu@.service, as root
    #[arg(long, group = "mode", requires = "instance")]
    pub(crate) take_back: bool,

    /// Make a running guest what its definition says, as far as that goes without a restart, and say what needs one;
    /// for ExecReload= of qemu@.service, as root
    #[arg(long, group = "mode")]
    pub(crate) reload: bool,

    /// Wait until a companion's program listens at the socket that it makes itself; for ExecStartPost= of its unit
    #[arg(long, group = "mode", requires = "companion")]
    pub(crate) listening: bool,

    /// Ask a QEMU binary what it is and can do, print that as JSON, and start no guest
    #[arg(long, value_name = "BINARY", group = "mode", group = "definition", num_args = 0..=1,
        default_missing_value = "/usr/bin/qemu-system-x86_64", value_hint = ValueHint::FilePath)]
    pub(crate) probe: Option<String>,

    /// Give unit qemu@INSTANCE.service its settings when systemd has none for it yet, as before the first
    /// start of a template's guest, and start no guest; used by glassbox-instance@.service
    #[arg(long, value_name = "INSTANCE", group = "mode", group = "definition")]
    pub(crate) declare: Option<String>,

    /// Print the completions of this program for a shell, and start nothing
    #[arg(long, value_name = "SHELL", group = "mode", group = "definition", value_enum)]
    pub(crate) completions: Option<Shell>,

    /// Use this open file descriptor for a device instead of opening one; may be repeated. NAME is an
    /// interface's alias such as net0 (a tap device, once for each pair of queues), net0-vhost, vsock0,
    /// a disk's target or fdgroup, or kvm
    #[arg(long = "fd", value_name = "NAME=N")]
    pub(crate) fds: Vec<NamedFd>,

    /// Whether the management daemon must know of the guest
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Register::Auto)]
    pub(crate) register: Register,

    /// The registry's socket
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) registry: Option<PathBuf>,

    /// Tell the registry that the definition is not kept once the guest has ended
    #[arg(long)]
    pub(crate) transient: bool,

    /// Talk to no registry, no bus and no service manager, claim nothing, and use a runtime directory
    /// of this run's own
    #[arg(long, conflicts_with_all = ["register", "registry", "transient", "instance"])]
    pub(crate) standalone: bool,

    /// How long QEMU may take until the guest's CPUs run, before it is killed; in a unit the default is
    /// for ever, for its TimeoutStartSec= bounds the start, elsewhere 600
    #[arg(long, value_name = "SECONDS")]
    pub(crate) start_timeout: Option<u64>,

    /// How long the guest may take to power down when it is stopped, before QEMU is quit; in a unit
    /// the default is most of its TimeoutStopSec=, elsewhere 80; with 0 the guest is not asked
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u64>,

    /// Write the id of this process, the guest's main one, to a file once QEMU is started; removed
    /// when the guest has ended
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) pidfile: Option<PathBuf>,

    /// End QEMU at once when the process that started this program has ended; its PID, if given, also
    /// tells when it ended before this program could watch it
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true)]
    pub(crate) die_with_parent: Option<Option<i32>>,
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
