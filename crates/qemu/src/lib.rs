//! A domain and the facts of its host to a plan of QEMU's launch.
//!
//! The crate is pure: it opens no file, asks no QEMU and starts nothing. What it must know of the host comes
//! in as plain data, [`HostFacts`]; what must be opened or passed on goes out as plain data, a [`LaunchPlan`].
//! The shim carries the plan out.
//!
//! Three steps, each a table of contents in a file of its own:
//! - [`complete`] fills in what the domain leaves out and lasts: defaults, implicit devices, addresses. The
//!   result is what a management program shows as the guest's definition; completing it again changes nothing.
//! - [`live`] adds what each start assigns anew: aliases, USB ports, boot order.
//! - [`plan`] makes the command line of a completed domain, in libvirt's order.
//!
//! # Where things stand
//! Names mirror the crate `domain`: what `<disk>` means is `devices/disk.rs` here and there. A file here has
//! the element's `complete`, if it has defaults, and its `arguments`. What several devices share is in
//! `devices.rs` (addresses, ids, virtio options) and `devices/chardev.rs`. PCI addresses are one algorithm
//! over all devices, in `pci`.
//!
//! To implement a word: read it in `domain`'s file of the element (and take it off the list of refused words
//! there), write it there, complete it and turn it into arguments in this crate's file of the element, and add
//! a case below `tests/cases`. Keys of options are set on [`json::Object`] and [`argv::Options`], which escape
//! values; nothing else joins text into arguments. A file of the host goes to `Command::needs_file` with the
//! place of its element, a descriptor to `Command::pass_fd`, one that the caller may have opened to
//! `Command::inherits`. What cannot be honoured is refused with
//! `Command::refuse` or a fault at the element's place: nothing is dropped in silence.

mod arch;
mod argv;
mod board;
mod boot;
mod bound_volumes;
mod change;
mod clock;
mod command;
mod complete;
mod cpu;
mod credentials;
mod devices;
mod facts;
mod firmware;
mod genid;
mod inherited;
mod iothreads;
mod json;
mod launch;
mod launch_security;
mod lifecycle;
mod live;
mod machine;
mod memory;
mod memory_backing;
mod monitor;
mod numa;
mod numatune;
mod os;
mod overrides;
mod pci;
mod pinning;
mod plan;
mod planner;
mod pm;
mod ports;
mod probe;
mod rules;
mod sandbox;
mod secrets;
mod storage;
mod sysinfo;
mod throttle_groups;
mod tuning;
mod vcpu;

pub use arch::emulator;
pub use bound_volumes::{FIRST_VOLUME_SET, is_volume_set, keep_bound_volumes};
pub use change::{
    Attachment, Changes, Detachment, MonitorCommand, Receipt, SentFd, Step, StepKind,
    UnpluggedMedium, attachment, changes, detachment, forget, medium, plugged,
};
pub use complete::complete;
pub use credentials::Credential;
pub use devices::disk::image_descriptor;
pub use facts::{
    Accelerators, ChardevFacts, Directories, DisplayFacts, HelperFacts, HostClock, HostFacts,
    HostModel, HostModels, HostNuma, HugePageFolder, NbdkitFacts, NetworkFacts, SevFacts,
    SocketPath, UsbDevice, VirtualNetwork,
};
pub use firmware::{
    DescriptorError, FirmwareCode, FirmwareDescriptor, FirmwareFile, FirmwareTrait,
};
pub use inherited::{Inherited, Opened};
pub use launch::{Launch, StartMode};
pub use live::{live, running};
pub use plan::{
    Access, Console, CopiedFile, CredentialForm, DisplayPassword, FdKind, GuestReady, Helper,
    HelperInput, HostCache, HostFile, Invocation, LaunchPlan, PassedFd, PassedPci,
    PasswordProtocol, Port, PortRole, QemuThread, ReadyAt, Service, ThreadCpus, ThreadPolicy,
    ThreadQuotas, TunedThread, UnpluggedLink, VsockNumber, WrittenFile,
};
pub use planner::plan;
pub use probe::{
    Abilities, NetdevReconnect, ProbeError, QemuBinary, QemuVersion, Question, Unanswered,
    probe_arguments,
};
pub use storage::{SealedSecret, SecretNeed, StorageFacts, Volume, secrets, volumes};
