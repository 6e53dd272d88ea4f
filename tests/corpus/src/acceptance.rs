//! What a host must have so that QEMU can be started with a plan: files, sockets, descriptors, as a job for
//! `acceptance/run.pl`.
//!
//! Images are new and empty, devices are `/dev/null`, other programs are sockets at which nobody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use qemu::{Access, FdKind, LaunchPlan};
use serde_json::Value;

use crate::stand_in;

/// Numbers of `/dev/null` in the kernel's `devices.txt`: a device that reads as empty and takes all that is written.
const NULL: &str = "c 1 3";

/// Numbers of `/dev/random`, `/dev/parport0` and `/dev/ptmx` beside it: devices of which QEMU wants the kind.
const TERMINAL: &str = "c 5 2";

/// Sizes of images and of other files, in bytes.
const IMAGE: u64 = 64 << 20;
const SMALL: u64 = 4096;

/// A start of QEMU, in the words of `acceptance/run.pl`.
#[derive(Debug, Default)]
pub struct Job(String);

impl Job {
    /// What the plan needs, and the plan.
    #[must_use]
    pub fn new(name: &str, plan: &LaunchPlan) -> Self {
        Self::with_arguments(name, plan, &plan.arguments)
    }

    /// What the plan needs, and other arguments for QEMU.
    #[must_use]
    pub fn with_arguments(name: &str, plan: &LaunchPlan, arguments: &[String]) -> Self {
        let mut job = Self::default();
        job.resources(plan);
        plan.fds.iter().for_each(|fd| job.descriptor(&fd.kind));
        if !plan.fds.iter().any(|fd| fd.kind == FdKind::ShimMonitor) {
            job.say("monitor", "");
        }
        for (name, value) in &plan.environment {
            job.say("variable", format!("{name}={value}"));
        }
        job.say("argument", &plan.emulator);
        stand_in::arguments(arguments).iter().for_each(|argument| job.say("argument", argument));
        job.say("run", name);
        job
    }

    /// What the host has for the guest.
    fn resources(&mut self, plan: &LaunchPlan) {
        let arguments: Vec<&str> = plan.arguments.iter().map(String::as_str).collect();
        let nodes = objects(&arguments, "-blockdev");
        self.images(&nodes);
        self.servers(&nodes);
        for object in objects(&arguments, "-object").values() {
            self.object(object);
        }
        arguments.windows(2).for_each(|pair| self.option(pair[0], pair[1]));
        // The kernel makes what is in /sys.
        for file in plan.files.iter().filter(|file| !file.path.starts_with("/sys/")) {
            self.say("image", format!("raw {SMALL} {}", file.path));
        }
        for written in &plan.written {
            self.say("write", format!("{} {}", written.path, written.content));
        }
    }

    fn option(&mut self, option: &str, value: &str) {
        match option {
            "-chardev" => self.chardev(value),
            "-netdev" => self.netdev(value),
            "-device" => self.device(value),
            "-fsdev" => self.folder(value),
            "-kernel" => self.say("kernel", value),
            "-vnc" | "-spice" => self.display(value),
            "-display" => self.bus(value),
            // A disk's image without an option in front, by <qemu:commandline>.
            before if !before.starts_with('-') && !value.starts_with(['-', '{']) => {
                self.say("image", format!("raw {IMAGE} {value}"));
            }
            _ => {}
        }
    }

    fn bus(&mut self, options: &str) {
        let address = self::option(options, "addr");
        if let Some(path) = address.as_deref().and_then(|it| it.strip_prefix("unix:path=")) {
            self.say("bus", path);
        }
    }

    /// The job's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    fn say(&mut self, word: &str, value: impl AsRef<str>) {
        let value = value.as_ref().replace('\\', "\\\\").replace('\n', "\\n");
        // A `String` takes all that is written.
        let _ = writeln!(self.0, "{word} {value}");
    }

    /// The images of block nodes, each in the format of the node above it.
    fn images(&mut self, nodes: &BTreeMap<String, Value>) {
        for node in nodes.values() {
            let (Some(name), Some(path)) = (text(node, "node-name"), text(node, "filename")) else {
                if let Some(folder) = text(node, "dir") {
                    self.say("folder", folder);
                }
                continue;
            };
            match text(node, "driver") {
                Some("host_device")
                    if text(node, "filename").is_some_and(|it| it.starts_with("/dev/sg")) => {}
                Some("host_device" | "host_cdrom") => {
                    let (format, size) = (format(nodes, name), size(name));
                    self.say("block", format!("{format} {size} {path}"));
                }
                Some(_) | None => {
                    let format = format(nodes, name);
                    let size = size(name);
                    self.say("image", format!("{format} {size} {path}"));
                }
            }
        }
    }

    /// The servers of disks, where Debian has one: of NBD. Each has all the disks that are asked of it.
    fn servers(&mut self, nodes: &BTreeMap<String, Value>) {
        let mut servers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (id, node) in nodes.iter().filter(|(_, node)| text(node, "driver") == Some("nbd")) {
            let server = &node["server"];
            text(server, "host").iter().for_each(|host| self.say("host", host));
            let place = text(server, "path").or_else(|| text(server, "port")).unwrap_or("10809");
            let name = text(node, "export").unwrap_or_default();
            let disk = format!("{name}:{}:{}", format(nodes, id), size(id));
            servers.entry(place).or_default().insert(disk);
        }
        for (place, disks) in servers {
            let disks: Vec<String> = disks.into_iter().collect();
            self.say("nbd", format!("{place} {}", disks.join(" ")));
        }
    }

    fn object(&mut self, object: &Value) {
        match text(object, "qom-type") {
            Some("memory-backend-file") => self.memory(object),
            Some("tls-creds-x509") => self.say("certificates", text(object, "dir").unwrap_or("")),
            Some("pr-manager-helper") => self.say("socket", text(object, "path").unwrap_or("")),
            _ => {}
        }
    }

    /// Memory of large pages comes from a folder, other memory from a file.
    fn memory(&mut self, object: &Value) {
        let Some(path) = text(object, "mem-path") else { return };
        if path.starts_with("/dev/hugepages") {
            self.say("folder", path);
        } else {
            // A module's file must be there with all its bytes, the memory of a guest is made by QEMU.
            let size = object["size"].as_u64().unwrap_or_default()
                + object["align"].as_u64().unwrap_or_default();
            self.say("image", format!("raw {size} {path}"));
        }
        self.say("memory", path);
    }

    fn chardev(&mut self, options: &str) {
        let Some(path) = option(options, "path") else { return self.remote(options) };
        match options.split(',').next() {
            Some("socket") if options.contains(",id=chrtpm,") => self.say("tpm", path),
            Some("socket") if options.contains(",id=chr-vu-fs") => self.say("virtiofsd", path),
            Some("socket") if option(options, "server").is_none() => self.say("socket", path),
            Some("pipe") => self.say("fifo", path),
            Some("serial") => self.say("node", format!("{TERMINAL} {path}")),
            Some("parallel") => self.say("node", format!("{NULL} {path}")),
            _ => {}
        }
    }

    /// Another program on the network, which takes connections and says nothing.
    fn remote(&mut self, options: &str) {
        let (Some(host), Some(port)) = (option(options, "host"), option(options, "port")) else {
            return;
        };
        self.say("host", &host);
        if options.starts_with("socket,") && option(options, "server").is_none() {
            self.say("port", port);
        }
    }

    fn netdev(&mut self, options: &str) {
        if let Ok(value) = serde_json::from_str::<Value>(options)
            && let Some(path) = text(&value["addr"], "path")
        {
            self.say("socket", path);
        }
    }

    fn device(&mut self, options: &str) {
        let Ok(value) = serde_json::from_str::<Value>(options) else { return };
        if let Some(file) = text(&value, "romfile").filter(|file| !file.is_empty()) {
            self.say("image", format!("raw {SMALL} {file}"));
        }
    }

    fn folder(&mut self, options: &str) {
        if let Some(path) = option(options, "path") {
            self.say("folder", path);
        }
    }

    fn display(&mut self, options: &str) {
        let unix =
            options.split(',').find_map(|part| part.strip_prefix("unix:")).map(str::to_owned);
        let path = unix.or_else(|| option(options, "addr")).filter(|path| path.starts_with('/'));
        if let Some(folder) = option(options, "x509-dir") {
            self.say("certificates", folder);
        }
        if let Some((folder, _)) = path.as_deref().and_then(|path| path.rsplit_once('/')) {
            self.say("folder", folder);
        }
    }

    fn descriptor(&mut self, kind: &FdKind) {
        match kind {
            FdKind::ShimMonitor | FdKind::DaemonMonitor => self.say("monitor", ""),
            // Nobody passes any to these guests, nor has a unit with credentials.
            FdKind::Inherited { .. } | FdKind::Credential { .. } => {}
            FdKind::Listener { path } => self.say("listen", path),
            FdKind::Output { path, .. } => self.say("append", path),
            FdKind::Vsock { .. } => self.say("open", "/dev/vhost-vsock"),
            FdKind::Tap { interface, .. } | FdKind::MacVtap { interface, .. } => {
                let name = interface.place.position.line;
                self.say("queue", format!("{} tap{name}", tap_flags(interface)));
            }
            FdKind::Device { paths, access } => {
                let word = if *access == Access::Write { "append" } else { "open" };
                self.say(word, paths.first().map_or("", String::as_str));
            }
            FdKind::Connection { path } => {
                self.say("socket", path);
                self.say("connect", path);
            }
        }
    }
}

/// `IFF_VNET_HDR` and, for more than one queue, `IFF_MULTI_QUEUE` of linux/if_tun.h.
fn tap_flags(interface: &domain::devices::Interface) -> u32 {
    if interface.queues() > 1 { 0x4000 | 0x0100 } else { 0x4000 }
}

/// The options of this name that are JSON, by their node names or ids.
fn objects(arguments: &[&str], option: &str) -> BTreeMap<String, Value> {
    let values = arguments.windows(2).filter(|pair| pair[0] == option);
    let objects = values.filter_map(|pair| serde_json::from_str::<Value>(pair[1]).ok());
    objects
        .filter_map(|object| {
            let id = text(&object, "node-name").or_else(|| text(&object, "id"))?.to_owned();
            Some((id, object))
        })
        .collect()
}

/// The size of the image of a block node. Flash is as large as its image, and a PC has room for 8 MiB of it.
fn size(node: &str) -> u64 {
    if node.contains("pflash") { 1 << 20 } else { IMAGE }
}

/// The format of an image: the driver of the node above it.
fn format<'n>(nodes: &'n BTreeMap<String, Value>, name: &str) -> &'n str {
    let above = nodes.values().find(|above| text(above, "file") == Some(name));
    above.and_then(|above| text(above, "driver")).unwrap_or("raw")
}

fn text<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.get(key)?.as_str()
}

/// The value of a key in an option of pairs, in which two commas are one.
fn option(options: &str, key: &str) -> Option<String> {
    let options = options.replace(",,", "\0");
    let mut pairs = options.split(',').filter_map(|pair| pair.split_once('='));
    Some(pairs.find(|(name, _)| *name == key)?.1.replace('\0', ","))
}
