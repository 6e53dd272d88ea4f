//! QEMU of the test host's VM: the machine that is saved once and restored by each test.
//!
//! It is the QEMU of the trixie root, entered with chroot(1), for this machine may have none or an old one: that
//! of Debian 12 crashes kernel 6.12 when it emulates the processor.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image::{DISK, STATE};
use super::monitor::Monitor;
use super::ports::{self, Ports};
use crate::cgroups;

/// The file with the product, a disk of the VM: what it has is a tar archive.
pub(crate) const PRODUCT: &str = "product";

/// Its size, which belongs to the saved machine. Programs with all their symbols have less than half of it.
pub(crate) const PRODUCT_SIZE: u64 = 512 << 20;

/// The machine and its kernel. In the chroot the saved VM is `/mnt` and the running one's directory `/media`.
const ARGUMENTS: &[&str] = &[
    "-machine",
    "q35",
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max",
    "-smp",
    "2",
    "-m",
    "1024",
    "-nodefaults",
    "-display",
    "none",
    "-no-reboot",
    "-kernel",
    "/mnt/vmlinuz",
    "-initrd",
    "/mnt/initrd",
    "-append",
    "console=ttyS0 quiet no_timer_check mitigations=off net.ifnames=0 systemd.show_status=0 glassbox.root \
     intel_iommu=on",
    "-serial",
    "file:/media/console",
    "-qmp",
    "unix:/media/monitor,server=on,wait=off",
    "-device",
    "virtio-serial-pci",
    // What a guest can be given: a PCI device that an IOMMU keeps to itself; USB devices, two of which are 0627:0001.
    "-device",
    "intel-iommu,intremap=on,caching-mode=on",
    "-device",
    "e1000e,addr=10.0,romfile=",
    "-device",
    "qemu-xhci",
    "-device",
    "usb-tablet",
    "-device",
    "usb-kbd",
    "-device",
    "usb-ccid",
];

/// Enters the root's file system and becomes QEMU, which ends when the test does.
///
/// Arguments: the root, the saved VM, the running one's directory, whether the disk is a throw-away copy, QEMU's.
const ENTER: &str = "\
mount --bind \"$2\" \"$1/mnt\"
mount --bind \"$3\" \"$1/media\"
mount --rbind /dev \"$1/dev\"
mount -t proc proc \"$1/proc\"
if [ \"$4\" = copy ]; then
    chroot \"$1\" qemu-img create -q -f qcow2 -F raw -b /mnt/disk.ext4 /media/disk.qcow2
fi
root=$1
shift 4
exec setpriv --pdeathsig KILL chroot \"$root\" qemu-system-x86_64 \"$@\"";

/// How long QEMU may take to make its sockets.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What of the machine a saved state depends on.
pub(crate) fn recipe() -> String {
    format!("{} {PRODUCT_SIZE} {} {ENTER}", ARGUMENTS.join(" "), ports::COUNT)
}

/// What the VM's disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// The saved VM's own.
    Saved,
    /// A copy that goes away with the running VM.
    Copy,
}

/// A QEMU that runs. Dropping it leaves it running: its owner kills it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qemu: Child,
    directory: PathBuf,
}

impl Machine {
    /// Starts QEMU in `groups`, which boots the VM of `saved`.
    pub(crate) fn start(
        root: &Path,
        saved: &Path,
        directory: &Path,
        disk: Disk,
        groups: &[PathBuf],
    ) -> Result<Self> {
        Self::spawn(root, saved, directory, disk, groups, &[])
    }

    /// Starts QEMU in `groups`, and has it go on where the VM of `saved` was saved.
    pub(crate) fn restore(
        root: &Path,
        saved: &Path,
        directory: &Path,
        groups: &[PathBuf],
    ) -> Result<Self> {
        let incoming = ["-incoming".to_owned(), format!("file:/mnt/{STATE}")];
        let machine = Self::spawn(root, saved, directory, Disk::Copy, groups, &incoming)?;
        let mut monitor = machine.monitor()?;
        monitor.wait(r#"{"execute": "query-status"}"#, "\"paused\"")?;
        monitor.execute(r#"{"execute": "cont"}"#)?;
        Ok(machine)
    }

    fn spawn(
        root: &Path,
        saved: &Path,
        directory: &Path,
        disk: Disk,
        groups: &[PathBuf],
        more: &[String],
    ) -> Result<Self> {
        let log = File::create(directory.join("qemu.log"))?;
        let (kind, file) = match disk {
            Disk::Saved => ("saved", format!("file=/mnt/{DISK},format=raw")),
            Disk::Copy => ("copy", "file=/media/disk.qcow2,format=qcow2".to_owned()),
        };
        let script = format!("{} exec unshare \"$@\"", cgroups::ENTER);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).args(groups).arg("--");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-euc", ENTER, "sh"]);
        command.args([root, saved, directory]).arg(kind).args(ARGUMENTS);
        command.args(["-drive", &format!("if=virtio,{file}")]);
        let product = format!("if=virtio,readonly=on,format=raw,file=/media/{PRODUCT}");
        command.args(["-drive", &product]);
        for number in 1..=ports::COUNT {
            let id = ports::socket(number);
            let chardev = format!("socket,id={id},path=/media/{id},server=on,wait=off");
            let device = format!("virtserialport,nr={number},chardev={id}");
            command.args(["-chardev", &chardev, "-device", &device]);
        }
        command.args(more).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let qemu = command.spawn().context("unshare cannot be started")?;
        let mut machine = Self { qemu, directory: directory.to_owned() };
        machine.wait_for_sockets()?;
        Ok(machine)
    }

    /// QEMU makes its sockets before it reads the state, and the monitor's first.
    fn wait_for_sockets(&mut self) -> Result<()> {
        let last = self.directory.join(ports::socket(ports::COUNT));
        let started = Instant::now();
        while !last.exists() || !self.directory.join("monitor").exists() {
            if let Some(status) = self.qemu.try_wait()? {
                bail!("QEMU of the VM ended ({status}): {}", self.console());
            }
            if started.elapsed() > START_LIMIT {
                bail!("QEMU of the VM makes no sockets: {}", self.console());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.directory.join("monitor")).with_context(|| self.console())
    }

    /// The ports by which the VM takes commands.
    pub(crate) fn ports(&self) -> Result<Ports> {
        Ports::connect(&self.directory)
    }

    /// Writes the VM's state beside its disk and ends QEMU.
    pub(crate) fn save(&mut self) -> Result<()> {
        let mut monitor = self.monitor()?;
        monitor.execute(r#"{"execute": "stop"}"#)?;
        let migrate =
            format!(r#"{{"execute": "migrate", "arguments": {{"uri": "file:/mnt/{STATE}"}}}}"#);
        let fast =
            r#"{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 2000000000}}"#;
        monitor.execute(fast)?;
        monitor.execute(&migrate)?;
        monitor.wait(r#"{"execute": "query-migrate"}"#, "\"completed\"")?;
        monitor.execute(r#"{"execute": "quit"}"#)?;
        self.qemu.wait()?;
        Ok(())
    }

    /// What QEMU and the VM's console said, for messages.
    pub(crate) fn console(&self) -> String {
        let text = |file| {
            let bytes = std::fs::read(self.directory.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (qemu, console) = (text("qemu.log"), text("console"));
        let lines: Vec<&str> = qemu.lines().chain(console.lines()).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
