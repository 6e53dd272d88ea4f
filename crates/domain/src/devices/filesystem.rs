//! Directories of the host in the guest, `<filesystem>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::controller::VirtioModel;
use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// What the guest gets.
    pub enum FsType {
        /// A directory of the host.
        Mount = "mount",
        /// A block device.
        Block = "block",
        /// An image.
        File = "file",
        /// A template of OpenVZ.
        Template = "template",
        /// Memory.
        Ram = "ram",
        /// Another directory of the guest.
        Bind = "bind",
        /// A volume of a pool.
        Volume = "volume",
    }
}

crate::keywords! {
    /// With whose rights files are made.
    pub enum AccessMode {
        /// The guest's user's.
        Passthrough = "passthrough",
        /// QEMU's; the guest's are kept beside the file.
        Mapped = "mapped",
        /// QEMU's.
        Squash = "squash",
    }
}

crate::keywords! {
    /// What happens when the directory spans several devices.
    pub enum MultiDevices {
        /// QEMU decides.
        Default = "default",
        /// Numbers of files are made unique.
        Remap = "remap",
        /// The guest cannot see other devices.
        Forbid = "forbid",
        /// QEMU warns.
        Warn = "warn",
    }
}

crate::keywords! {
    /// What serves the directory.
    pub enum FsDriverType {
        /// QEMU, by 9p.
        Path = "path",
        /// QEMU, by 9p and file handles; no QEMU does it any more.
        Handle = "handle",
        /// The kernel of a container's host.
        Loop = "loop",
        /// A network block device of a container's host.
        Nbd = "nbd",
        /// Ploop images.
        Ploop = "ploop",
        /// A program of its own, by virtio-fs.
        Virtiofs = "virtiofs",
        /// QEMU, by the protocol of media players.
        Mtp = "mtp",
    }
}

crate::keywords! {
    /// When writes reach the host's disk.
    pub enum WritePolicy {
        /// At once.
        Immediate = "immediate",
    }
}

crate::attributes! {
    /// What serves the directory.
    pub struct FsDriver {
        /// What it is.
        pub kind: FsDriverType = keyword "type",
        /// The format of an image.
        pub format: String = string "format",
        /// When writes reach the host's disk.
        pub write_policy: WritePolicy = keyword "wrpolicy",
        /// How many requests the queue holds.
        pub queue_size: u32 = number "queue",
    }
}

crate::keywords! {
    /// What virtiofsd lets the guest keep.
    pub enum FsCache {
        /// Nothing.
        None = "none",
        /// Everything.
        Always = "always",
    }
}

crate::keywords! {
    /// How virtiofsd shuts itself in.
    pub enum SandboxMode {
        /// By namespaces.
        Namespace = "namespace",
        /// By another root folder.
        Chroot = "chroot",
    }
}

crate::attributes! {
    /// Which locks virtiofsd passes on.
    pub struct FsLock {
        /// Those of records.
        pub posix: bool = on_off "posix",
        /// Those of files.
        pub flock: bool = on_off "flock",
    }
}

/// The program that serves virtio-fs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsBinary {
    /// Its path.
    pub path: Option<String>,
    /// Whether extended attributes are passed on.
    pub xattr: Option<bool>,
    /// What the guest keeps.
    pub cache: Option<FsCache>,
    /// How the program shuts itself in.
    pub sandbox: Option<SandboxMode>,
    /// Which locks are passed on.
    pub lock: FsLock,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// How many files it may hold open.
    pub open_files: Option<u64>,
}

crate::attributes! {
    /// A range of ids and what they are on the host.
    pub struct FsIdRange {
        /// The first id in the guest.
        pub start: u32 = number "start",
        /// The first id on the host.
        pub target: u32 = number "target",
        /// How many there are.
        pub count: u32 = number "count",
    }
}

/// A directory of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Where the element stands.
    pub place: Place,
    /// What the guest gets; a directory of the host when nothing is written.
    pub kind: Option<FsType>,
    /// With whose rights files are made.
    pub access: Option<AccessMode>,
    /// Modes of new files.
    pub file_mode: Option<u32>,
    /// Modes of new directories.
    pub directory_mode: Option<u32>,
    /// What happens when the directory spans several devices.
    pub multi_devices: Option<MultiDevices>,
    /// The virtio interface.
    pub model: Option<VirtioModel>,
    /// What serves it.
    pub driver: FsDriver,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// The program of virtio-fs.
    pub binary: FsBinary,
    /// Users of the guest and who they are on the host.
    pub uid_map: Vec<FsIdRange>,
    /// Groups of the guest and who they are on the host.
    pub gid_map: Vec<FsIdRange>,
    /// The directory.
    pub source: Option<String>,
    /// The socket of a program that serves it already.
    pub socket: Option<String>,
    /// The name in the guest.
    pub target: Option<String>,
    /// Whether the guest cannot write.
    pub readonly: bool,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Filesystem {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_children(&["space_hard_limit", "space_soft_limit"]);
        let driver = reader.child("driver");
        let source = reader.child("source");
        let map = reader.child("idmap");
        let ranges = |name: &str| -> Vec<FsIdRange> {
            let ranges = map.iter().flat_map(|map| map.children(name));
            ranges.map(|range| FsIdRange::parse(&range)).collect()
        };
        let target = reader.child("target").and_then(|target| target.string("dir"));
        Some(Self {
            place: reader.place(),
            kind: reader.keyword("type"),
            access: reader.keyword("accessmode"),
            file_mode: octal(reader, "fmode"),
            directory_mode: octal(reader, "dmode"),
            multi_devices: reader.keyword("multidevs"),
            model: reader.keyword("model"),
            virtio: driver.as_ref().map(VirtioOptions::parse).unwrap_or_default(),
            driver: driver.as_ref().map(FsDriver::parse).unwrap_or_default(),
            binary: reader.child("binary").map(|it| FsBinary::parse(&it)).unwrap_or_default(),
            uid_map: ranges("uid"),
            gid_map: ranges("gid"),
            source: source.as_ref().and_then(|source| source.string("dir")),
            socket: source.as_ref().and_then(|source| source.string("socket")),
            target,
            readonly: reader.child("readonly").is_some(),
            info: DeviceInfo::parse(reader),
        })
    }

    /// What serves it.
    #[must_use]
    pub fn driver_type(&self) -> FsDriverType {
        self.driver.kind.unwrap_or(FsDriverType::Path)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let mode = |mode: Option<u32>| mode.map(|mode| format!("{mode:04o}"));
        writer
            .element("filesystem")
            .attribute("type", self.kind.unwrap_or(FsType::Mount))
            .optional("accessmode", self.access)
            .optional("fmode", mode(self.file_mode))
            .optional("dmode", mode(self.directory_mode))
            .optional("multidevs", self.multi_devices)
            .optional("model", self.model)
            .children(|w| {
                let driver = self.driver.write_attributes(w.element("driver"));
                self.virtio.write_attributes(driver).empty_if_any();
                self.binary.write(w);
                w.element("idmap").children_if_any(|w| {
                    self.uid_map.iter().for_each(|range| range.write("uid", w));
                    self.gid_map.iter().for_each(|range| range.write("gid", w));
                });
                w.element("source")
                    .optional("dir", self.source.as_ref())
                    .optional("socket", self.socket.as_ref())
                    .empty_if_any();
                w.element("target").optional("dir", self.target.as_ref()).empty_if_any();
                if self.readonly {
                    w.element("readonly").empty();
                }
                self.info.write(w);
            });
    }
}

impl FsBinary {
    fn parse(reader: &Reader<'_>) -> Self {
        let child = |name: &str| reader.child(name);
        let lock = child("lock").map(|lock| FsLock::parse(&lock));
        Self {
            path: reader.string("path"),
            xattr: reader.on_off("xattr"),
            cache: child("cache").and_then(|child| child.keyword("mode")),
            sandbox: child("sandbox").and_then(|child| child.keyword("mode")),
            lock: lock.unwrap_or_default(),
            threads: child("thread_pool").and_then(|child| child.number("size")),
            open_files: child("openfiles").and_then(|child| child.number("max")),
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element("binary")
            .optional("path", self.path.as_ref())
            .on_off("xattr", self.xattr)
            .children_if_any(|w| {
                w.element("cache").optional("mode", self.cache).empty_if_any();
                w.element("sandbox").optional("mode", self.sandbox).empty_if_any();
                self.lock.write("lock", w);
                w.element("thread_pool").optional("size", self.threads).empty_if_any();
                w.element("openfiles").optional("max", self.open_files).empty_if_any();
            });
    }
}

/// The modes of files are written in octal, as chmod takes them.
fn octal(reader: &Reader<'_>, name: &str) -> Option<u32> {
    let text = reader.attribute(name)?;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        reader.refuse_attribute(name, format!("'{text}' is no mode; use octal such as 0644"));
    }
    mode
}
