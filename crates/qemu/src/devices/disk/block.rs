//! What disks lie on: `-blockdev`, a chain of nodes from the storage up to the one that the device uses.

use domain::devices::{
    CacheMode, DetectZeroes, DiscardMode, Disk, DiskDriver, DiskFormat, IoMode, SourceKind,
};

use crate::command::Command;
use crate::json::{Json, Object};
use crate::plan::Access;

/// How many numbers a disk takes; even an empty drive takes one.
pub(super) fn layers(_disk: &Disk) -> u32 {
    1
}

/// Adds the nodes of a disk; the result is the name of the top one, none for an empty drive.
pub(super) fn arguments(command: &mut Command<'_>, disk: &Disk, number: u32) -> Option<String> {
    let (driver, path) = match &disk.source.kind {
        SourceKind::File(path) => ("file", path.as_deref()?),
        SourceKind::Block(path) => (block_driver(disk, path.as_deref()?), path.as_deref()?),
    };
    let access = if disk.readonly { Access::Read } else { Access::ReadWrite };
    command.needs_file(path, access, &disk.source.place);
    let format = disk.driver.format.unwrap_or(DiskFormat::Raw);
    let storage = format!("libvirt-{number}-storage");
    let node = Object::new("driver", driver).set("filename", path).some("aio", aio(disk.driver.io));
    let node = node.set("node-name", &storage);
    if format == DiskFormat::Raw {
        let discard = disk.driver.discard.map(discard);
        let node =
            cached(&disk.driver, node.set("read-only", disk.readonly).some("discard", discard));
        command.argv.json("-blockdev", &detecting(&disk.driver, node));
        return Some(storage);
    }
    // The format opens and closes the storage as it needs; discards reach it if the format passes them on.
    let node = cached(&disk.driver, node.set("auto-read-only", true).set("discard", "unmap"));
    command.argv.json("-blockdev", &node);
    format_node(command, disk, number, format)
}

fn format_node(
    command: &mut Command<'_>,
    disk: &Disk,
    number: u32,
    format: DiskFormat,
) -> Option<String> {
    let Some(driver) = format_driver(format) else {
        let what = format!("format '{format}' is not supported yet by glassbox; use raw or qcow2");
        command.refuse(&disk.place.child("driver"), what);
        return None;
    };
    let name = format!("libvirt-{number}-format");
    let node = Object::new("node-name", &name).set("read-only", disk.readonly);
    let node = cached(&disk.driver, node.some("discard", disk.driver.discard.map(discard)));
    let node = detecting(&disk.driver, node).set("driver", driver);
    let node = node
        .some("discard-no-unref", disk.driver.discard_no_unref)
        .set("file", format!("libvirt-{number}-storage"))
        .some("backing", disk.source.ends_chain.then_some(Json::Null));
    command.argv.json("-blockdev", &node);
    Some(name)
}

/// CD-ROM drives of the host are passed through as such.
fn block_driver(disk: &Disk, path: &str) -> &'static str {
    let cdrom = disk.device() == domain::devices::DiskDevice::Cdrom;
    if cdrom && path == "/dev/cdrom" { "host_cdrom" } else { "host_device" }
}

fn format_driver(format: DiskFormat) -> Option<&'static str> {
    match format {
        DiskFormat::Qcow2 => Some("qcow2"),
        DiskFormat::Qcow => Some("qcow"),
        DiskFormat::Qed => Some("qed"),
        DiskFormat::Vmdk => Some("vmdk"),
        DiskFormat::Vdi => Some("vdi"),
        DiskFormat::Vpc => Some("vpc"),
        DiskFormat::Bochs => Some("bochs"),
        DiskFormat::Cloop => Some("cloop"),
        DiskFormat::Dmg => Some("dmg"),
        DiskFormat::Ploop => Some("parallels"),
        DiskFormat::Raw
        | DiskFormat::Dir
        | DiskFormat::Iso
        | DiskFormat::Fat
        | DiskFormat::Vhd
        | DiskFormat::Cow => None,
    }
}

/// Adds what the host's page cache is used for.
fn cached(driver: &DiskDriver, node: Object) -> Object {
    let (direct, no_flush) = match driver.cache {
        None | Some(CacheMode::Default) => return node,
        Some(CacheMode::None | CacheMode::Directsync) => (true, false),
        Some(CacheMode::Writethrough | CacheMode::Writeback) => (false, false),
        Some(CacheMode::Unsafe) => (false, true),
    };
    node.set("cache", Object::new("direct", direct).set("no-flush", no_flush))
}

/// Whether the guest sees a cache that it must flush.
pub(super) fn write_cache(cache: Option<CacheMode>) -> Option<&'static str> {
    match cache? {
        CacheMode::Default => None,
        CacheMode::None | CacheMode::Writeback | CacheMode::Unsafe => Some("on"),
        CacheMode::Writethrough | CacheMode::Directsync => Some("off"),
    }
}

fn detecting(driver: &DiskDriver, node: Object) -> Object {
    node.some("detect-zeroes", driver.detect_zeroes.map(DetectZeroes::as_str))
}

fn aio(io: Option<IoMode>) -> Option<&'static str> {
    io.map(IoMode::as_str)
}

fn discard(mode: DiscardMode) -> &'static str {
    mode.as_str()
}
