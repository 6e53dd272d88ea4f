//! Programs beside a guest: which ones a definition asks for, and the drop-ins of their units.
//!
//! ```text
//! qemu@web.service  Wants= After=  swtpm@web:tpm0.service  virtiofsd@web:fs0.service  passt@web:net0.service
//!                                  nbdkit@web:vda.service  qemu-pr-helper@web:pr-helper0.service
//!                                  vhost-device-vsock@web:vsock0.service
//! ```
//!
//! What a program is called with is not said here: its unit has glassbox-qemu plan the guest and become the program.
//! Devices are counted as the planner counts them: each kind by itself, in the order of the definition. Disks have
//! their targets.

use std::collections::BTreeSet;
use std::path::Path;

use domain::tree::Element;
use domain::{
    DomainName, DomainUuid, GLASSBOX_NAMESPACE, NbdkitParts, ReadinessChannel, UnitInstance,
};

use crate::directive::Directive;
use crate::facts::{attribute, children};
use crate::ordering;
use crate::output::Unit;
use crate::sandbox;
use crate::value::UnitValue;

mod storage;

pub(crate) use storage::is_served as is_served_image;

/// A program beside a guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Companion {
    /// The name of its unit's template.
    service: &'static str,
    /// What people call it.
    purpose: &'static str,
    /// The device that it serves, such as `fs0`.
    device: String,
    /// Files and folders that it reads.
    read: BTreeSet<String>,
    /// Files and folders that it writes.
    written: BTreeSet<String>,
    /// Whether it has a state of its own that outlives the guest.
    has_state: bool,
    /// Whether it reaches a server.
    network: bool,
    /// Credentials that it is given where the host has them.
    credentials: BTreeSet<String>,
}

/// The guest that a companion is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest<'a> {
    pub(crate) name: &'a DomainName,
    /// The definition.
    pub(crate) source: &'a Path,
    /// What states are kept by; none for a guest whose UUID is another at each start.
    pub(crate) uuid: Option<DomainUuid>,
    pub(crate) partition: Option<&'a str>,
}

/// The companions of a definition with this root.
pub(crate) fn of(root: &Element<'_>, nbdkit: NbdkitParts) -> Vec<Companion> {
    let devices = |name| children(root, "devices").flat_map(move |it| children(it, name));
    let tpm = devices("tpm").take(1).filter_map(tpm);
    let filesystems = devices("filesystem").enumerate();
    let filesystems = filesystems.filter_map(|(index, it)| filesystem(index, it));
    let interfaces = devices("interface").enumerate();
    let interfaces = interfaces.filter_map(|(index, it)| interface(index, it));
    let storage = storage::of(devices("disk"), nbdkit);
    tpm.chain(filesystems).chain(interfaces).chain(storage).chain(vsock(root)).collect()
}

/// The vsock, which a guest has by its element, or to say over it that it is ready. Whether the kernel serves it on this
/// host is for the unit to find out: when this program runs at boot, the device may not be there yet.
fn vsock(root: &Element<'_>) -> Option<Companion> {
    let mut devices = children(root, "devices").flat_map(|it| children(it, "vsock"));
    let metadata = children(root, "metadata").flat_map(Element::elements);
    let mut ready = metadata.filter(|it| {
        it.namespace.as_deref() == Some(GLASSBOX_NAMESPACE)
            && it.name == "ready"
            && attribute(it, "channel") == Some(ReadinessChannel::Vsock.as_str())
    });
    let vsock = Companion::new("vhost-device-vsock", "Vsock", "vsock0".to_owned());
    (devices.next().is_some() || ready.next().is_some()).then_some(vsock)
}

fn tpm(tpm: &Element<'_>) -> Option<Companion> {
    let emulated = |it: &&Element<'_>| attribute(it, "type") == Some("emulator");
    let backend = children(tpm, "backend").find(emulated)?;
    let path = children(backend, "source").find_map(|source| attribute(source, "path"));
    let mut companion = Companion::new("swtpm", "TPM", "tpm0".to_owned());
    companion.has_state = path.is_none();
    companion.written.extend(path.map(str::to_owned));
    Some(companion)
}

fn filesystem(index: usize, filesystem: &Element<'_>) -> Option<Companion> {
    if !is_served(filesystem) {
        return None;
    }
    let mut companion = Companion::new("virtiofsd", "Shared directory", format!("fs{index}"));
    let folder = children(filesystem, "source").find_map(|source| attribute(source, "dir"));
    let readonly = children(filesystem, "readonly").next().is_some();
    let folders = if readonly { &mut companion.read } else { &mut companion.written };
    folders.extend(folder.map(str::to_owned));
    let program = children(filesystem, "binary").find_map(|binary| attribute(binary, "path"));
    companion.read.extend(program.filter(|it| !sandbox::is_visible(it)).map(str::to_owned));
    Some(companion)
}

/// Whether a `<filesystem>` is one that virtiofsd is started for.
pub(crate) fn is_served(filesystem: &Element<'_>) -> bool {
    let virtiofs =
        children(filesystem, "driver").any(|it| attribute(it, "type") == Some("virtiofs"));
    let socket = children(filesystem, "source").any(|it| attribute(it, "socket").is_some());
    virtiofs && !socket
}

fn interface(index: usize, interface: &Element<'_>) -> Option<Companion> {
    let backend = children(interface, "backend").find(|it| is_passt(it))?;
    let mut companion = Companion::new("passt", "Network", format!("net{index}"));
    companion.written.extend(attribute(backend, "logFile").map(str::to_owned));
    Some(companion)
}

/// Whether an interface's `<backend>` is passt.
pub(crate) fn is_passt(backend: &Element<'_>) -> bool {
    attribute(backend, "type") == Some("passt")
}

impl Companion {
    fn new(service: &'static str, purpose: &'static str, device: String) -> Self {
        let (read, written, credentials) = Default::default();
        let (has_state, network) = (false, false);
        Self { service, purpose, device, read, written, has_state, network, credentials }
    }

    /// Its unit; none where the name is longer than systemd takes.
    pub(crate) fn unit(&self, guest: &UnitInstance) -> Option<Unit> {
        Unit::of_companion(self.service, guest, &self.device)
    }

    /// Settings of its unit's `[Unit]`.
    pub(crate) fn unit_settings(&self, guest: Guest<'_>) -> Vec<Directive> {
        let mut unit = Vec::new();
        let source = UnitValue::path(guest.source);
        unit.extend(source.map(|source| Directive::new("SourcePath", source)));
        let description =
            format!("{} of virtual machine {} ({})", self.purpose, guest.name, self.device);
        unit.push(Directive::new("Description", UnitValue::text(&description)));
        // Restarted with the guest. When the guest ends by itself, the template's StopWhenUnneeded= ends it.
        unit.push(Directive::new("PartOf", UnitValue::unit(&Unit::of_guest(guest.name))));
        let files = self.read.union(&self.written);
        let files = files.filter_map(|file| UnitValue::path_word(Path::new(file)));
        unit.extend(files.map(|file| Directive::new("RequiresMountsFor", file)));
        let files = self.read.union(&self.written).map(Path::new);
        unit.extend(ordering::after_file_systems(files));
        unit.extend(self.network.then(ordering::network_online).into_iter().flatten());
        unit
    }

    /// Settings of its unit's `[Service]`.
    pub(crate) fn service_settings(&self, guest: Guest<'_>) -> Vec<Directive> {
        let instance = UnitInstance::from(guest.name);
        let folder = UnitValue::companion_directory(&instance, &self.device);
        let mut service =
            vec![sandbox::account(&instance), Directive::new("RuntimeDirectory", folder)];
        if let Some(uuid) = guest.uuid.filter(|_| self.has_state) {
            service.push(Directive::new("StateDirectory", UnitValue::tpm_state(uuid)));
        }
        service.extend(self.read.iter().filter_map(|it| sandbox::bind("BindReadOnlyPaths", it)));
        service.extend(self.written.iter().filter_map(|it| sandbox::bind("BindPaths", it)));
        let credentials = self.credentials.iter().filter_map(|it| UnitValue::credential(it));
        service.extend(credentials.map(|it| Directive::new("LoadCredential", it)));
        let slice = guest.partition.and_then(UnitValue::slice);
        service.extend(slice.map(|slice| Directive::new("Slice", slice)));
        service
    }
}

/// Settings of `[Unit]` of the guest: companions are up before it is started, and down after it has stopped.
///
/// They are wanted and not required, so that the guest itself says which one is missing.
pub(crate) fn ordering(companions: &[Companion], guest: &UnitInstance) -> Vec<Directive> {
    let units = companions.iter().filter_map(|it| it.unit(guest)).map(|it| UnitValue::unit(&it));
    let ordered =
        |unit: UnitValue| [Directive::new("Wants", unit.clone()), Directive::new("After", unit)];
    units.flat_map(ordered).collect()
}

/// Settings of `[Service]` of the guest: its sandbox has the sockets of its companions.
pub(crate) fn sockets(companions: &[Companion], guest: &UnitInstance) -> Option<Directive> {
    let folder = UnitValue::companions_of(guest);
    (!companions.is_empty()).then(|| Directive::new("BindPaths", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::tree;

    fn units(devices: &str) -> Vec<String> {
        let text = format!("<domain><devices>{devices}</devices></domain>");
        let root = tree::parse(&text).unwrap();
        let web = UnitInstance::from(&DomainName::try_from("web").unwrap());
        of(&root, NbdkitParts::default())
            .iter()
            .filter_map(|it| it.unit(&web))
            .map(|it| it.to_string())
            .collect()
    }

    #[test]
    fn devices_are_counted_by_kind() {
        let served = "<filesystem><driver type='virtiofs'/><source dir='/a'/></filesystem>";
        let other = "<filesystem><source dir='/b'/></filesystem>";
        let passt = "<interface type='user'><backend type='passt'/></interface>";
        let user = "<interface type='user'/>";
        let tpm = "<tpm><backend type='emulator'/></tpm>";
        let vsock = "<vsock><cid auto='yes'/></vsock>";
        let expected = [
            "swtpm@web:tpm0",
            "virtiofsd@web:fs1",
            "virtiofsd@web:fs2",
            "passt@web:net1",
            "vhost-device-vsock@web:vsock0",
        ];
        assert_eq!(
            units(&[user, vsock, other, served, tpm, passt, served].concat()),
            expected.map(|unit| format!("{unit}.service"))
        );
    }

    #[test]
    fn a_guest_that_is_to_say_over_its_vsock_that_it_is_ready_has_one() {
        let served = |metadata: &str| {
            let text = format!("<domain><metadata>{metadata}</metadata></domain>");
            of(&tree::parse(&text).unwrap(), NbdkitParts::default()).len()
        };
        let ready = |namespace: &str, channel: &str| {
            served(&format!("<g:ready xmlns:g='{namespace}' channel='{channel}'/>"))
        };
        assert_eq!(ready(GLASSBOX_NAMESPACE, "vsock"), 1);
        assert_eq!(ready(GLASSBOX_NAMESPACE, "virtio-serial"), 0);
        assert_eq!(ready("urn:another", "vsock"), 0);
        assert_eq!(served("<ready channel='vsock'/>"), 0);
    }

    #[test]
    fn what_somebody_else_starts_has_no_unit() {
        for device in [
            "<tpm><backend type='passthrough'/></tpm>",
            "<tpm><backend type='external'><source path='/s'/></backend></tpm>",
            "<filesystem><driver type='virtiofs'/><source socket='/s'/></filesystem>",
            "<interface type='vhostuser'><source path='/s'/></interface>",
        ] {
            assert_eq!(units(device), [""; 0], "{device}");
        }
    }
}
