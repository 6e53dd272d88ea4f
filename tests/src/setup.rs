//! What a container is made of, and how it boots.
//!
//! A container is an overlay: the cached root below, the guest image and the installed product above it, the
//! test's own files on top. systemd-nspawn boots the systemd of the root in it as PID 1.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::layer::{self, put};
use crate::process::output;
use crate::run::{Run, Way};
use crate::state::State;
use crate::{Foreign, Root};
use crate::{cache, cgroups, crate_layer, guest, install, package_layer, packages, system_guest};

/// A boot takes 2 s alone; on a loaded machine with two cores it may take much longer.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// The packages of [`Setup::libvirt`].
const LIBVIRT: [&str; 10] = [
    "libvirt-clients",
    "libvirt-daemon-system",
    "ovmf",
    "qemu-efi-aarch64",
    "qemu-system-arm",
    "qemu-system-modules-spice",
    "qemu-system-riscv",
    // Without them libvirt plans no TPM, not even one that another program serves.
    "swtpm",
    "swtpm-tools",
    "virtiofsd",
];

/// What libvirt can do without in a container: as little as the shim does, for a fair comparison.
const LIBVIRT_CONF: &str = "security_driver = \"none\"
user = \"root\"
group = \"root\"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
";

/// Numbers the containers of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A container to be booted.
#[derive(Debug, Clone)]
pub struct Setup {
    root: Root,
    name: String,
    /// Overlay layers above the root, the lowest first.
    layers: Vec<PathBuf>,
    /// Path, content and mode of files that are there when systemd starts.
    files: Vec<(String, String, u32)>,
    bridge: Option<String>,
    kept: bool,
    product: bool,
    guest: bool,
}

impl Setup {
    /// A container on `root` with systemd, D-Bus, machined and QEMU, and nothing of the product.
    #[must_use]
    pub fn new(root: Root) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{root}-{}-{number}", std::process::id());
        let (layers, files) = (Vec::new(), Vec::new());
        Self { root, name, layers, files, bridge: None, kept: false, product: false, guest: false }
    }

    /// Another name than the made-up one: the container's host name, and its directory for [`Host::attach`].
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds the product, installed by `make install`.
    ///
    /// # Errors
    ///
    /// When it is older than its sources and cannot be built, see [`install::build`].
    pub fn product(mut self) -> Result<Self> {
        install::build()?;
        self.product = true;
        Ok(self)
    }

    /// Adds the guest image in [`guest::IMAGES`]: `vmlinuz`, `initrd`, and an empty disk `disk.qcow2`.
    ///
    /// # Errors
    ///
    /// When the image has to be made and cannot, see [`guest::prepare`].
    pub fn guest(self) -> Result<Self> {
        let root = self.root;
        self.guest_of(root)
    }

    /// As [`Self::guest`], with the kernel of the guests on another root. That of trixie takes no CPUs into use that
    /// come later, unless it knows the hypervisor, and it does not know an emulator; bookworm's does.
    ///
    /// # Errors
    ///
    /// As [`Self::guest`].
    pub fn guest_of(mut self, root: Root) -> Result<Self> {
        self.layers.push(guest::prepare(root)?);
        self.guest = true;
        Ok(self)
    }

    /// Adds QEMU for another architecture, and a guest of it in [`guest::IMAGES`]: `vmlinuz` and `initrd`.
    ///
    /// # Errors
    ///
    /// When one of both has to be made and cannot.
    pub fn foreign(mut self, foreign: Foreign) -> Result<Self> {
        self.layers.extend(foreign.prepare(self.root)?);
        Ok(self)
    }

    /// Adds packages of the root's release, and what they need, as a layer that is kept under `name`.
    ///
    /// # Errors
    ///
    /// When they have to be installed and cannot.
    pub fn packages(mut self, name: &str, packages: &[&str]) -> Result<Self> {
        self.layers.push(package_layer::prepare(self.root, name, packages)?);
        Ok(self)
    }

    /// Adds vhost-device-vsock of crates.io, which serves vsocks of guests on this machine, for its kernel may not.
    ///
    /// # Errors
    ///
    /// When it has to be built and cannot.
    pub fn vhost_device_vsock(mut self) -> Result<Self> {
        self.layers.push(crate_layer::prepare("vhost-device-vsock", "0.3.0")?);
        Ok(self)
    }

    /// Adds the disk of a guest with systemd and an SSH server to [`guest::IMAGES`], for the kernel of [`Self::guest`]:
    /// `system.ext4`, which is read-only for guests, in format raw.
    ///
    /// # Errors
    ///
    /// When it has to be made and cannot.
    pub fn system_guest(mut self) -> Result<Self> {
        self.layers.push(system_guest::prepare()?);
        Ok(self)
    }

    /// Adds the release's libvirt, with what it must find to start guests of three architectures and to print what it
    /// would start: QEMU for them, and firmware.
    ///
    /// # Errors
    ///
    /// As [`Self::packages`].
    pub fn libvirt(self) -> Result<Self> {
        Ok(self.packages("libvirt", &LIBVIRT)?.file("/etc/libvirt/qemu.conf", LIBVIRT_CONF, 0o600))
    }

    /// Adds a file that is there when systemd starts, owned by root.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.to_owned(), mode));
        self
    }

    /// Joins the container to this bridge of the machine, instead of a network of its own with only `lo`.
    #[must_use]
    pub fn bridge(mut self, name: &str) -> Self {
        self.bridge = Some(name.to_owned());
        self
    }

    /// Leaves the container running when this process ends, for people; [`Host::attach`] finds it again.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// Boots the container and waits until its systemd says `running` or `degraded`.
    ///
    /// # Errors
    ///
    /// When the root cannot be made, or the container does not come up: the end of its console.
    pub fn boot(mut self) -> Result<Host> {
        packages::require(&[("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")])?;
        let root = self.root.prepare()?;
        self.layers.insert(0, root);
        self.layers.push(layer::prepare()?);
        State::reap();
        let state = State::create(&self.name, self.root, self.kept)?;
        if self.product {
            // A copy for each container: a build that follows changes nothing under a running one.
            let staged = state.directory().join("product");
            install::stage(&staged)?;
            self.layers.push(staged);
        }
        mount(&state, &self.layers)?;
        for (path, content, mode) in &self.files {
            put(&state.tree(), path, content, *mode)?;
        }
        put(&state.tree(), "/etc/hostname", &format!("{}\n", self.name), 0o644)?;
        let id = cache::fingerprint(self.name.as_bytes());
        put(&state.tree(), "/etc/machine-id", &format!("{id:016x}{id:016x}\n"), 0o444)?;
        let mut host = Host::new(self.root, state, self.bridge);
        host.start()?;
        if self.guest {
            host.sh(&guest::disk_script())?;
        }
        host.keep(self.kept);
        Ok(host)
    }
}

/// Mounts the overlay; when the directory's own file system cannot carry one, on a tmpfs.
fn mount(state: &State, layers: &[PathBuf]) -> Result<()> {
    let lower: Vec<_> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let lower = lower.join(":");
    let tree = state.tree().display().to_string();
    let own = state.overlay().display().to_string();
    let options = format!("lowerdir={lower},upperdir={own}/upper,workdir={own}/work");
    fs::create_dir_all(state.tree())?;
    fs::create_dir_all(state.scratch())?;
    let mount = || {
        fs::create_dir_all(state.overlay().join("upper"))?;
        fs::create_dir_all(state.overlay().join("work"))?;
        output(["mount", "-t", "overlay", "-o", &options, "glassbox-test", &tree])
    };
    if mount().is_err() {
        // The directory is itself on an overlay, as in a container of CI.
        output(["mount", "-t", "tmpfs", "-o", "mode=0755", "glassbox-test", &own])?;
        mount().context("no overlay can be mounted here")?;
    }
    Ok(())
}

/// Starts systemd-nspawn in groups of its own; its console goes to the state's log.
pub(crate) fn nspawn(root: Root, state: &State, bridge: Option<&str>) -> Result<Child> {
    let groups = cgroups::create(state.name())?;
    state.remember_groups(&groups)?;
    let console = File::create(state.console())?;
    let script = format!("{} exec setsid systemd-nspawn \"$@\"", cgroups::ENTER);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).args(&groups).arg("--");
    command.arg("--directory").arg(state.tree());
    command.args(["--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--capability=all"]);
    command.args(["--machine", state.name(), "--link-journal=no", "--resolv-conf=off"]);
    // Keyrings are not the container's own, so nspawn forbids them; units and their guests have some all the same.
    command.args(["--timezone=off", "--system-call-filter=@keyring"]);
    match bridge {
        Some(bridge) => command.arg(format!("--network-bridge={bridge}")),
        None => command.arg("--private-network"),
    };
    if root.needs_unified_cgroups() {
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").arg("/lib/systemd/systemd");
    } else {
        command.arg(layer::INIT_PATH);
    }
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    command.spawn().context("systemd-nspawn cannot be started")
}

/// Waits until the container's systemd is up; gives the process id of its PID 1 as this machine sees it.
pub(crate) fn wait_until_up(state: &State, nspawn: &mut Child) -> Result<u32> {
    let started = Instant::now();
    while started.elapsed() < BOOT_LIMIT {
        if let Some(status) = nspawn.try_wait()? {
            bail!("{}: systemd-nspawn ended ({status})\n{}", state.name(), state.console_end());
        }
        if let Some(leader) = leader_of(nspawn.id()) {
            state.remember_processes(nspawn.id(), leader)?;
            if is_up(leader, state)? {
                return Ok(leader);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{}: not up after {BOOT_LIMIT:?}\n{}", state.name(), state.console_end());
}

fn is_up(leader: u32, state: &State) -> Result<bool> {
    let asked = Run::new(
        Way::Container { leader, scratch: state.scratch() },
        ["systemctl", "is-system-running"],
    )
    .output()?;
    Ok(matches!(asked.stdout.trim(), "running" | "degraded"))
}

/// The child of nspawn that is PID 1 in a namespace of its own.
fn leader_of(nspawn: u32) -> Option<u32> {
    let parent = format!("PPid:\t{nspawn}\n");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status =
            fs::read_to_string(Path::new("/proc").join(entry.file_name()).join("status")).ok()?;
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let numbers: Vec<&str> = inside.split_whitespace().collect();
        let leads = status.contains(&parent) && numbers.len() > 1 && numbers.last() == Some(&"1");
        leads.then_some(process)
    })
}
