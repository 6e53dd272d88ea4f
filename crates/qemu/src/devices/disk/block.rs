//! What disks lie on: `-blockdev`, a chain of nodes from the storage up to the one that the device uses.
//!
//! Each image is a storage node, a node for the used slice if there is one, and a node for its format unless
//! it is plain raw. The lowest image comes first; the disk's filters stand on the highest.

use domain::MemorySize;
use domain::devices::{
    Backing, CacheMode, DetectZeroes, DiscardMode, Disk, DiskFormat, DiskSource, Encryption,
    EncryptionEngine, SourceKind,
};

use crate::command::Command;
use crate::json::{Json, Object};
use crate::plan::Access;
use crate::secrets;
use crate::storage::{SecretNeed, StorageFacts};

use super::{format, source};

/// Where an image lies, and what its nodes are called.
#[derive(Debug, Clone)]
pub(super) struct Image<'a> {
    pub(super) source: &'a DiskSource,
    /// What the names of its nodes begin with.
    pub(super) name: String,
}

impl Image<'_> {
    /// The encryption that QEMU undoes in a node.
    pub(super) fn encryption(&self) -> Option<&Encryption> {
        self.source.encryption.as_ref().filter(|it| it.engine != Some(EncryptionEngine::Librbd))
    }

    pub(super) fn node(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }
}

/// One image of a disk's chain.
#[derive(Debug, Clone)]
pub(super) struct Layer<'a> {
    pub(super) disk: &'a Disk,
    pub(super) image: Image<'a>,
    /// What it lies on, once volumes are looked up.
    pub(super) kind: SourceKind,
    pub(super) format: DiskFormat,
    pub(super) metadata_cache: Option<MemorySize>,
    /// Where its data lies, if not in itself.
    pub(super) data: Option<Box<Layer<'a>>>,
    /// Whether it is the disk's own image.
    pub(super) top: bool,
    /// What tells it from the other images of its disk: nothing for the disk's own, `.1` for the one that this is
    /// a layer of, and so on; `.data` follows for a file of data.
    pub(super) suffix: String,
}

impl Layer<'_> {
    pub(super) fn readonly(&self) -> bool {
        self.disk.readonly || !self.top
    }

    pub(super) fn has_format_node(&self) -> bool {
        self.format != DiskFormat::Raw || self.image.encryption().is_some()
    }

    /// Adds what the node has that the device or the image above uses.
    pub(super) fn used(&self, node: Object) -> Object {
        let driver = &self.disk.driver;
        let node = node.set("read-only", self.readonly());
        let node = cached(self.disk, node.some("discard", driver.discard.map(DiscardMode::as_str)));
        node.some("detect-zeroes", detect_zeroes(self.disk).filter(|_| self.top))
    }

    pub(super) fn access(&self) -> Access {
        if self.readonly() { Access::Read } else { Access::ReadWrite }
    }

    /// Adds what a node has that serves another one: the one above opens it as it needs, and discards reach
    /// it if that one passes them on.
    pub(super) fn serving(&self, node: Object) -> Object {
        cached(self.disk, node.set("auto-read-only", true).set("discard", "unmap"))
    }
}

/// The images of a disk from its own down.
fn layers_of<'a>(facts: &StorageFacts, disk: &'a Disk, number: u32) -> Option<Vec<Layer<'a>>> {
    let mut layers = Vec::new();
    let mut format = disk.driver.format;
    let mut metadata_cache = disk.metadata_cache;
    let mut numbers = number..;
    for (depth, source) in disk.source.chain().enumerate() {
        let top = depth == 0;
        let suffix = source::suffix(depth);
        let mut layer = |source: &'a DiskSource, format, metadata_cache, suffix| {
            let image = Image { source, name: format!("libvirt-{}", numbers.next()?) };
            let kind = facts.resolve(source)?;
            Some(Layer { disk, image, kind, format, metadata_cache, data: None, top, suffix })
        };
        let data_suffix = format!("{suffix}.data");
        let own = layer(source, format.unwrap_or(DiskFormat::Raw), metadata_cache, suffix)?;
        let data = match &source.data {
            Some(data) => {
                let cache = data.metadata_cache;
                Some(Box::new(layer(&data.source, data.format, cache, data_suffix)?))
            }
            None => None,
        };
        layers.push(Layer { data, ..own });
        if let Backing::Image(image) = &source.backing {
            format = Some(image.format);
            metadata_cache = image.metadata_cache;
        }
    }
    Some(layers)
}

/// How many numbers a disk takes; even an empty drive takes one, but none that is left out.
pub(super) fn layers(facts: &StorageFacts, disk: &Disk) -> u32 {
    if facts.drops(disk) || disk.bus() == domain::devices::DiskBus::Sd {
        return 0;
    }
    u32::try_from(images(disk) + disk.throttle_filters.len()).unwrap_or(u32::MAX)
}

/// How many images a disk has.
fn images(disk: &Disk) -> usize {
    disk.source.chain().map(|source| 1 + usize::from(source.data.is_some())).sum()
}

/// Numbers the images of a disk from this number on: its own, that of its data, those below.
pub(super) fn number(disk: &mut Disk, first: u32) {
    let mut numbers = first..;
    let mut source = Some(&mut disk.source);
    while let Some(this) = source {
        this.index = numbers.next();
        if let Some(data) = &mut this.data {
            data.source.index = numbers.next();
        }
        source = match &mut this.backing {
            Backing::Image(image) => Some(&mut image.source),
            Backing::Unknown | Backing::End => None,
        };
    }
}

/// Adds the nodes of a disk; the result is the name of the top one, none for an empty drive.
pub(super) fn arguments(command: &mut Command<'_>, disk: &Disk) -> Option<String> {
    let number = disk.source.index.unwrap_or_default();
    if disk.source.is_empty() || command.facts.storage.drops(disk) {
        return None;
    }
    let Some(layers) = layers_of(&command.facts.storage, disk, number) else {
        let what = "the host knows no such volume, or QEMU cannot reach it; check pool and volume";
        command.refuse(&disk.source.place, what);
        return None;
    };
    let mut below = None;
    for layer in layers.iter().rev() {
        below = Some(layer_arguments(command, layer, below.take())?);
    }
    filters(command, disk, below?, number + u32::try_from(images(disk)).unwrap_or_default())
}

/// Adds the nodes of one image; the result is the name of the one that is used.
fn layer_arguments(
    command: &mut Command<'_>,
    layer: &Layer<'_>,
    below: Option<String>,
) -> Option<String> {
    let data = layer.data.as_ref().and_then(|data| layer_arguments(command, data, None));
    if let Some(label) = layer.image.source.labels.first() {
        let model = label.model.as_deref().unwrap_or("any module");
        let what = format!("labels for {model} are not set by glassbox; label the image yourself");
        let place = layer.image.source.place.child("seclabel");
        command.ignore(&place, what);
    }
    let has_format = layer.has_format_node();
    let storage = layer.image.node("storage");
    let node = source::properties(command, layer)?.set("node-name", &storage);
    let serves = has_format || layer.image.source.slice.is_some();
    let node = if !serves {
        layer.used(node)
    } else if source::is_inherited(command, layer) {
        cached(layer.disk, node.set("read-only", layer.readonly()).set("discard", "unmap"))
    } else {
        layer.serving(node)
    };
    command.argv.json("-blockdev", &node);
    let file = match layer.image.source.slice {
        None => storage,
        Some(slice) => {
            let name = layer.image.node("slice-sto");
            let node = Object::new("driver", "raw")
                .set("file", storage)
                .set("offset", slice.offset)
                .set("size", slice.size)
                .set("node-name", &name);
            let node = if has_format { layer.serving(node) } else { layer.used(node) };
            command.argv.json("-blockdev", &node);
            name
        }
    };
    if !has_format {
        return Some(file);
    }
    let name = layer.image.node("format");
    let node = layer.used(Object::new("node-name", &name));
    let node = format::properties(command, layer, node)?.set("file", file);
    let node = node.some("data-file", data);
    let node = match (&layer.image.source.backing, below) {
        (Backing::Image(_), Some(below)) => node.set("backing", below),
        (Backing::End, _) if format::has_backing(layer.format) => node.set("backing", Json::Null),
        (Backing::End | Backing::Unknown | Backing::Image(_), _) => node,
    };
    command.argv.json("-blockdev", &node);
    Some(name)
}

/// Adds the nodes on top of the images: one that copies what is read, and limits.
fn filters(command: &mut Command<'_>, disk: &Disk, node: String, number: u32) -> Option<String> {
    let mut top = node;
    if disk.driver.copy_on_read == Some(true) {
        let name = format!("libvirt-CoR-{}", disk.target);
        let node = Object::new("driver", "copy-on-read").set("node-name", &name);
        command.argv.json("-blockdev", &node.set("file", top).set("discard", "unmap"));
        top = name;
    }
    for (group, number) in disk.throttle_filters.iter().zip(number..) {
        let name = format!("libvirt-{number}-filter");
        let node = Object::new("driver", "throttle")
            .set("node-name", &name)
            .set("throttle-group", format!("throttle-{group}"))
            .set("file", top);
        command.argv.json("-blockdev", &node);
        top = name;
    }
    Some(top)
}

/// Adds the secrets of an image's encryption; the result is their ids.
pub(super) fn keys(
    command: &mut Command<'_>,
    image: &Image<'_>,
    encryption: &Encryption,
    part: &str,
) -> Vec<String> {
    let ids = (0..).map(|index| format!("{}-encryption-secret{index}", image.node(part)));
    let keys = encryption.secrets.iter().cloned().map(SecretNeed::Stored);
    ids.zip(keys).map(|(id, need)| secrets::add(command, id, &need, &image.source.place)).collect()
}

/// How the host's page cache is used: several guests that share a disk must not have caches of their own.
pub(super) fn cache(disk: &Disk) -> Option<CacheMode> {
    let shared = (disk.shareable && !disk.readonly).then_some(CacheMode::None);
    disk.driver.cache.filter(|cache| *cache != CacheMode::Default).or(shared)
}

/// Whether images are read and written past the host's page cache.
pub(super) fn bypasses_cache(disk: &Disk) -> bool {
    matches!(cache(disk), Some(CacheMode::None | CacheMode::Directsync))
}

fn cached(disk: &Disk, node: Object) -> Object {
    let (direct, no_flush) = match cache(disk) {
        None | Some(CacheMode::Default) => return node,
        Some(CacheMode::None | CacheMode::Directsync) => (true, false),
        Some(CacheMode::Writethrough | CacheMode::Writeback) => (false, false),
        Some(CacheMode::Unsafe) => (false, true),
    };
    node.set("cache", Object::new("direct", direct).set("no-flush", no_flush))
}

/// Whether the guest sees a cache that it must flush.
pub(super) fn write_cache(disk: &Disk) -> Option<&'static str> {
    match cache(disk)? {
        CacheMode::Default => None,
        CacheMode::None | CacheMode::Writeback | CacheMode::Unsafe => Some("on"),
        CacheMode::Writethrough | CacheMode::Directsync => Some("off"),
    }
}

/// Zeroes can be discarded only if discards are passed on.
fn detect_zeroes(disk: &Disk) -> Option<&'static str> {
    let mode = disk.driver.detect_zeroes?;
    let unmaps = disk.driver.discard == Some(DiscardMode::Unmap);
    Some(if mode == DetectZeroes::Unmap && !unmaps { "on" } else { mode.as_str() })
}
