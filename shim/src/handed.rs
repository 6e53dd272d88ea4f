//! What the privileged step of a unit's start handed over, taken by the shim in the unit's sandbox.
//!
//! ```text
//! ExecStartPre=+glassbox-qemu --hand-over    hand_over: opens what the sandbox has no way to
//!    | systemd's file descriptor store (sd_pid_notify_with_fds(3))
//! ExecStart=glassbox-qemu                    handed: takes it by name
//! ```
//!
//! Names that begin with [`PREFIX`] are known here only. All others are what any caller may open for a device, see
//! [`qemu::Inherited`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use nix::sys::prctl::set_dumpable;
use qemu::{FdKind, LaunchPlan};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::host;
use crate::inheritance::Inheritance;
use crate::runtime_dir::is_units_own;
use crate::service_manager::ServiceManager;

/// What the names of things begin with that are no device's.
pub(crate) const PREFIX: &str = "glassbox.";
/// The host's `/run`.
pub(crate) const RUN: &str = "glassbox.run";
/// The host's `/proc`.
pub(crate) const PROC: &str = "glassbox.proc";
/// The definition that was read: its path, a zero byte, its text.
pub(crate) const DEFINITION: &str = "glassbox.definition";
/// What there is to be told beside, as JSON: [`Notes`].
pub(crate) const NOTES: &str = "glassbox.notes";

/// Where the guest is heard that says over its vsock that it is ready.
pub(crate) const READY: &str = "glassbox.ready";

/// The name in [`Notes::faults`] of a definition that cannot be read.
pub(crate) const NO_DEFINITION: &str = "definition";

/// Longest part of a path in a name; systemd takes names of 255 bytes (`FDNAME=` of sd_notify(3)).
const LONGEST_PATH: usize = 160;

/// What the privileged step found out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// What could not be opened and why, by name.
    pub(crate) faults: BTreeMap<String, String>,
    /// The guest's network devices on the host, by the kernel's numbers.
    #[serde(default)]
    pub(crate) interfaces: BTreeSet<i32>,
    /// `TimeoutStopSec=` of the unit, in microseconds.
    pub(crate) stop_timeout: Option<u64>,
}

/// What was handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    definition: Option<Definition>,
    notes: Notes,
    fds: BTreeMap<String, OwnedFd>,
}

impl Handed {
    /// Takes over what has a name of ours among what systemd passed. Nothing, when the unit has no privileged step.
    pub(crate) fn take(inheritance: &mut Inheritance) -> anyhow::Result<Option<Self>> {
        let names: Vec<String> = inheritance.names().map(str::to_owned).collect();
        let mut named = inheritance.extract(PREFIX);
        let (Some(run), Some(proc)) = (named.remove(RUN), named.remove(PROC)) else {
            return Ok(None);
        };
        host::adopt(host::Folders { run, proc });
        // QEMU has the same account. It could otherwise trace this process and take what QEMU is not to have.
        set_dumpable(false).context("this process cannot be kept from being traced")?;
        let definition = named.remove(DEFINITION).map(definition).transpose()?;
        let notes = match named.remove(NOTES) {
            Some(fd) => serde_json::from_reader(File::from(fd)).context(NOTES)?,
            None => Notes::default(),
        };
        // The store is the service manager's, and would keep images locked and networks up after QEMU has ended.
        names.iter().try_for_each(|name| forget(name))?;
        Ok(Some(Self { definition, notes, fds: named }))
    }

    /// The definition that was read.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn definition(&self) -> Result<Definition, &str> {
        let told = || self.fault(NO_DEFINITION).unwrap_or("no definition was handed over");
        self.definition.clone().ok_or_else(told)
    }

    /// Why something could not be opened.
    pub(crate) fn fault(&self, name: &str) -> Option<&str> {
        self.notes.faults.get(name).map(String::as_str)
    }

    /// The service manager, with what it said to root.
    pub(crate) fn service_manager(&self) -> ServiceManager {
        ServiceManager::Own { stop_timeout: self.notes.stop_timeout }
    }

    /// Whether this was opened.
    pub(crate) fn has(&self, label: &str) -> bool {
        self.fds.contains_key(label)
    }

    /// What was opened, once.
    pub(crate) fn release(&mut self, label: &str) -> Option<OwnedFd> {
        self.fds.remove(label)
    }

    /// The number that the guest's vsock has in the kernel, or should have; none of a guest that has none there.
    pub(crate) fn vsock_cid(&self) -> Option<u32> {
        let labels = self.fds.keys().chain(self.notes.faults.keys());
        let mut vsocks = labels.filter_map(|label| label.strip_prefix("glassbox.vsock."));
        vsocks.find_map(|cid| cid.split('.').next()?.parse().ok())
    }

    /// The guest's network devices on the host, by the kernel's numbers, which are not seen from within the sandbox.
    pub(crate) fn interfaces(&self) -> &BTreeSet<i32> {
        &self.notes.interfaces
    }

    /// Whether the kernel's help for network devices was opened.
    pub(crate) fn has_vhost_net(&self) -> bool {
        self.has("glassbox.device./dev/vhost-net.0")
    }
}

/// Has the service manager drop what it stores under this name.
pub(crate) fn forget(name: &str) -> anyhow::Result<()> {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    sd_notify::notify(&states).with_context(|| format!("'{name}' stays in the service manager"))
}

fn definition(fd: OwnedFd) -> anyhow::Result<Definition> {
    let mut all = Vec::new();
    File::from(fd).read_to_end(&mut all).context(DEFINITION)?;
    let end = all.iter().position(|byte| *byte == 0).context("the definition has no path")?;
    let bytes = all.split_off(end + 1);
    all.pop();
    let file = String::from_utf8(all).context("the definition's path")?;
    Ok(Definition { file, expected_name: None, template: false, bytes })
}

/// The names of the plan's file descriptors in its order; none for those that the shim makes in the sandbox.
///
/// The privileged step and the shim plan the same definition on the same host, so that their names are equal.
pub(crate) fn labels(plan: &LaunchPlan, guest: &Path) -> Vec<Option<String>> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut numbered = |label: String| {
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        format!("{PREFIX}{label}.{}", *count - 1)
    };
    plan.fds.iter().map(|passed| label(&passed.kind, guest).map(&mut numbered)).collect()
}

fn label(kind: &FdKind, guest: &Path) -> Option<String> {
    match kind {
        FdKind::Tap { interface, .. } | FdKind::MacVtap { interface, .. } => {
            Some(format!("tap.{}", word(interface.info.alias())))
        }
        FdKind::Vsock { cid, .. } => Some(format!("vsock.{cid}")),
        FdKind::Device { paths, .. } => {
            Some(format!("device.{}", word(paths.first().map_or("", String::as_str))))
        }
        FdKind::Output { path, .. } | FdKind::Connection { path }
            if is_units_own(Path::new(path)) =>
        {
            None
        }
        FdKind::Output { path, .. } => Some(format!("output.{}", word(path))),
        FdKind::Connection { path } => Some(format!("connection.{}", word(path))),
        FdKind::Listener { path } => {
            let own = Path::new(path).starts_with(guest) || is_units_own(Path::new(path));
            (!own).then(|| format!("listener.{}", word(path)))
        }
        // Systemd shows the unit's credentials in the sandbox, too.
        FdKind::ShimMonitor
        | FdKind::DaemonMonitor
        | FdKind::Credential { .. }
        | FdKind::Inherited { .. } => None,
    }
}

/// A text as part of a name: systemd takes printable ASCII without colons.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.len() <= LONGEST_PATH && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qemu::{Access, PassedFd};

    fn plan(kinds: Vec<FdKind>) -> LaunchPlan {
        let domain = crate::tap::tests::domain("");
        let faults = domain::Faults::new();
        let facts = qemu::HostFacts::local("a");
        let mut plan =
            qemu::plan(&domain, &facts, &qemu::Launch::default(), &faults).expect("a plain guest");
        plan.fds = kinds.into_iter().map(|kind| PassedFd { number: 3, kind }).collect();
        plan
    }

    #[test]
    fn what_the_sandbox_lacks_has_a_name_of_its_own() {
        let device =
            || FdKind::Device { paths: vec!["/dev/vhost-net".into()], access: Access::Read };
        let listener = |path: &str| FdKind::Listener { path: path.to_owned() };
        let output = |path: &str| FdKind::Output { path: path.to_owned(), truncate: false };
        let plan = plan(vec![
            FdKind::ShimMonitor,
            device(),
            device(),
            listener("/run/glassbox/guest/a/qmp"),
            listener("/run/other"),
            output("/var/log/a:b"),
            output(&"/x".repeat(200)),
        ]);
        let labels = labels(&plan, Path::new("/run/glassbox/guest/a"));
        let known = ["glassbox.device./dev/vhost-net.0", "glassbox.device./dev/vhost-net.1"];
        assert_eq!(labels[0], None);
        assert_eq!(labels[1..3], known.map(|label| Some(label.to_owned())));
        assert_eq!(labels[3], None, "it is made where the guest's sockets are");
        assert_eq!(labels[4].as_deref(), Some("glassbox.listener./run/other.0"));
        for label in labels[5..].iter().flatten() {
            assert!(label.len() < 255 && !label.contains(':'), "{label}");
        }
        assert_ne!(labels[5], labels[6]);
    }

    #[test]
    fn a_definition_comes_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"/etc/a.xml\0<domain>\0</domain>").unwrap();
        let read = definition(File::open(file.path()).unwrap().into()).unwrap();
        assert_eq!(read.file, "/etc/a.xml");
        assert_eq!(read.bytes, b"<domain>\0</domain>");
    }
}
