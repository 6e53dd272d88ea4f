//! What a guest's sandbox must let through: the template closes everything that a guest with disks and network devices
//! does without, for the privileged step opens those before (see qemu@.service).
//!
//! Left are files and sockets that QEMU itself opens by path, and networks that QEMU itself speaks on.

use std::collections::BTreeSet;
use std::path::Path;

use domain::tree::Element;
use domain::{NbdkitParts, UnitInstance};

use crate::companions;
use crate::directive::Directive;
use crate::facts::{Image, attribute, children, images, is_remote};
use crate::value::UnitValue;

/// What the names of accounts of guests begin with.
const ACCOUNT: &str = "glassbox-";

/// Longest name of a dynamic account (`DynamicUser=` of systemd.exec(5)).
const LONGEST_ACCOUNT: usize = 31;

/// What the sandbox has from the beginning.
const VISIBLE: [&str; 2] = ["/usr", "/boot"];

/// Devices that each sandbox has (`PrivateDevices=` of systemd.exec(5)).
const COMMON_DEVICES: [&str; 4] = ["/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// How programs of a host find names and addresses.
const RESOLVER: [&str; 5] = [
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/run/systemd/resolve",
];

/// What QEMU opens and speaks on by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Files and folders that it reads.
    read: BTreeSet<String>,
    /// Files, folders and sockets that it writes.
    written: BTreeSet<String>,
    /// Devices of the host.
    devices: BTreeSet<String>,
    /// Devices that are opened before, by the privileged step in the same control group, and those of a folder in
    /// [`Self::devices`] that are of no kind.
    opened: BTreeSet<String>,
    /// Kinds of devices as systemd lists them.
    device_kinds: BTreeSet<&'static str>,
    /// Whether it listens to the kernel's messages about devices.
    hotplug: bool,
    /// Whether PCI devices are taken from their drivers before.
    takes_drivers: bool,
    /// Whether it speaks on the host's network.
    network: bool,
    /// Whether its threads run in real time.
    real_time: bool,
    /// What may speak on the network in its place.
    nbdkit: NbdkitParts,
}

impl Sandbox {
    /// What the definition with this root asks for.
    pub(crate) fn of(root: &Element<'_>, nbdkit: NbdkitParts) -> Self {
        let mut sandbox = Self { nbdkit, ..Self::default() };
        children(root, "os").for_each(|os| sandbox.boot_files(os));
        children(root, "devices").flat_map(Element::elements).for_each(|it| sandbox.device(it));
        // Arguments of the user's own may be anything.
        sandbox.network |=
            root.elements().any(|it| it.namespace.is_some() && it.name == "commandline");
        let tuned = |it: &Element<'_>| it.name.ends_with("sched");
        sandbox.real_time = children(root, "cputune").flat_map(Element::elements).any(tuned);
        sandbox
    }

    /// What the host does before the guest's privileged step: nothing loads the driver that takes devices from others,
    /// for no device is its own.
    pub(crate) fn ordering(&self) -> Vec<Directive> {
        let unit = UnitValue::word("modprobe@vfio_pci.service");
        let settings = [Directive::new("Wants", unit.clone()), Directive::new("After", unit)];
        if self.takes_drivers { settings.to_vec() } else { Vec::new() }
    }

    /// Kernel and tables; firmware in flash is opened before.
    fn boot_files(&mut self, os: &Element<'_>) {
        for element in os.elements() {
            let flash = attribute(element, "type") == Some("pflash");
            match element.name {
                "kernel" | "initrd" | "dtb" | "shim" => self.reads(&element.text()),
                "loader" if !flash => self.reads(&element.text()),
                // The guest's own copy of the variables is made by its own account.
                "nvram" => {
                    attribute(element, "template").into_iter().for_each(|path| self.reads(path));
                }
                "acpi" => children(element, "table").for_each(|table| self.reads(&table.text())),
                _ => {}
            }
        }
    }

    fn device(&mut self, device: &Element<'_>) {
        if device.namespace.is_some() {
            return;
        }
        let kind = attribute(device, "type").unwrap_or_default();
        match device.name {
            "emulator" => self.reads(&device.text()),
            "disk" => self.disk(device, kind),
            "filesystem" if companions::is_served(device) => {}
            "filesystem" => self.sources(device, &["dir", "file", "socket"]),
            "interface" => self.interface(device, kind),
            "graphics" => self.graphics(device, kind),
            "input" => self.sources(device, &["dev", "evdev"]),
            "memory" => children(device, "source")
                .flat_map(|source| children(source, "path"))
                .for_each(|path| self.writes(&path.text())),
            "shmem" => self.writes("/dev/shm"),
            "hostdev" => self.host_device(device, kind),
            "rng" => children(device, "backend").for_each(|backend| self.random(backend)),
            _ => self.character_device(device, kind),
        }
    }

    fn disk(&mut self, disk: &Element<'_>, kind: &str) {
        let bus = children(disk, "target").find_map(|target| attribute(target, "bus"));
        // What is no plain image has its path in the command line.
        if matches!(kind, "dir" | "vhostuser" | "vhostvdpa") || bus == Some("sd") {
            self.sources(disk, &["dir", "path", "dev", "file"]);
        }
        for Image { source, .. } in images(disk) {
            self.opened.extend(attribute(source, "dev").map(str::to_owned));
            self.network |= is_remote(source) && !companions::is_served_image(source, self.nbdkit);
            let helpers = children(source, "reservations").flat_map(Element::elements);
            helpers.for_each(|helper| self.path_of(helper, "path"));
            if attribute(source, "type") == Some("pci") {
                self.host_device(source, "pci");
            }
        }
    }

    fn interface(&mut self, interface: &Element<'_>, kind: &str) {
        if children(interface, "backend").any(companions::is_passt) {
            return;
        }
        match kind {
            "user" | "server" | "client" | "mcast" | "udp" => self.network = true,
            "vhostuser" => self.sources(interface, &["path"]),
            "hostdev" => self.host_device(interface, "pci"),
            "direct" => drop(self.device_kinds.insert("char-macvtap")),
            "vdpa" => drop(self.device_kinds.insert("char-vhost-vdpa")),
            _ => {}
        }
    }

    /// A display that listens on a port. It does unless told otherwise.
    fn graphics(&mut self, graphics: &Element<'_>, kind: &str) {
        let renders = children(graphics, "gl").next().is_some();
        if renders || kind == "egl-headless" {
            self.devices.insert("/dev/dri".to_owned());
            self.device_kinds.insert("char-drm");
        }
        if !matches!(kind, "vnc" | "spice") || attribute(graphics, "socket").is_some() {
            return;
        }
        let mut listens = children(graphics, "listen").map(|it| attribute(it, "type")).peekable();
        let ports = listens.peek().is_none();
        self.network |= ports || listens.any(|kind| !matches!(kind, Some("socket" | "none")));
    }

    /// A device of the host that this element names.
    fn host_device(&mut self, element: &Element<'_>, kind: &str) {
        match kind {
            "pci" | "mdev" => {
                self.devices.insert("/dev/vfio".to_owned());
                // The kind has the groups; what they are put together in is a device of its own.
                self.device_kinds.insert("char-vfio");
                self.opened.insert("/dev/vfio/vfio".to_owned());
                self.takes_drivers |= kind == "pci" && attribute(element, "managed") == Some("yes");
            }
            "usb" => {
                self.devices.insert("/dev/bus/usb".to_owned());
                self.device_kinds.insert("char-usb_device");
                // Without it libusb does not even begin.
                self.hotplug = true;
            }
            _ => {}
        }
    }

    fn random(&mut self, backend: &Element<'_>) {
        self.character_device(backend, attribute(backend, "type").unwrap_or_default());
        let path = backend.text();
        if path.trim().starts_with("/dev/") && !COMMON_DEVICES.contains(&path.trim()) {
            self.devices.insert(path.trim().to_owned());
        }
    }

    /// A serial port, channel or other device with a host's side of these kinds.
    fn character_device(&mut self, device: &Element<'_>, kind: &str) {
        match kind {
            "tcp" | "udp" => self.network = true,
            "unix" => {
                let connects = |it: &&Element<'_>| attribute(it, "mode") != Some("bind");
                let sources = children(device, "source").filter(connects);
                sources.for_each(|source| self.path_of(source, "path"));
            }
            "dev" => self.sources(device, &["path"]),
            "pipe" => {
                for path in children(device, "source").filter_map(|it| attribute(it, "path")) {
                    ["", ".in", ".out"].iter().for_each(|end| self.writes(&format!("{path}{end}")));
                }
            }
            _ => {}
        }
    }

    fn sources(&mut self, element: &Element<'_>, names: &[&str]) {
        for source in children(element, "source") {
            names.iter().for_each(|name| self.path_of(source, name));
        }
    }

    fn path_of(&mut self, element: &Element<'_>, name: &str) {
        if let Some(path) = attribute(element, name) {
            self.writes(path);
        }
    }

    fn reads(&mut self, path: &str) {
        let path = path.trim();
        if !is_visible(path) {
            self.read.insert(path.to_owned());
        }
    }

    fn writes(&mut self, path: &str) {
        let shared = Path::new(path).starts_with("/dev/shm");
        if Path::new(path).starts_with("/dev") && !shared {
            self.devices.insert(path.to_owned());
        } else {
            self.written.insert(path.to_owned());
        }
    }

    /// The settings of `[Service]`.
    pub(crate) fn settings(&self) -> Vec<Directive> {
        let mut settings = Vec::new();
        settings.extend(self.read.iter().filter_map(|path| bind("BindReadOnlyPaths", path)));
        let written = self.written.iter().chain(&self.devices);
        settings.extend(written.filter_map(|path| bind("BindPaths", path)));
        let devices = self.devices.union(&self.opened);
        settings.extend(devices.filter_map(|path| device(path)));
        let kinds = self.device_kinds.iter();
        settings
            .extend(kinds.map(|kind| Directive::new("DeviceAllow", UnitValue::device_kind(kind))));
        if self.network {
            settings.extend(network());
        } else if self.hotplug {
            settings.push(Directive::new("RestrictAddressFamilies", UnitValue::word("AF_NETLINK")));
        }
        if self.real_time {
            settings.push(Directive::new("RestrictRealtime", UnitValue::word("no")));
        }
        settings
    }
}

/// Whether each sandbox has this path.
pub(crate) fn is_visible(path: &str) -> bool {
    VISIBLE.iter().any(|visible| Path::new(path).starts_with(visible))
}

/// A path that may be missing: what is wrong with it the shim tells by the element that names it.
pub(crate) fn bind(key: &'static str, path: &str) -> Option<Directive> {
    Some(Directive::new(key, UnitValue::optional_bind(Path::new(path))?))
}

fn device(path: &str) -> Option<Directive> {
    // A folder is no device; what is in it is allowed by its kind.
    let folder = matches!(path, "/dev/dri" | "/dev/vfio" | "/dev/bus/usb");
    let value = UnitValue::device_node(Path::new(path)).filter(|_| !folder)?;
    Some(Directive::new("DeviceAllow", value))
}

/// The host's network, for a QEMU that speaks on it.
fn network() -> Vec<Directive> {
    let word = |key, word| Directive::new(key, UnitValue::word(word));
    let mut settings = vec![
        word("PrivateNetwork", "no"),
        word("RestrictAddressFamilies", "AF_INET AF_INET6 AF_NETLINK"),
        word("IPAddressDeny", ""),
    ];
    settings.extend(RESOLVER.iter().filter_map(|path| bind("BindReadOnlyPaths", path)));
    settings
}

/// The account of a guest: of its name where that fits, else of the name's hash.
pub(crate) fn account(instance: &UnitInstance) -> Directive {
    let name = instance.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = name.bytes().all(plain) && ACCOUNT.len() + name.len() <= LONGEST_ACCOUNT;
    // The template's own is no guest's.
    let value = if fits && name != "guest" {
        UnitValue::identifier(ACCOUNT, instance)
    } else {
        UnitValue::hashed(ACCOUNT, name)
    };
    Directive::new("User", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{DomainName, tree};

    fn settings(inner: &str) -> Vec<String> {
        let text = format!("<domain type='kvm' xmlns:qemu='http://q'>{inner}</domain>");
        let root = tree::parse(&text).unwrap();
        Sandbox::of(&root, NbdkitParts::default())
            .settings()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn device(xml: &str) -> Vec<String> {
        settings(&format!("<devices>{xml}</devices>"))
    }

    const NETWORK: [&str; 3] = [
        "PrivateNetwork=no",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK",
        "IPAddressDeny=",
    ];

    #[test]
    fn an_ordinary_guest_opens_nothing() {
        for xml in [
            "<disk type='file'><source file='/i'/><backingStore type='file'><source file='/b'/></backingStore></disk>",
            "<interface type='bridge'><source bridge='br0'/></interface>",
            "<graphics type='vnc'><listen type='socket'/></graphics>",
            "<graphics type='vnc' socket='/run/vnc'/>",
            "<graphics type='spice'><listen type='none'/></graphics>",
            "<serial type='pty'/><console type='file'><source path='/l'/></console>",
            "<channel type='unix'><source mode='bind' path='/run/a'/></channel>",
            "<emulator>/usr/bin/qemu-system-x86_64</emulator>",
        ] {
            assert_eq!(device(xml), [""; 0], "{xml}");
        }
        assert_eq!(settings("<os><kernel>/boot/vmlinuz</kernel></os>"), [""; 0]);
    }

    #[test]
    fn what_qemu_opens_by_path_is_let_through() {
        for (xml, expected) in [
            ("<filesystem><source dir='/srv'/></filesystem>", vec!["BindPaths=-/srv"]),
            (
                "<interface type='vhostuser'><source path='/run/o'/></interface>",
                vec!["BindPaths=-/run/o"],
            ),
            (
                "<serial type='unix'><source path='/run/a:b'/></serial>",
                vec!["BindPaths=-/run/a\\:b"],
            ),
            (
                "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
                vec!["BindPaths=-/dev/ttyS0", "DeviceAllow=/dev/ttyS0 rw"],
            ),
            (
                "<disk type='block'><source dev='/dev/vg/a'/></disk>",
                vec!["DeviceAllow=/dev/vg/a rw"],
            ),
            ("<interface type='direct'/>", vec!["DeviceAllow=char-macvtap rw"]),
            (
                "<hostdev type='pci'/>",
                vec![
                    "BindPaths=-/dev/vfio",
                    "DeviceAllow=/dev/vfio/vfio rw",
                    "DeviceAllow=char-vfio rw",
                ],
            ),
            (
                "<hostdev type='usb'/>",
                vec![
                    "BindPaths=-/dev/bus/usb",
                    "DeviceAllow=char-usb_device rw",
                    "RestrictAddressFamilies=AF_NETLINK",
                ],
            ),
            (
                "<rng><backend model='random'>/dev/hwrng</backend></rng>",
                vec!["BindPaths=-/dev/hwrng", "DeviceAllow=/dev/hwrng rw"],
            ),
            ("<shmem name='a'/>", vec!["BindPaths=-/dev/shm"]),
            ("<memory><source><path>/mnt/p</path></source></memory>", vec!["BindPaths=-/mnt/p"]),
        ] {
            assert_eq!(device(xml), expected, "{xml}");
        }
        assert_eq!(
            settings("<os><kernel> /srv/k </kernel><loader>/srv/l</loader></os>"),
            ["BindReadOnlyPaths=-/srv/k", "BindReadOnlyPaths=-/srv/l"]
        );
        assert_eq!(
            settings("<cputune><vcpusched scheduler='fifo'/></cputune>"),
            ["RestrictRealtime=no"]
        );
    }

    #[test]
    fn what_takes_devices_from_their_drivers_is_loaded_before() {
        let loaded = ["Wants=modprobe@vfio_pci.service", "After=modprobe@vfio_pci.service"];
        for (xml, expected) in [
            ("<hostdev type='pci' managed='yes'/>", &loaded[..]),
            ("<interface type='hostdev' managed='yes'/>", &loaded),
            ("<disk type='nvme'><source type='pci' managed='yes'/></disk>", &loaded),
            ("<hostdev type='pci' managed='no'/>", &[]),
            ("<hostdev type='usb' managed='yes'/>", &[]),
        ] {
            let xml = format!("<domain><devices>{xml}</devices></domain>");
            let root = domain::tree::parse(&xml).unwrap();
            let settings = Sandbox::of(&root, NbdkitParts::default()).ordering();
            let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
            assert_eq!(settings, expected, "{xml}");
        }
    }

    #[test]
    fn a_qemu_that_speaks_on_the_network_has_it() {
        for xml in [
            "<interface type='user'/>",
            "<graphics type='vnc'/>",
            "<graphics type='spice'><listen type='address'/></graphics>",
            "<serial type='tcp'/>",
            "<disk type='network'><source protocol='nbd'><host name='s'/></source></disk>",
        ] {
            assert_eq!(device(xml)[..3], NETWORK, "{xml}");
        }
        assert_eq!(settings("<qemu:commandline/>")[..3], NETWORK);
    }

    #[test]
    fn each_guest_has_an_account_that_systemd_takes() {
        let account = |name: &str| {
            let instance = UnitInstance::from(&DomainName::try_from(name).unwrap());
            account(&instance).to_string()
        };
        assert_eq!(account("web-1"), "User=glassbox-web-1");
        let longest = "a".repeat(22);
        assert_eq!(account(&longest), format!("User=glassbox-{longest}"));
        let accounts = ["my vm", "guest", &"a".repeat(23)].map(account);
        for account in &accounts {
            assert_eq!(account.len(), "User=glassbox-".len() + 16, "{account}");
        }
        assert_ne!(accounts[0], accounts[1]);
    }
}
