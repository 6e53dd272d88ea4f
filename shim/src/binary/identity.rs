//! What an answer of a QEMU binary depends on. When none of it has changed, neither has the answer.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where distributions have QEMU's modules. A package that adds some leaves the binary as it is.
const MODULES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/qemu",
    "/usr/lib/aarch64-linux-gnu/qemu",
    "/usr/lib64/qemu",
    "/usr/lib/qemu",
];

/// How much of /proc/cpuinfo describes the first CPU, in bytes.
const FIRST_CPU: usize = 4096;

/// A QEMU binary, and what of the host it tells about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The path by which it is called.
    pub(super) path: String,
    /// Whether this account may use KVM.
    pub(super) kvm: bool,
    file: FileIdentity,
    modules: Vec<Option<FileIdentity>>,
    /// The CPU and the kernel, whose features are KVM's; nothing without KVM.
    host: String,
}

/// A file that was not written again (stat(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// The identity of the binary now.
    ///
    /// # Errors
    /// What stat(2) says.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = FileIdentity::of(path)?;
        let kvm = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        Ok(Self {
            path: path.display().to_string(),
            kvm,
            file,
            modules: MODULES.map(|folder| FileIdentity::of(Path::new(folder)).ok()).to_vec(),
            host: if kvm { host() } else { String::new() },
        })
    }
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The kernel's release and build, and the lines on the first CPU that stay the same while it runs.
fn host() -> String {
    let mut text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.push_str(&fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default());
    let mut cpu = Vec::new();
    if let Ok(file) = fs::File::open("/proc/cpuinfo") {
        // What cannot be read is no part of the identity.
        let _ = file.take(FIRST_CPU as u64).read_to_end(&mut cpu);
    }
    let cpu = String::from_utf8_lossy(&cpu);
    let first = cpu.lines().take_while(|line| !line.is_empty());
    let lasting = first.filter(|line| {
        ["vendor_id", "cpu family", "model", "stepping", "microcode", "flags"]
            .iter()
            .any(|start| line.starts_with(start))
    });
    lasting.for_each(|line| text.push_str(line));
    text
}
