//! What a unit needs to know of a definition: text in, facts and faults out.
//!
//! It is far from all that the shim checks. At boot it must be quick, and a guest that is wrong in one of its
//! devices says so when it is started.

use std::collections::BTreeSet;

use domain::tree::{self, Element};
use domain::{
    DomainName, DomainUuid, Fault, Faults, Header, NbdkitParts, Resources, TemplateInstance,
    definition_text,
};

use crate::companions::{self, Companion};
use crate::output::Unit;
use crate::sandbox::Sandbox;

/// Where systemd mounts huge pages, dev-hugepages.mount.
const HUGE_PAGES: &str = "/dev/hugepages";

/// The facts of a definition; none of a broken one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `<title>`.
    pub(crate) title: Option<String>,
    /// The files that must be there before the guest starts, as they are written: perhaps empty or relative.
    pub(crate) files: BTreeSet<String>,
    /// Block devices of the host, as they are written.
    pub(crate) block_devices: BTreeSet<String>,
    /// Network interfaces of the host that the guest's stand on: bridges, and devices of macvtap.
    pub(crate) network_devices: BTreeSet<String>,
    /// Virtual networks, as they are written.
    pub(crate) networks: BTreeSet<String>,
    /// The units of those that are defined here.
    pub(crate) network_units: BTreeSet<Unit>,
    /// Whether a disk comes from a server.
    pub(crate) network: bool,
    /// How many devices of the host have the guest's memory mapped for themselves, by VFIO or vDPA.
    pub(crate) mapping_devices: u64,
    /// What is asked of control groups and limits.
    pub(crate) resources: Resources,
    /// What QEMU opens and speaks on by itself.
    pub(crate) sandbox: Sandbox,
    /// `<uuid>`.
    pub(crate) uuid: Option<DomainUuid>,
    /// The programs beside QEMU.
    pub(crate) companions: Vec<Companion>,
}

/// The facts of the definition of `name`, and what is wrong with it; `template` is how the guest is one of the
/// file's, if the file is no guest's own, and `nbdkit` what of that is installed. When something is wrong, its unit waits for no file, so that a start
/// fails for the true reason and at once.
pub(crate) fn read(
    bytes: &[u8],
    name: &DomainName,
    template: Option<TemplateInstance<'_>>,
    nbdkit: NbdkitParts,
) -> (Facts, Vec<Fault>) {
    let mut root = match definition_text(bytes).and_then(tree::parse) {
        Ok(root) => root,
        Err(fault) => return (Facts::default(), vec![fault]),
    };
    let faults = Faults::new();
    if let Some(template) = template {
        template.fill(&mut root, &faults);
    }
    let header = Header::read(&root, &faults);
    if let Some(fault) = header.misfiled(&root, name) {
        faults.push(fault);
    }
    let faults = faults.into_sorted();
    if !faults.is_empty() {
        return (Facts::default(), faults);
    }
    let mut facts = Facts { title: header.title, uuid: header.uuid, ..Facts::default() };
    facts.resources = Resources::read(&root);
    facts.sandbox = Sandbox::of(&root, nbdkit);
    facts.companions = companions::of(&root, nbdkit);
    if facts.resources.memory_backing.hugepages.is_some() {
        facts.files.insert(HUGE_PAGES.to_owned());
    }
    boot_files(&root, &mut facts.files);
    for devices in children(&root, "devices") {
        device_facts(devices, &mut facts);
    }
    (facts, faults)
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

/// What the devices of one `<devices>` stand on.
fn device_facts(devices: &Element<'_>, facts: &mut Facts) {
    for device in devices.elements().filter(|device| device.namespace.is_none()) {
        match device.name {
            "disk" if !may_be_missing(device) => disk(device, facts),
            "filesystem" => sources(device, &mut facts.files),
            "interface" => interface(device, facts),
            "hostdev" if attribute(device, "type") == Some("pci") => facts.mapping_devices += 1,
            _ => {}
        }
    }
}

/// The disk's image with what it is a layer of, on files, devices and servers.
fn disk(disk: &Element<'_>, facts: &mut Facts) {
    for Image { source, .. } in images(disk) {
        files_of(source, &mut facts.files);
        facts.block_devices.extend(attribute(source, "dev").map(str::to_owned));
        facts.network |= is_remote(source);
        // A disk that is an NVMe device of the host.
        facts.mapping_devices += u64::from(attribute(source, "type") == Some("pci"));
    }
}

/// One of the images that a disk lies on.
pub(crate) struct Image<'e> {
    /// What tells it from the others of its disk, as the planner has it: nothing for the disk's own, `.1` for what that
    /// is a layer of, and so on; `.data` follows for a file of data.
    pub(crate) suffix: String,
    /// Its `<source>`.
    pub(crate) source: &'e Element<'e>,
    /// The element that this stands in.
    pub(crate) owner: &'e Element<'e>,
}

/// The images of a disk from its own down.
pub(crate) fn images<'e>(disk: &'e Element<'e>) -> Vec<Image<'e>> {
    let mut images = Vec::new();
    let below = |element: &&'e Element<'e>| children(element, "backingStore").next();
    for (depth, owner) in std::iter::successors(Some(disk), below).enumerate() {
        let suffix = if depth == 0 { String::new() } else { format!(".{depth}") };
        for source in children(owner, "source") {
            images.push(Image { suffix: suffix.clone(), source, owner });
            for owner in children(source, "dataStore") {
                let suffix = format!("{suffix}.data");
                let data = children(owner, "source");
                images.extend(data.map(|source| Image { suffix: suffix.clone(), source, owner }));
            }
        }
    }
    images
}

/// Whether a source is a server that is reached over the network; one on a Unix socket is not.
pub(crate) fn is_remote(source: &Element<'_>) -> bool {
    let local = |host: &Element<'_>| attribute(host, "transport") == Some("unix");
    attribute(source, "protocol").is_some() && !children(source, "host").any(local)
}

/// What the guest's network interface stands on.
fn interface(interface: &Element<'_>, facts: &mut Facts) {
    let source = |name| children(interface, "source").find_map(|source| attribute(source, name));
    match attribute(interface, "type") {
        Some("bridge") => facts.network_devices.extend(source("bridge").map(str::to_owned)),
        Some("direct") => facts.network_devices.extend(source("dev").map(str::to_owned)),
        Some("network") => facts.networks.extend(source("network").map(str::to_owned)),
        Some("hostdev" | "vdpa") => facts.mapping_devices += 1,
        _ => {}
    }
}

/// Whether the guest starts without the medium: `startupPolicy='optional'`.
fn may_be_missing(disk: &Element<'_>) -> bool {
    children(disk, "source").any(|source| attribute(source, "startupPolicy") == Some("optional"))
}

/// `<source file=''>` and `<source dir=''>`; block devices come from udev, not from a mount.
fn sources(element: &Element<'_>, files: &mut BTreeSet<String>) {
    children(element, "source").for_each(|source| files_of(source, files));
}

fn files_of(source: &Element<'_>, files: &mut BTreeSet<String>) {
    let paths = ["file", "dir"].into_iter().filter_map(|name| attribute(source, name));
    files.extend(paths.map(str::to_owned));
}

pub(crate) fn children<'e, 'x>(
    element: &'e Element<'x>,
    name: &'static str,
) -> impl Iterator<Item = &'e Element<'x>> {
    element.elements().filter(move |child| child.name == name && child.namespace.is_none())
}

pub(crate) fn attribute<'e>(element: &'e Element<'_>, name: &str) -> Option<&'e str> {
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
        let (facts, faults) = read(
            text.as_bytes(),
            &DomainName::try_from("web").unwrap(),
            None,
            NbdkitParts::default(),
        );
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
    fn what_devices_stand_on_is_found() {
        let (facts, faults) = facts(
            "<domain type='kvm'><name>web</name><memoryBacking><hugepages/></memoryBacking><devices>
              <disk type='block'><source dev='/dev/vg/a'/>
                <backingStore type='block'><source dev='/dev/vg/b'/></backingStore></disk>
              <disk type='block'><source dev='/dev/sr0' startupPolicy='optional'/></disk>
              <disk type='network'><source protocol='nbd'><host transport='unix' socket='/s'/></source></disk>
              <interface type='bridge'><source bridge='br0'/></interface>
              <interface type='direct'><source dev='eth0' mode='bridge'/></interface>
              <interface type='network'><source network='lan'/></interface>
              <interface type='user'/><interface type='hostdev'/>
              <hostdev type='pci'/><hostdev type='usb'/>
            </devices></domain>",
        );
        assert!(faults.is_empty());
        assert!(facts.files.iter().eq(["/dev/hugepages"]));
        assert!(facts.block_devices.iter().eq(["/dev/vg/a", "/dev/vg/b"]));
        assert!(facts.network_devices.iter().eq(["br0", "eth0"]));
        assert!(facts.networks.iter().eq(["lan"]));
        assert!(!facts.network, "a server on a Unix socket is on this host");
        assert_eq!(facts.mapping_devices, 2);
    }

    #[test]
    fn a_server_needs_the_network() {
        let source = "<source protocol='rbd' name='p/i'><host name='ceph'/></source>";
        let text = format!(
            "<domain type='kvm'><name>web</name><devices><disk type='network'>{source}</disk></devices></domain>"
        );
        assert!(facts(&text).0.network);
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
