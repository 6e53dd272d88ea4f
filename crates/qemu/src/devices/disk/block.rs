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
use crate::secrets;
use crate::storage::{SecretNeed, StorageFacts};

use super::{format, source};

/// One image of a disk's chain.
#[derive(Debug, Clone)]
pub(super) struct Layer<'a> {
    pub(super) disk: &'a Disk,
    pub(super) source: &'a DiskSource,
    /// What it lies on, once volumes are looked up.
    pub(super) kind: SourceKind,
    pub(super) format: DiskFormat,
    pub(super) metadata_cache: Option<MemorySize>,
    pub(super) number: u32,
    /// Whether it is the disk's own image.
    pub(super) top: bool,
}

impl Layer<'_> {
    pub(super) fn readonly(&self) -> bool {
        self.disk.readonly || !self.top
    }

    /// The encryption that QEMU undoes in a node.
    pub(super) fn encryption(&self) -> Option<&Encryption> {
        self.source.encryption.as_ref().filter(|it| it.engine != Some(EncryptionEngine::Librbd))
    }

    pub(super) fn has_format_node(&self) -> bool {
        self.format != DiskFormat::Raw || self.encryption().is_some()
    }

    pub(super) fn node(&self, part: &str) -> String {
        format!("libvirt-{}-{part}", self.number)
    }

    /// Adds what the node has that the device or the image above uses.
    pub(super) fn used(&self, node: Object) -> Object {
        let driver = &self.disk.driver;
        let node = node.set("read-only", self.readonly());
        let node = cached(self.disk, node.some("discard", driver.discard.map(DiscardMode::as_str)));
        node.some("detect-zeroes", detect_zeroes(self.disk).filter(|_| self.top))
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
    for (source, number) in disk.source.chain().zip(number..) {
        let kind = facts.resolve(source)?;
        layers.push(Layer {
            disk,
            source,
            kind,
            format: format.unwrap_or(DiskFormat::Raw),
            metadata_cache,
            number,
            top: layers.is_empty(),
        });
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
    let count = disk.source.chain().count() + disk.throttle_filters.len();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Adds the nodes of a disk; the result is the name of the top one, none for an empty drive.
pub(super) fn arguments(command: &mut Command<'_>, disk: &Disk, number: u32) -> Option<String> {
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
    filters(command, disk, below?, number + u32::try_from(layers.len()).unwrap_or_default())
}

/// Adds the nodes of one image; the result is the name of the one that is used.
fn layer_arguments(
    command: &mut Command<'_>,
    layer: &Layer<'_>,
    below: Option<String>,
) -> Option<String> {
    if let Some(label) = layer.source.labels.first() {
        let model = label.model.as_deref().unwrap_or("any module");
        let what = format!("labels for {model} are not set by glassbox; label the image yourself");
        let place = layer.source.place.child("seclabel");
        command.ignore(&place, what);
    }
    let has_format = layer.has_format_node();
    let storage = layer.node("storage");
    let node = source::properties(command, layer)?.set("node-name", &storage);
    let serves = has_format || layer.source.slice.is_some();
    let node = if serves { layer.serving(node) } else { layer.used(node) };
    command.argv.json("-blockdev", &node);
    let file = match layer.source.slice {
        None => storage,
        Some(slice) => {
            let name = layer.node("slice-sto");
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
    let name = layer.node("format");
    let node = layer.used(Object::new("node-name", &name));
    let node = format::properties(command, layer, node)?.set("file", file);
    let node = match (&layer.source.backing, below) {
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
    layer: &Layer<'_>,
    encryption: &Encryption,
    part: &str,
) -> Vec<String> {
    let ids = (0..).map(|index| format!("{}-encryption-secret{index}", layer.node(part)));
    let keys = encryption.secrets.iter().cloned().map(SecretNeed::Stored);
    ids.zip(keys).map(|(id, need)| secrets::add(command, id, &need, &layer.source.place)).collect()
}

/// How the host's page cache is used: several guests that share a disk must not have caches of their own.
pub(super) fn cache(disk: &Disk) -> Option<CacheMode> {
    let shared = (disk.shareable && !disk.readonly).then_some(CacheMode::None);
    disk.driver.cache.filter(|cache| *cache != CacheMode::Default).or(shared)
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
