//! What the shim is to do to start a guest.

use std::time::Duration;

use domain::devices::{ChardevType, Interface};
use domain::{CpuQuota, CpuSet, PciAddress, Place, SchedulerPolicy};
use serde::{Deserialize, Serialize};

/// Everything that starting one guest takes, as plain data. Planning the same domain with the same facts
/// twice gives equal plans.
///
/// It is no running guest and holds nothing open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    /// Path of the QEMU binary.
    pub emulator: String,
    /// QEMU's arguments without its name.
    pub arguments: Vec<String>,
    /// The file descriptors that QEMU finds open beside 0 to 2, numbered from 3 without gap.
    pub fds: Vec<PassedFd>,
    /// Files of the host that the guest cannot start without, in the order of the document.
    pub files: Vec<HostFile>,
    /// Files that each guest has for itself, made of a template when they are missing.
    pub copies: Vec<CopiedFile>,
    /// Files in the guest's runtime directory that are written anew at each start.
    pub written: Vec<WrittenFile>,
    /// Character devices whose host side is a pty that QEMU opens, with the ids that `query-chardev` lists.
    pub consoles: Vec<Console>,
    /// All ports of the guest, the first console first.
    pub ports: Vec<Port>,
    /// Variables that are set for QEMU on top of the environment that it inherits; of two of a name the later
    /// one counts.
    pub environment: Vec<(String, String)>,
    /// Passwords to set over QMP before the guest runs; until then QEMU lets nobody in.
    pub passwords: Vec<DisplayPassword>,
    /// What the balloon is to leave the guest, in bytes, when that is less than all its memory.
    pub balloon: Option<u64>,
    /// Programs that serve the guest beside QEMU. Each listens at its socket before QEMU is started and ends
    /// with the guest.
    pub helpers: Vec<Helper>,
    /// PCI devices of the host that QEMU takes, in the order of the document.
    pub pci_devices: Vec<PassedPci>,
    /// Network devices whose cable is unplugged before the guest runs.
    pub unplugged: Vec<UnpluggedLink>,
    /// Threads of QEMU that have CPUs of the host or a policy of their own, QEMU's own threads first.
    pub threads: Vec<TunedThread>,
    /// How much CPU time single threads may have, where they have control groups of their own.
    pub quotas: ThreadQuotas,
    /// What the guest says when it is ready; none of a guest that is when its CPUs run.
    pub ready: Option<GuestReady>,
    /// The number of a vsock that a program serves: no other guest of the host is to have it, and there is no kernel
    /// to see to that.
    pub vsock: Option<VsockNumber>,
}

/// The number of a guest's vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockNumber {
    /// The number.
    pub cid: u32,
    /// The element that gives it.
    pub place: Place,
}

/// How the guest says that it is ready, with a line `READY=1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestReady {
    /// Where it says so.
    pub at: ReadyAt,
    /// How long it may take from when its CPUs run.
    pub timeout: Duration,
}

/// Where a guest says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyAt {
    /// On a port of a virtio serial controller.
    Port {
        /// The port's name in the guest.
        name: String,
        /// The socket at which QEMU serves it, one of [`LaunchPlan::fds`].
        socket: String,
    },
    /// At a stream socket of the host for vsock(7), where the shim listens.
    Vsock {
        /// The guest's number.
        cid: u32,
        /// The host's port.
        port: u32,
        /// The element that says so.
        place: Place,
    },
    /// At a Unix stream socket, where the shim listens: the program that serves the guest's vsock connects to it for
    /// each connection of the guest's. It does not pass on that the guest has closed only its half of one.
    VsockProgram {
        /// The socket's path.
        path: String,
        /// The element that says so.
        place: Place,
    },
}

/// The password of a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayPassword {
    /// Whose it is.
    pub protocol: PasswordProtocol,
    /// The password.
    pub password: String,
    /// Until when it counts, in seconds since 1970; none is for ever.
    pub valid_to: Option<u64>,
    /// What becomes of clients that are there, a word of QMP's `set_password`.
    pub connected: Option<&'static str>,
}

/// Displays with passwords, the words of QMP's `set_password`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordProtocol {
    /// VNC.
    Vnc,
    /// SPICE.
    Spice,
}

impl PasswordProtocol {
    /// The word of QMP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Spice => "spice",
        }
    }
}

/// A file descriptor that the shim makes or inherited, and QEMU inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedFd {
    /// The number that it has in QEMU.
    pub number: i32,
    /// What it is.
    pub kind: FdKind,
}

/// What stands behind a [`PassedFd`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdKind {
    /// QEMU's end of a stream socket pair whose other end is the shim's own QMP session.
    ShimMonitor,
    /// QEMU's end of a stream socket pair whose other end the management daemon gets from the shim.
    DaemonMonitor,
    /// A listening stream socket bound to this path: a monitor, or the host side of a channel.
    Listener {
        /// The socket's path. The shim makes missing folders below the guest's runtime directory.
        path: String,
    },
    /// A file open for appending: what a guest writes to a console or a log.
    Output {
        /// The file's path. The shim makes missing folders below the log directory.
        path: String,
        /// Whether the shim empties the file when it opens it.
        truncate: bool,
    },
    /// `/dev/vhost-vsock`, told the guest's number (`VHOST_VSOCK_SET_GUEST_CID`, vhost.h).
    Vsock {
        /// The number.
        cid: u32,
        /// The element that gives it.
        place: Place,
    },
    /// One pair of queues of a tap device (`TUNSETIFF` of /dev/net/tun, with `IFF_VNET_HDR` for virtio).
    Tap {
        /// The interface as the document has it: name, address, size of packets, filters, limits.
        interface: Box<Interface>,
        /// The bridge that the tap device joins.
        bridge: Option<String>,
        /// Which pair of queues it is; with more than one the device has `IFF_MULTI_QUEUE`.
        queue: u16,
    },
    /// One pair of queues of a macvtap device on the interface's host device.
    MacVtap {
        /// The interface as the document has it.
        interface: Box<Interface>,
        /// Which pair of queues it is.
        queue: u16,
    },
    /// A device or other file of the host.
    Device {
        /// Paths of it; the first one that exists is opened.
        paths: Vec<String>,
        /// What it is used for.
        access: Access,
    },
    /// A stream socket connected to this path, where another program listens.
    Connection {
        /// The socket's path.
        path: String,
    },
    /// A file in memory with a credential of the unit's, in the form in which QEMU passes it on.
    Credential {
        /// The file that has it.
        file: String,
        /// The form.
        form: CredentialForm,
    },
    /// What the caller opened under this name.
    Inherited {
        /// The name.
        name: String,
        /// Which of those of this name it is.
        index: usize,
        /// For an image, how the host's cache is to be used.
        cache: Option<HostCache>,
    },
}

/// Whether what is read and written goes by the host's cache, which is a flag of an open file (`O_DIRECT`, open(2)).
///
/// QEMU 9.1 and newer find an image by that flag among what they inherited, and older ones set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCache {
    /// Whether it does not.
    pub bypassed: bool,
    /// The element that names the image.
    pub place: Place,
}

impl FdKind {
    /// A device of the host, open for reading and writing.
    pub(crate) fn device(path: &str) -> Self {
        Self::Device { paths: vec![path.to_owned()], access: Access::ReadWrite }
    }
}

/// How a credential is written for QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialForm {
    /// As it is.
    Plain,
    /// As a string of SMBIOS: this, and the credential in base64 behind it.
    OemString {
        /// What stands before it.
        prefix: String,
    },
}

/// A network device whose cable is unplugged before the guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpluggedLink {
    /// The device's id, the `name` of QMP's `set_link`.
    pub device: String,
    /// The element that says so.
    pub place: Place,
}

/// Threads of QEMU that do not run as the host runs them by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunedThread {
    /// Which threads.
    pub thread: QemuThread,
    /// Where they run; none leaves them where they are.
    pub cpus: Option<ThreadCpus>,
    /// How they are scheduled; none leaves that as it is.
    pub policy: Option<ThreadPolicy>,
}

/// Threads of QEMU by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QemuThread {
    /// The main thread and all others that are not named here.
    Emulator,
    /// A virtual CPU, by the `cpu-index` of QMP's `query-cpus-fast`.
    Vcpu(u32),
    /// An I/O thread by its number; its `id` in QMP's `query-iothreads` is `iothread` and the number.
    IoThread(u32),
}

/// CPU time for each thread of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadQuotas {
    /// For each virtual CPU.
    pub vcpu: Option<CpuQuota>,
    /// For each I/O thread.
    pub iothread: Option<CpuQuota>,
}

/// CPUs of the host that threads run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadCpus {
    /// The CPUs.
    pub cpus: CpuSet,
    /// The element that says so.
    pub place: Place,
}

/// A policy of the host's scheduler (sched(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPolicy {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// The priority in real time, from 1 to 99; 0 for policies that have none.
    pub priority: i32,
    /// The element that says so.
    pub place: Place,
}

/// A PCI device of the host that QEMU takes by VFIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedPci {
    /// Its address on the host.
    pub address: PciAddress,
    /// The driver that is to take it from its own first, and to give it back later; none is for a device that others
    /// have taken.
    pub driver: Option<String>,
    /// The element that names it.
    pub place: Place,
}

impl PassedPci {
    /// The driver that gives any PCI device to a program.
    pub(crate) const USUAL_DRIVER: &str = "vfio-pci";
}

/// How QEMU uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is read and written.
    ReadWrite,
    /// It is written.
    Write,
}

/// A file of the host that must exist before QEMU is started.
///
/// It is checked before, for QEMU's own message would name neither the XML file nor the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// The path.
    pub path: String,
    /// What it is used for.
    pub access: Access,
    /// The name under which the caller may open it in the guest's place, see [`crate::Inherited`]; none for a file that
    /// QEMU takes by its path only.
    pub descriptor: Option<String>,
    /// The element that names it.
    pub place: Place,
}

/// A file that each guest has for itself: the variables of its firmware.
///
/// The shim copies the template when the file is missing, and leaves a file that is there alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedFile {
    /// The path; folders that are missing are made.
    pub path: String,
    /// What it is copied from.
    pub template: String,
    /// The name under which the caller may open it, as [`HostFile::descriptor`].
    pub descriptor: String,
    /// The element that names it.
    pub place: Place,
}

/// A file that is written anew at each start, readable by nobody but QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// The path.
    pub path: String,
    /// The content.
    pub content: String,
}

/// A console of the guest that QEMU offers as a pty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The id of QEMU's character device, `charserial0`.
    pub chardev: String,
    /// The device's alias, `serial0`: what users call it.
    pub alias: String,
}

/// A port of the guest by which somebody on the host may speak with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The device's alias, `serial0`.
    pub alias: String,
    /// What the guest has it for.
    pub role: PortRole,
    /// What it is on the host.
    pub kind: ChardevType,
    /// The Unix socket at which QEMU serves it, to one client at a time, if it does.
    pub socket: Option<String>,
}

/// What a port is to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRole {
    /// A console, or another serial or parallel port.
    Console,
    /// A channel, with the name that the guest sees, if it has one.
    Channel(Option<String>),
}

/// A program that serves the guest beside QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// What it is.
    pub service: Service,
    /// The device that it serves: `tpm0`, `fs1`, `net0`. Devices of a kind are counted in the order of the definition,
    /// whatever their aliases.
    pub device: String,
    /// What runs, and ends, before each start of it.
    pub before: Vec<Invocation>,
    /// The program.
    pub program: Invocation,
    /// What it reads from file descriptors, numbered from 4 on.
    pub inputs: Vec<HelperInput>,
    /// The Unix socket at which it listens.
    pub socket: String,
    /// The files and folders that it opens for itself.
    pub files: Vec<HostFile>,
    /// The element that needs it.
    pub place: Place,
}

/// What a program reads from a file descriptor, for nobody else to see: not in its arguments nor in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperInput {
    /// A text of the definition's.
    Text(String),
    /// A file that its account need not be allowed to read.
    File(HostFile),
    /// A credential of its unit's.
    Credential {
        /// The name.
        name: String,
        /// The element that asks for it.
        place: Place,
    },
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The program's path, or its name where it is looked for in `PATH`.
    pub program: String,
    /// Its arguments without its name.
    pub arguments: Vec<String>,
}

/// Kinds of programs that serve a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A trusted platform module, `swtpm(8)`.
    Swtpm,
    /// A directory, virtiofsd.
    Virtiofsd,
    /// A network, `passt(1)`.
    Passt,
    /// A vsock, vhost-device-vsock.
    Vsock,
    /// Reservations of SCSI disks, `qemu-pr-helper(8)`.
    Reservations,
    /// An image on a server, `nbdkit(1)`.
    Nbdkit,
}

impl Service {
    /// The file descriptor at which a program of this kind finds its socket listening; none for one that makes the
    /// socket by itself.
    #[must_use]
    pub fn listener(self) -> Option<i32> {
        match self {
            Self::Swtpm | Self::Virtiofsd | Self::Reservations | Self::Nbdkit => Some(LISTENER),
            Self::Passt | Self::Vsock => None,
        }
    }

    /// Whether it is told of that socket by the environment (sd_listen_fds(3)), and by an argument otherwise.
    #[must_use]
    pub fn is_activated(self) -> bool {
        match self {
            Self::Reservations | Self::Nbdkit => true,
            Self::Swtpm | Self::Virtiofsd | Self::Passt | Self::Vsock => false,
        }
    }

    /// The usual name of the program.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Swtpm => "swtpm",
            Self::Virtiofsd => "virtiofsd",
            Self::Passt => "passt",
            Self::Vsock => "vhost-device-vsock",
            Self::Reservations => "qemu-pr-helper",
            Self::Nbdkit => "nbdkit",
        }
    }
}

/// The first file descriptor after standard input, output and messages.
pub(crate) const LISTENER: i32 = 3;

/// The first file descriptor after that of the socket.
pub(crate) const FIRST_INPUT: i32 = LISTENER + 1;
