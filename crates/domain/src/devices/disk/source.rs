//! What a disk lies on, `<disk type='...'><source>`.

use crate::fault::Place;
use crate::pci_address::PciAddress;
use crate::reader::Reader;
use crate::seclabel::DeviceLabel;
use crate::writer::Writer;

use super::super::chardev::Reconnect;
use super::backing::{Backing, BackingImage, Slice};
use super::network::NetworkSource;
use super::secret::{Auth, Encryption};

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

crate::keywords! {
    /// How a volume of an iSCSI pool is reached.
    pub enum VolumeMode {
        /// By the host's kernel, as a block device.
        Host = "host",
        /// By QEMU's own client.
        Direct = "direct",
    }
}

/// A volume of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSource {
    /// The pool's name.
    pub pool: String,
    /// The volume's name.
    pub volume: String,
    /// How it is reached.
    pub mode: Option<VolumeMode>,
}

/// A namespace of an NVMe device of the host, driven by QEMU itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmeSource {
    /// The device's address on the host.
    pub address: PciAddress,
    /// Whether the device is taken from the host's driver and given back.
    pub managed: Option<bool>,
    /// The namespace's number.
    pub namespace: u64,
}

/// The socket of a vhost-user server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostUserSource {
    /// The socket's path.
    pub path: String,
    /// What happens when the connection is lost.
    pub reconnect: Reconnect,
}

/// Who answers for persistent reservations of a SCSI disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservations {
    /// A helper of the guest's own.
    Managed,
    /// A helper that listens at this socket.
    At(String),
}

/// What an image lies on, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file; none is an empty drive.
    File(Option<String>),
    /// A block device; none is an empty drive.
    Block(Option<String>),
    /// A directory; none is an empty drive.
    Dir(Option<String>),
    /// A server.
    Network(Box<NetworkSource>),
    /// A volume of a storage pool.
    Volume(VolumeSource),
    /// An NVMe device of the host.
    Nvme(NvmeSource),
    /// A vhost-user server.
    VhostUser(VhostUserSource),
    /// A vDPA device.
    VhostVdpa(String),
}

impl SourceKind {
    /// The value of the attribute `type`.
    #[must_use]
    pub fn source_type(&self) -> SourceType {
        match self {
            Self::File(_) => SourceType::File,
            Self::Block(_) => SourceType::Block,
            Self::Dir(_) => SourceType::Dir,
            Self::Network(_) => SourceType::Network,
            Self::Volume(_) => SourceType::Volume,
            Self::Nvme(_) => SourceType::Nvme,
            Self::VhostUser(_) => SourceType::VhostUser,
            Self::VhostVdpa(_) => SourceType::VhostVdpa,
        }
    }

    fn parse(kind: SourceType, owner: &Reader<'_>, source: Option<&Reader<'_>>) -> Option<Self> {
        let path = |name: &str| source.and_then(|source| source.string(name));
        match kind {
            SourceType::File => return Some(Self::File(path("file"))),
            SourceType::Block => return Some(Self::Block(path("dev"))),
            SourceType::Dir => return Some(Self::Dir(path("dir"))),
            SourceType::Network
            | SourceType::Volume
            | SourceType::Nvme
            | SourceType::VhostUser
            | SourceType::VhostVdpa => {}
        }
        let Some(source) = source else {
            owner.refuse(format!("<source> is missing, and type='{kind}' cannot be without one"));
            return None;
        };
        match kind {
            SourceType::Network => NetworkSource::parse(source).map(Box::new).map(Self::Network),
            SourceType::Volume => VolumeSource::parse(source).map(Self::Volume),
            SourceType::Nvme => NvmeSource::parse(source).map(Self::Nvme),
            SourceType::VhostUser => VhostUserSource::parse(source).map(Self::VhostUser),
            SourceType::VhostVdpa => source
                .required("dev", "/dev/vhost-vdpa-0")
                .map(|path| Self::VhostVdpa(path.to_owned())),
            SourceType::File | SourceType::Block | SourceType::Dir => None,
        }
    }
}

impl VolumeSource {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        let pool = source.required("pool", "default").map(str::to_owned);
        let volume = source.required("volume", "disk.qcow2").map(str::to_owned);
        let mode = source.keyword("mode");
        Some(Self { pool: pool?, volume: volume?, mode })
    }
}

impl NvmeSource {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        if let Some(kind) = source.required("type", "pci").filter(|kind| *kind != "pci") {
            source.refuse_attribute("type", format!("'{kind}' is not known; use pci"));
        }
        let managed = source.yes_no("managed");
        let _ = source.required("namespace", "1"); // The number itself is read next.
        let namespace = source.number("namespace");
        let address = source.child("address").map(|address| PciAddress::parse(&address));
        if address.is_none() {
            source.refuse("<address> is missing; add the PCI address of the NVMe device");
        }
        Some(Self { address: address??, managed, namespace: namespace? })
    }
}

impl VhostUserSource {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        if let Some(kind) = source.required("type", "unix").filter(|kind| *kind != "unix") {
            source.refuse_attribute("type", format!("'{kind}' is not known; use unix"));
        }
        let _ = source.attribute("mode"); // QEMU is always the client.
        let path = source.required("path", "/run/vhost-blk.sock");
        let reconnect = source.child("reconnect").map(|child| Reconnect::parse(&child));
        Some(Self { path: path?.to_owned(), reconnect: reconnect.unwrap_or_default() })
    }
}

impl Reservations {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("managed", "yes"); // The word itself is read next.
        if reader.yes_no("managed")? {
            return Some(Self::Managed);
        }
        let Some(source) = reader.child("source") else {
            reader.refuse("<source> is missing; add the socket of the helper or managed='yes'");
            return None;
        };
        for (name, word) in [("type", "unix"), ("mode", "client")] {
            if let Some(other) = source.required(name, word).filter(|text| *text != word) {
                source.refuse_attribute(name, format!("'{other}' is not known; use {word}"));
            }
        }
        source.required("path", "/run/qemu-pr-helper.sock").map(|path| Self::At(path.to_owned()))
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Managed => {
                writer.element("reservations").attribute("managed", "yes").empty();
            }
            Self::At(path) => {
                writer.element("reservations").attribute("managed", "no").children(|w| {
                    w.element("source")
                        .attribute("type", "unix")
                        .attribute("path", path)
                        .attribute("mode", "client")
                        .empty();
                });
            }
        }
    }
}

/// What an image lies on: the disk's own, or one of the images below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSource {
    /// Where `<source>` stands, or the element around it when there is none.
    pub place: Place,
    /// What it is.
    pub kind: SourceKind,
    /// The number of its block node in a running guest.
    pub index: Option<u32>,
    /// The group of descriptors through which it is opened.
    pub fd_group: Option<String>,
    /// What happens when it is missing.
    pub startup_policy: Option<StartupPolicy>,
    /// Labels of the host's security modules.
    pub labels: Vec<DeviceLabel>,
    /// How the guest shows itself to the server.
    pub auth: Option<Auth>,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// Who answers for persistent reservations.
    pub reservations: Option<Reservations>,
    /// The part of it that is used.
    pub slice: Option<Slice>,
    /// Where the data of a qcow2 image lies, if not in the image itself.
    pub data: Option<Box<BackingImage>>,
    /// What lies below.
    pub backing: Backing,
}

impl DiskSource {
    /// Reads the attribute `type` of a disk or backing store, and its `<source>` and `<backingStore>`.
    pub(crate) fn parse(owner: &Reader<'_>) -> Option<Self> {
        let source = owner.child("source");
        let backing = Backing::parse(owner);
        let kind = match owner.attribute("type") {
            // A disk without a type is a file.
            None => Some(SourceType::File),
            Some(_) => owner.keyword::<SourceType>("type"),
        };
        let Some(kind) = kind.and_then(|kind| SourceKind::parse(kind, owner, source.as_ref()))
        else {
            let _ = source.as_ref().map(Reader::raw); // The disk is refused whole.
            return None;
        };
        let mut this = Self {
            place: source.as_ref().map_or_else(|| owner.place(), Reader::place),
            kind,
            index: owner.of_running().then(|| owner.number("index")).flatten(),
            fd_group: None,
            startup_policy: None,
            labels: Vec::new(),
            auth: None,
            encryption: None,
            reservations: None,
            slice: None,
            data: None,
            backing,
        };
        if let Some(source) = &source {
            this.read_shared(source);
        }
        this.read_secrets_of_disk(owner);
        Some(this)
    }

    fn read_shared(&mut self, source: &Reader<'_>) {
        if source.of_running() {
            self.index = source.number("index").or(self.index);
        }
        let _ = source.attribute("index"); // The number of the last run.
        self.fd_group = source.string("fdgroup");
        self.startup_policy = source.keyword("startupPolicy");
        self.labels = DeviceLabel::all(source);
        self.auth = source.child("auth").and_then(|auth| Auth::parse(&auth));
        self.encryption = source.child("encryption").and_then(|child| Encryption::parse(&child));
        self.reservations =
            source.child("reservations").and_then(|child| Reservations::parse(&child));
        let data = source.child("dataStore").and_then(|store| BackingImage::parse(&store));
        self.data = data.map(Box::new);
        self.slice = source.child("slices").and_then(|slices| Slice::parse(&slices));
    }

    /// Before libvirt 3.9 both stood in the disk itself.
    fn read_secrets_of_disk(&mut self, owner: &Reader<'_>) {
        if let Some(auth) = owner.child("auth") {
            if self.auth.is_some() {
                auth.refuse("<source> has an <auth> already; remove this one");
            }
            self.auth = Auth::parse(&auth).map(|auth| Auth { in_disk: true, ..auth });
        }
        if let Some(encryption) = owner.child("encryption") {
            if self.encryption.is_some() {
                encryption.refuse("<source> has an <encryption> already; remove this one");
            }
            self.encryption = Encryption::parse(&encryption)
                .map(|encryption| Encryption { in_disk: true, ..encryption });
        }
    }

    /// Whether the drive has a medium.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            SourceKind::File(path) | SourceKind::Block(path) | SourceKind::Dir(path) => {
                path.is_none()
            }
            SourceKind::Network(_)
            | SourceKind::Volume(_)
            | SourceKind::Nvme(_)
            | SourceKind::VhostUser(_)
            | SourceKind::VhostVdpa(_) => false,
        }
    }

    /// The images from this one down to the last that the domain names.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |source| match &source.backing {
            Backing::Image(image) => Some(&image.source),
            Backing::Unknown | Backing::End => None,
        })
    }

    /// Writes what stood in the disk itself.
    pub(super) fn write_of_disk(&self, writer: &mut Writer) {
        if let Some(auth) = self.auth.as_ref().filter(|auth| auth.in_disk) {
            auth.write(writer);
        }
    }

    /// Writes the disk's `<encryption>`, if it stood there.
    pub(super) fn write_encryption_of_disk(&self, writer: &mut Writer) {
        if let Some(encryption) = self.encryption.as_ref().filter(|it| it.in_disk) {
            encryption.write(writer);
        }
    }

    /// Writes `<source>`; the number of an image below the disk's own stands in the element around it.
    pub(crate) fn write(&self, index: Option<u32>, writer: &mut Writer) {
        let element = writer.element("source");
        let element = match &self.kind {
            SourceKind::File(path) => element.optional("file", path.as_ref()),
            SourceKind::Block(path) => element.optional("dev", path.as_ref()),
            SourceKind::Dir(path) => element.optional("dir", path.as_ref()),
            SourceKind::Network(network) => network.write_attributes(element),
            SourceKind::Volume(volume) => element
                .attribute("pool", &volume.pool)
                .attribute("volume", &volume.volume)
                .optional("mode", volume.mode),
            SourceKind::Nvme(nvme) => element
                .attribute("type", "pci")
                .yes_no("managed", nvme.managed)
                .attribute("namespace", nvme.namespace),
            SourceKind::VhostUser(socket) => {
                element.attribute("type", "unix").attribute("path", &socket.path)
            }
            SourceKind::VhostVdpa(path) => element.attribute("dev", path),
        };
        element
            .optional("fdgroup", self.fd_group.as_ref())
            .optional("startupPolicy", self.startup_policy)
            .optional("index", index)
            .children_if_any(|w| self.write_children(w));
    }

    fn write_children(&self, w: &mut Writer) {
        match &self.kind {
            SourceKind::Network(network) => network.write_children(w),
            SourceKind::Nvme(nvme) => nvme.address.write_attributes(w.element("address")).empty(),
            SourceKind::VhostUser(socket) => socket.reconnect.write("reconnect", w),
            SourceKind::File(_)
            | SourceKind::Block(_)
            | SourceKind::Dir(_)
            | SourceKind::Volume(_)
            | SourceKind::VhostVdpa(_) => {}
        }
        if let Some(slice) = self.slice {
            slice.write(w);
        }
        self.labels.iter().for_each(|label| label.write(w));
        if let Some(data) = &self.data {
            data.write("dataStore", w);
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.in_disk) {
            auth.write(w);
        }
        if let Some(encryption) = self.encryption.as_ref().filter(|it| !it.in_disk) {
            encryption.write(w);
        }
        if let Some(reservations) = &self.reservations {
            reservations.write(w);
        }
    }
}
