//! The firmware that is installed, by its descriptions (QEMU's `docs/interop/firmware.json`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use qemu::FirmwareDescriptor;

/// The descriptions in the order of their names. A user's goes before the administrator's of the same name, and that
/// before the distribution's; an empty one hides the others.
pub(super) fn installed() -> Vec<FirmwareDescriptor> {
    read(&folders())
}

/// The folders, each before those that it overrides.
fn folders() -> Vec<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let own = config.filter(|_| !nix::unistd::geteuid().is_root());
    let system = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"].map(PathBuf::from);
    own.map(|config| config.join("qemu/firmware")).into_iter().chain(system).collect()
}

fn read(folders: &[PathBuf]) -> Vec<FirmwareDescriptor> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    files.values().filter_map(|path| descriptor(path)).collect()
}

/// A description. What it describes in words of a later time, or not as firmware in memory or flash, is nothing that
/// a guest could get, and no fault of the guest's definition.
fn descriptor(path: &Path) -> Option<FirmwareDescriptor> {
    FirmwareDescriptor::parse(&fs::read_to_string(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use qemu::FirmwareCode;

    fn write(folder: &Path, name: &str, code: &str) {
        fs::create_dir_all(folder).unwrap();
        let text = format!(
            r#"{{"interface-types": ["uefi"], "mapping": {{"device": "memory", "filename": "{code}"}},
                "targets": [], "features": []}}"#
        );
        fs::write(folder.join(name), if code.is_empty() { "" } else { &text }).unwrap();
    }

    #[test]
    fn the_first_folder_counts_and_an_empty_file_hides() {
        let root = tempfile::tempdir().unwrap();
        let [etc, usr] = ["etc", "usr"].map(|name| root.path().join(name));
        write(&usr, "10-a.json", "/usr/a");
        write(&usr, "20-b.json", "/usr/b");
        write(&usr, "30-c.json", "/usr/c");
        write(&usr, "readme", "/usr/readme");
        write(&etc, "20-b.json", "");
        write(&etc, "30-c.json", "/etc/c");
        let found = read(&[etc, root.path().join("none"), usr]);
        let paths: Vec<_> = found
            .iter()
            .map(|descriptor| match &descriptor.code {
                FirmwareCode::Memory { path } => path.as_str(),
                FirmwareCode::Split { code, .. }
                | FirmwareCode::Stateless { code }
                | FirmwareCode::Combined { code } => code.path.as_str(),
            })
            .collect();
        assert_eq!(paths, ["/usr/a", "/etc/c"]);
    }
}
