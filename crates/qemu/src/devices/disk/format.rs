//! Formats of images, the nodes above their storage.

use domain::devices::DiskFormat;

use crate::command::Command;
use crate::json::Object;

use super::block::{Layer, keys};

/// Adds the format's driver and options; nothing when the format is refused.
pub(super) fn properties(
    command: &mut Command<'_>,
    layer: &Layer<'_>,
    node: Object,
) -> Option<Object> {
    let encryption = layer.image.encryption().cloned();
    let key = encryption.and_then(|encryption| {
        keys(command, &layer.image, &encryption, "format").into_iter().next()
    });
    if layer.format == DiskFormat::Raw {
        let driver = if key.is_some() { "luks" } else { "raw" };
        return Some(node.set("driver", driver).some("key-secret", key));
    }
    let Some(driver) = driver(layer.format) else {
        let what =
            format!("QEMU does not open images of format '{}'; use raw or qcow2", layer.format);
        command.refuse(&layer.image.source.place, what);
        return None;
    };
    let no_unref = layer.disk.driver.discard_no_unref.filter(|_| is_qcow2(layer));
    if no_unref.is_some() && !command.facts.abilities.discard_no_unref {
        let what = "this QEMU does not know discard_no_unref, 8.1 does; remove it";
        command.refuse(&layer.disk.place, what);
        return None;
    }
    let encrypt = key.map(|key| Object::new("format", "luks").set("key-secret", key));
    Some(
        node.set("driver", driver)
            .some("discard-no-unref", no_unref)
            .some("cache-size", layer.metadata_cache.map(|size| size.bytes()))
            .some("encrypt", encrypt),
    )
}

fn is_qcow2(layer: &Layer<'_>) -> bool {
    layer.format == DiskFormat::Qcow2
}

/// QEMU's driver of a format.
pub(super) fn driver(format: DiskFormat) -> Option<&'static str> {
    match format {
        // A directory looks like a disk already.
        DiskFormat::Raw | DiskFormat::Fat => Some("raw"),
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
        DiskFormat::Dir | DiskFormat::Iso | DiskFormat::Vhd | DiskFormat::Cow => None,
    }
}

/// Whether images of the format can lie on others.
pub(super) fn has_backing(format: DiskFormat) -> bool {
    matches!(
        format,
        DiskFormat::Qcow2 | DiskFormat::Qcow | DiskFormat::Qed | DiskFormat::Vmdk | DiskFormat::Cow
    )
}
