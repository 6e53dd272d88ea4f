//! What a disk lies on, `<disk type='...'><source>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// What a disk lies on.
    pub enum SourceType {
        /// A file.
        File = "file",
        /// A block device.
        Block = "block",
        /// A directory shown as a FAT disk.
        Dir = "dir",
        /// A server.
        Network = "network",
        /// A volume of a storage pool.
        Volume = "volume",
        /// An NVMe device of the host.
        Nvme = "nvme",
        /// A vhost-user server.
        VhostUser = "vhostuser",
        /// A vDPA device.
        VhostVdpa = "vhostvdpa",
    }
}

crate::keywords! {
    /// Formats of images.
    pub enum DiskFormat {
        /// The bytes as they are.
        Raw = "raw",
        /// A directory.
        Dir = "dir",
        /// Bochs's.
        Bochs = "bochs",
        /// Compressed loop devices.
        Cloop = "cloop",
        /// Apple's.
        Dmg = "dmg",
        /// An ISO 9660 image.
        Iso = "iso",
        /// VirtualPC's.
        Vpc = "vpc",
        /// VirtualBox's.
        Vdi = "vdi",
        /// A FAT file system of a directory.
        Fat = "fat",
        /// VirtualPC's newer one.
        Vhd = "vhd",
        /// Parallels's.
        Ploop = "ploop",
        /// QEMU's first.
        Cow = "cow",
        /// QEMU's second.
        Qcow = "qcow",
        /// QEMU's third.
        Qcow2 = "qcow2",
        /// QEMU's enhanced one.
        Qed = "qed",
        /// VMware's.
        Vmdk = "vmdk",
    }
}

crate::keywords! {
    /// What happens when the source is missing.
    pub enum StartupPolicy {
        /// The guest is not started.
        Mandatory = "mandatory",
        /// The guest is started if it was migrated or restored.
        Requisite = "requisite",
        /// The drive is empty.
        Optional = "optional",
    }
}

/// What a disk lies on, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file; none is an empty drive.
    File(Option<String>),
    /// A block device; none is an empty drive.
    Block(Option<String>),
}

impl SourceKind {
    /// The value of the disk's attribute `type`.
    pub(super) fn source_type(&self) -> SourceType {
        match self {
            Self::File(_) => SourceType::File,
            Self::Block(_) => SourceType::Block,
        }
    }
}

/// What a disk lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSource {
    /// Where `<source>` stands, or the disk when there is none.
    pub place: Place,
    /// What it is.
    pub kind: SourceKind,
    /// What happens when it is missing.
    pub startup_policy: Option<StartupPolicy>,
    /// Whether the domain says that no image lies below this one.
    pub ends_chain: bool,
}

/// Children that libvirt knows and that are not read yet.
const UNSUPPORTED: [&str; 8] =
    ["seclabel", "auth", "encryption", "reservations", "slices", "initiator", "host", "cookies"];

impl DiskSource {
    /// Reads the disk's attribute `type` and its `<source>` and `<backingStore>`.
    pub(super) fn parse(disk: &Reader<'_>) -> Option<Self> {
        let source = disk.child("source");
        let ends_chain = ends_chain(disk);
        let _ = disk.required("type", "file"); // The keyword itself is read next.
        let path = |name: &str| source.as_ref().and_then(|source| source.string(name));
        let kind = match disk.keyword::<SourceType>("type")? {
            SourceType::File => SourceKind::File(path("file")),
            SourceType::Block => SourceKind::Block(path("dev")),
            SourceType::Dir
            | SourceType::Network
            | SourceType::Volume
            | SourceType::Nvme
            | SourceType::VhostUser
            | SourceType::VhostVdpa => {
                let _ = source.as_ref().map(Reader::raw); // The disk is refused whole.
                disk.refuse_attribute("type", "not supported yet by glassbox; use file or block");
                return None;
            }
        };
        if let Some(source) = &source {
            source.refuse_children(&UNSUPPORTED);
            source.refuse_attributes(&["fdgroup"]);
            let _ = source.attribute("index"); // The number of the last run.
        }
        Some(Self {
            place: source.as_ref().map_or_else(|| disk.place(), Reader::place),
            kind,
            startup_policy: source.and_then(|source| source.keyword("startupPolicy")),
            ends_chain,
        })
    }

    /// Whether the drive has a medium.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            SourceKind::File(path) | SourceKind::Block(path) => path.is_none(),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let element = writer.element("source");
        match &self.kind {
            SourceKind::File(path) => element.optional("file", path.as_ref()),
            SourceKind::Block(path) => element.optional("dev", path.as_ref()),
        }
        .optional("startupPolicy", self.startup_policy)
        .empty_if_any();
        if self.ends_chain {
            writer.element("backingStore").empty();
        }
    }
}

/// Whether there is an empty `<backingStore/>`, which says that no image lies below.
fn ends_chain(disk: &Reader<'_>) -> bool {
    let Some(store) = disk.child("backingStore") else { return false };
    let ends = store.attribute("type").is_none();
    if !ends {
        store.refuse_unsupported();
    }
    ends
}
