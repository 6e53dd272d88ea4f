//! What a plan must know of the host, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use domain::devices::AudioType;
use domain::{CpuSet, MemorySize, NbdkitParts};
use serde::{Deserialize, Serialize};

use crate::credentials::Credential;
use crate::devices::disk::RESERVATIONS;
use crate::firmware::FirmwareDescriptor;
use crate::probe::Abilities;
use crate::storage::StorageFacts;

/// Everything of the host that changes what a domain means.
///
/// The shim fills it in; a value of [`Self::local`] describes an ordinary host with QEMU 7.2 or newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The host's architecture in QEMU's spelling: KVM runs guests of no other.
    pub arch: String,
    /// The QEMU binary of an x86_64 domain that names none.
    pub emulator: String,
    /// The machine type of an x86 domain that names none.
    pub default_machine: String,
    /// Machine types that stand for others, such as `q35` for `pc-q35-10.0`; empty leaves names as they are.
    pub machine_aliases: BTreeMap<String, String>,
    /// The accelerators that the host has.
    pub accelerators: Accelerators,
    /// The CPU model of an x86_64 domain that names none.
    pub default_cpu: String,
    /// What host-model means, if that was asked of QEMU.
    pub host_models: HostModels,
    /// Folders for the guest's sockets and files.
    pub directories: Directories,
    /// What displays do when the domain does not say.
    pub displays: DisplayFacts,
    /// The devices that the QEMU binary has, by QEMU's names; none when that was not asked, and then all are taken to
    /// be there.
    pub devices: Option<BTreeSet<String>>,
    /// What arguments the QEMU binary takes.
    pub abilities: Abilities,
    /// What the host's network has.
    pub network: NetworkFacts,
    /// The generic devices of SCSI devices, `scsi_host0:0:0:0` to `/dev/sg0`.
    pub scsi_generics: BTreeMap<String, String>,
    /// The USB devices; none when that was not asked, and then QEMU looks for those that a domain names.
    pub usb_devices: Option<Vec<UsbDevice>>,
    /// What character devices do when the domain does not say.
    pub chardevs: ChardevFacts,
    /// Programs beside QEMU that somebody starts for the guest; where there is none, what needs it is refused.
    pub helpers: HelperFacts,
    /// Secrets, volumes and programs of storage.
    pub storage: StorageFacts,
    /// The host's NUMA nodes.
    pub numa: HostNuma,
    /// Where memory of large pages comes from; the first is the default size.
    pub hugepages: Vec<HugePageFolder>,
    /// What time it is, if a domain asks.
    pub clock: Option<HostClock>,
    /// The firmware that is installed, ordered by the names of the descriptors.
    pub firmware: Vec<FirmwareDescriptor>,
    /// The credentials of the guest's unit that are the guest's, ordered by their names.
    pub credentials: Vec<Credential>,
    /// AMD SEV, if the host has it.
    pub sev: Option<SevFacts>,
}

/// A USB device of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsbDevice {
    /// Who makes it.
    pub vendor: u16,
    /// What it is.
    pub product: u16,
    /// The bus that it is on.
    pub bus: u32,
    /// Its number there, another one each time that it is plugged in.
    pub device: u32,
}

/// A network of the host that domains name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualNetwork {
    /// The bridge that its guests stand on.
    pub bridge: String,
    /// The largest packet, if it is not the usual one.
    pub mtu: Option<u32>,
}

/// What the host's network has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Networks by name, or why one cannot be used.
    pub networks: BTreeMap<String, Result<VirtualNetwork, String>>,
    /// Whether the kernel moves packets of guests when the domain does not say.
    pub vhost_net: bool,
    /// Whether the kernel serves vsocks of guests, `/dev/vhost-vsock`; a program beside the guest does where it does not.
    pub vhost_vsock: bool,
    /// The number of a guest's vsock that is chosen at start, if one can be.
    pub vsock_cid: Option<u32>,
}

/// The host's NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNuma {
    /// The nodes; none when that was not asked, and then every node is taken to be there.
    pub nodes: Option<CpuSet>,
    /// The nodes that suit the guest best, for automatic placement.
    pub automatic: Option<CpuSet>,
    /// The CPUs of each node.
    pub cpus: BTreeMap<u32, CpuSet>,
}

/// A folder on a file system of large pages, `hugetlbfs`, of which a guest may take memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePageFolder {
    /// The size of its pages.
    pub page: MemorySize,
    /// The path.
    pub path: String,
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostClock {
    /// Seconds since 1970, UTC.
    pub now: i64,
    /// What is added to UTC for the local time, in seconds.
    pub local_offset: i64,
}

/// How the host's AMD SEV marks encrypted pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SevFacts {
    /// The bit of an address.
    pub cbitpos: u32,
    /// How many bits physical addresses lose.
    pub reduced_phys_bits: u32,
}

/// The accelerators that the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accelerators {
    /// KVM: `/dev/kvm` opens, or was opened by the caller.
    pub kvm: bool,
    /// Whether QEMU can be told by which path it opens KVM, as it can from version 8.2 on.
    pub kvm_by_path: bool,
    /// QEMU's translator.
    pub tcg: bool,
}

/// A named CPU model with changes, by which host-model is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostModel {
    /// The model, in QEMU's spelling.
    pub model: String,
    /// Features that are on or off, in QEMU's spelling and order.
    pub features: Vec<(String, bool)>,
}

/// What host-model means for each accelerator. Without a value it is QEMU's `host` or `max`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostModels {
    /// With KVM.
    pub kvm: Option<HostModel>,
    /// With QEMU's translator.
    pub tcg: Option<HostModel>,
}

/// Folders for the guest's sockets and files, each of its own and without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Sockets and files of the running guest.
    pub guest: String,
    /// Sockets of channels that have no path.
    pub channel: String,
    /// Variables of firmware.
    pub nvram: String,
    /// Memory that lies in files.
    pub memory: String,
    /// Logs of the guest's consoles.
    pub log: String,
    /// The states of emulated trusted platform modules, each in a folder with the guest's UUID as its name.
    pub swtpm: String,
}

/// Where a program beside the guest listens: what stands before and after the name of the device that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath {
    /// What stands before.
    pub before: String,
    /// What stands after.
    pub after: String,
}

impl SocketPath {
    /// A path of these two parts.
    #[must_use]
    pub fn new(before: impl Into<String>, after: impl Into<String>) -> Self {
        Self { before: before.into(), after: after.into() }
    }

    /// The path for a device such as `net0`.
    #[must_use]
    pub fn of(&self, device: &str) -> String {
        format!("{}{device}{}", self.before, self.after)
    }
}

/// What displays do when the domain does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayFacts {
    /// The address that VNC listens on.
    pub vnc_listen: String,
    /// The first TCP port that is free for VNC, 5900 or above.
    pub vnc_port: u16,
    /// Whether VNC clients log in by SASL.
    pub vnc_sasl: bool,
    /// The folder of VNC's certificates, if VNC is encrypted.
    pub vnc_tls: Option<String>,
    /// Whether VNC listens on a Unix socket of the guest's runtime directory.
    pub vnc_socket: bool,
    /// Whether VNC clients hear the guest.
    pub vnc_audio: bool,
    /// The address that SPICE listens on.
    pub spice_listen: String,
    /// The first TCP port that is free for SPICE, and the one after it for encrypted channels.
    pub spice_port: u16,
    /// Whether SPICE clients log in by SASL.
    pub spice_sasl: bool,
    /// Whether SPICE clients must know a password of the host's configuration.
    pub spice_password: bool,
    /// The folder of SPICE's certificates, if SPICE may be encrypted.
    pub spice_tls: Option<String>,
    /// Whether SPICE listens on a Unix socket of the guest's runtime directory.
    pub spice_socket: bool,
    /// The host's sound, for displays and guests that may have it.
    pub host_audio: Option<AudioType>,
    /// Whether guests without a display have the host's sound.
    pub nographics_audio: bool,
    /// The GPU that renders when the domain names none.
    pub render_node: Option<String>,
}

/// What character devices do when the domain does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChardevFacts {
    /// Whether TCP is encrypted.
    pub tls: bool,
    /// The folder of the certificates.
    pub certificates: String,
}

/// Programs beside QEMU that somebody starts for the guest; where there is none, what needs it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperFacts {
    /// Where the guest's own swtpm listens.
    pub swtpm: String,
    /// Where the guest's own virtiofsds listen.
    pub virtiofsd: SocketPath,
    /// Where the guest's own passts listen.
    pub passt: SocketPath,
    /// Whose nbdkit serves images on servers; where there is none QEMU reaches them itself.
    pub nbdkit: Option<NbdkitFacts>,
    /// Where the guest's own helper for reservations listens.
    pub reservations: String,
    /// Where the program that serves the guest's own vsock listens.
    pub vsock: SocketPath,
    /// Where that program is asked for connections to ports of the guest. With `_PORT` behind it, it is where a
    /// program of the host listens for the guest's connections to that port.
    pub vsock_ports: SocketPath,
    /// Where the guest's own message bus listens.
    pub dbus: Option<String>,
    /// Whether a program shows the display by RDP.
    pub rdp: bool,
    /// The folder in which a vhost-user-gpu listens for each video card, under the card's alias.
    pub gpu: Option<String>,
}

/// An nbdkit for each image on a server, see [`NbdkitParts::serves`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdkitFacts {
    /// What of it is installed.
    pub parts: NbdkitParts,
    /// Where the guest's own ones listen.
    pub socket: SocketPath,
    /// Whether a unit runs each: one that starts it again when it dies, and whose account has no name.
    pub supervised: bool,
}

/// Devices by names that QEMU's command line takes and its list of types does not have (QEMU's `qdev-monitor.c`).
const DEVICE_ALIASES: [(&str, &str); 2] = [("ahci", "ich9-ahci"), ("lsi", "lsi53c895a")];

impl HostFacts {
    /// The facts of an ordinary host, with the folders of one guest: the unit instance is `instance`.
    #[must_use]
    pub fn local(instance: &str) -> Self {
        Self {
            directories: Directories::of(instance),
            helpers: HelperFacts::of(instance),
            ..Self::default()
        }
    }

    /// Whether the QEMU binary is known to be without this device.
    pub(crate) fn lacks(&self, device: &str) -> bool {
        let alias = DEVICE_ALIASES.iter().find(|(alias, _)| *alias == device);
        let name = alias.map_or(device, |(_, name)| *name);
        self.devices.as_ref().is_some_and(|devices| !devices.contains(name))
    }
}

impl Default for HostFacts {
    fn default() -> Self {
        Self {
            arch: "x86_64".to_owned(),
            emulator: "/usr/bin/qemu-system-x86_64".to_owned(),
            default_machine: "pc".to_owned(),
            machine_aliases: BTreeMap::new(),
            accelerators: Accelerators { kvm: true, kvm_by_path: true, tcg: true },
            default_cpu: "qemu64".to_owned(),
            host_models: HostModels::default(),
            directories: Directories::of("guest"),
            devices: None,
            abilities: Abilities::default(),
            network: NetworkFacts { vhost_net: true, vhost_vsock: true, ..NetworkFacts::default() },
            scsi_generics: BTreeMap::new(),
            usb_devices: None,
            displays: DisplayFacts::default(),
            chardevs: ChardevFacts { tls: false, certificates: "/etc/pki/qemu".to_owned() },
            helpers: HelperFacts::of("guest"),
            storage: StorageFacts {
                cdrom_drives: ["/dev/cdrom", "/dev/sr0", "/dev/sr1"].map(str::to_owned).into(),
                nbd_certificates: "/etc/pki/qemu".to_owned(),
                virtiofsd: "/usr/libexec/virtiofsd".to_owned(),
                reservation_helper: "/usr/bin/qemu-pr-helper".to_owned(),
                ..StorageFacts::default()
            },
            numa: HostNuma::default(),
            hugepages: Vec::new(),
            clock: None,
            firmware: Vec::new(),
            credentials: Vec::new(),
            sev: None,
        }
    }
}

impl Default for DisplayFacts {
    fn default() -> Self {
        Self {
            vnc_listen: "127.0.0.1".to_owned(),
            vnc_port: 5900,
            vnc_sasl: false,
            vnc_tls: None,
            vnc_socket: false,
            vnc_audio: false,
            spice_listen: "127.0.0.1".to_owned(),
            spice_port: 5901,
            spice_sasl: false,
            spice_password: false,
            spice_tls: None,
            spice_socket: false,
            host_audio: None,
            nographics_audio: false,
            render_node: Some("/dev/dri/renderD128".to_owned()),
        }
    }
}

impl Directories {
    /// The folders of the guest with this unit instance on a system that runs the units of glassbox.
    #[must_use]
    pub fn of(instance: &str) -> Self {
        let guest = format!("/run/glassbox/guest/{instance}");
        Self {
            channel: format!("{guest}/channel"),
            nvram: "/var/lib/glassbox/nvram".to_owned(),
            memory: format!("{guest}/memory"),
            log: "/var/log/glassbox/qemu".to_owned(),
            swtpm: "/var/lib/glassbox/swtpm".to_owned(),
            guest,
        }
    }
}

impl HelperFacts {
    /// The programs beside a guest that nobody but its caller starts.
    #[must_use]
    fn of(instance: &str) -> Self {
        let guest = format!("/run/glassbox/guest/{instance}");
        Self {
            swtpm: format!("{guest}/swtpm.sock"),
            virtiofsd: SocketPath::new(format!("{guest}/"), "-fs.sock"),
            passt: SocketPath::new(format!("{guest}/passt-"), ".socket"),
            nbdkit: None,
            reservations: format!("{guest}/{RESERVATIONS}.sock"),
            vsock: SocketPath::new(format!("{guest}/"), "-device.sock"),
            vsock_ports: SocketPath::new(format!("{guest}/"), ".sock"),
            dbus: None,
            rdp: false,
            gpu: None,
        }
    }

    /// The programs beside a guest that the service manager starts: each listens in a folder of its own below `folder`.
    #[must_use]
    pub fn of_units(folder: &str, nbdkit: NbdkitParts) -> Self {
        let at = |name: &str| SocketPath::new(format!("{folder}/"), format!("/{name}"));
        let socket = || at("socket");
        let nbdkit = NbdkitFacts { parts: nbdkit, socket: socket(), supervised: true };
        Self {
            swtpm: socket().of("tpm0"),
            virtiofsd: socket(),
            passt: socket(),
            nbdkit: Some(nbdkit),
            reservations: socket().of(RESERVATIONS),
            vsock: socket(),
            vsock_ports: at("ports"),
            ..Self::of("")
        }
    }
}
