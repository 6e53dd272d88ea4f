//! What a unit needs to know of a definition: text in, facts and faults out.
//!
//! It is far from all that the shim checks. At boot it must be quick, and a guest that is wrong in one of its
//! devices says so when it is started.

use std::collections::BTreeSet;

use domain::tree::{self, Element};
use domain::{DomainName, Fault, Faults, Header, definition_text};

/// The facts of a definition; none of a broken one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `<title>`.
    pub(crate) title: Option<String>,
    /// The files that must be there before the guest starts, as they are written: perhaps empty or relative.
    pub(crate) files: BTreeSet<String>,
}

/// The facts of the definition of `name`, and what is wrong with it. When something is, its unit waits for no
/// file, so that a start fails for the true reason and at once.
pub(crate) fn read(bytes: &[u8], name: &DomainName) -> (Facts, Vec<Fault>) {
    let root = match definition_text(bytes).and_then(tree::parse) {
        Ok(root) => root,
        Err(fault) => return (Facts::default(), vec![fault]),
    };
    let faults = Faults::new();
    let header = Header::read(&root, &faults);
    if let Some(fault) = header.misfiled(&root, name) {
        faults.push(fault);
    }
    let faults = faults.into_sorted();
    if !faults.is_empty() {
        return (Facts::default(), faults);
    }
    let mut files = BTreeSet::new();
    boot_files(&root, &mut files);
    device_files(&root, &mut files);
    (Facts { title: header.title, files }, faults)
}

/// Kernel, initial RAM disk, device tree, firmware and its variables, below `<os>`.
fn boot_files(root: &Element<'_>, files: &mut BTreeSet<String>) {
    for os in children(root, "os") {
        for element in os.elements() {
            if matches!(element.name, "kernel" | "initrd" | "dtb" | "loader" | "nvram") {
                files.insert(element.text().into_owned());
                sources(element, files);
            }
        }
    }
}

/// The images of disks with what they are layers of, and the directories that are shared with the guest.
fn device_files(root: &Element<'_>, files: &mut BTreeSet<String>) {
    for devices in children(root, "devices") {
        for disk in children(devices, "disk").filter(|disk| !may_be_missing(disk)) {
            let mut layer = Some(disk);
            while let Some(element) = layer {
                sources(element, files);
                layer = children(element, "backingStore").next();
            }
        }
        for filesystem in children(devices, "filesystem") {
            sources(filesystem, files);
        }
    }
}

/// Whether the guest starts without the medium: `startupPolicy='optional'`.
fn may_be_missing(disk: &Element<'_>) -> bool {
    children(disk, "source").any(|source| attribute(source, "startupPolicy") == Some("optional"))
}

/// `<source file=''>` and `<source dir=''>`; block devices come from udev, not from a mount.
fn sources(element: &Element<'_>, files: &mut BTreeSet<String>) {
    for source in children(element, "source") {
        for name in ["file", "dir"] {
            if let Some(path) = attribute(source, name) {
                files.insert(path.to_owned());
            }
        }
    }
}

fn children<'e, 'x>(
    element: &'e Element<'x>,
    name: &'static str,
) -> impl Iterator<Item = &'e Element<'x>> {
    element.elements().filter(move |child| child.name == name && child.namespace.is_none())
}

fn attribute<'e>(element: &'e Element<'_>, name: &str) -> Option<&'e str> {
    element
        .attributes
        .iter()
        .find(|attribute| attribute.name == name)
        .map(|attribute| attribute.value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> (Facts, Vec<String>) {
        let (facts, faults) = read(text.as_bytes(), &DomainName::try_from("web").unwrap());
        (facts, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn files_are_those_a_start_needs() {
        let (facts, faults) = facts(
            "<domain type='kvm'><name>web</name><title>Shop</title>
            <os><kernel>/k</kernel><initrd>/i</initrd><loader type='pflash'>/l</loader>
              <nvram type='file'><source file='/n'/></nvram><cmdline>/c</cmdline></os>
            <devices>
              <disk type='file'><source file='/d/1'/>
                <backingStore type='file'><source file='/d/0'/><backingStore/></backingStore></disk>
              <disk type='dir'><source dir='/dir'/></disk>
              <disk type='block'><source dev='/dev/vg/lv'/></disk>
              <disk type='file' device='cdrom'><source file='/iso' startupPolicy='optional'/></disk>
              <disk type='file' device='cdrom'/>
              <disk type='file'><source file='/d/1'/></disk>
              <filesystem><source dir='/srv'/></filesystem>
            </devices></domain>",
        );
        assert!(faults.is_empty());
        assert_eq!(facts.title.as_deref(), Some("Shop"));
        let files: Vec<&str> = facts.files.iter().map(String::as_str).collect();
        assert_eq!(files, ["", "/d/0", "/d/1", "/dir", "/i", "/k", "/l", "/n", "/srv"]);
    }

    #[test]
    fn a_broken_definition_has_no_facts() {
        let (facts, faults) = facts(
            "<domain type='kvm'><name>db</name><title>T</title><os><kernel>/k</kernel></os></domain>",
        );
        assert_eq!(facts, Facts::default());
        assert_eq!(faults.len(), 1);
    }
}
