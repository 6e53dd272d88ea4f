//! Devices of the host that guests are given by other names than their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The generic devices of SCSI devices: `scsi_host0:0:0:0` to `/dev/sg0`, as the kernel's sysfs links them.
pub(super) fn scsi_generics() -> BTreeMap<String, String> {
    generics(Path::new("/sys/bus/scsi/devices"))
}

fn generics(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let pairs = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let generic = fs::read_dir(entry.path().join("scsi_generic")).ok()?.next()?.ok()?;
        let path = format!("/dev/{}", generic.file_name().into_string().ok()?);
        Some((format!("scsi_host{name}"), path))
    });
    pairs.collect()
}

/// The first node of a GPU that renders without a screen.
pub(super) fn render_node() -> Option<String> {
    let entries = fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let nodes = names.filter_map(|name| {
        let number: u32 = name.strip_prefix("renderD")?.parse().ok()?;
        Some((number, name))
    });
    nodes.min().map(|(_, name)| format!("/dev/dri/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scsi_device_has_the_name_that_definitions_use() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("2:0:1:4/scsi_generic/sg3")).unwrap();
        fs::create_dir_all(root.path().join("host2")).unwrap();
        let expected = [("scsi_host2:0:1:4".to_owned(), "/dev/sg3".to_owned())].into();
        assert_eq!(generics(root.path()), expected);
    }
}
