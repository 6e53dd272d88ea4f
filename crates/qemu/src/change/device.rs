//! The commands by which one device comes to a running guest and goes from it, over QMP.
//!
//! They are the options that the device has on the command line: `-object` is `object-add`, `-blockdev` is
//! `blockdev-add`, `-netdev` is `netdev_add` and `-device` is `device_add`, all with the same JSON.

use domain::devices::{DeviceKind, DeviceRef, Devices, Disk};
use domain::{Domain, Fault, Faults};
use serde_json::{Value, json};

use super::pluggable::Pluggable;
use crate::command::{Command, FdSet, Fragment, sent_name};
use crate::devices;
use crate::facts::HostFacts;
use crate::inherited::Inherited;
use crate::launch::Launch;
use crate::plan::{FdKind, HostFile, PassedFd};

/// A command of QMP's.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorCommand {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, a JSON object.
    pub arguments: Value,
    /// What undoes it.
    pub undo: Option<(&'static str, Value)>,
}

/// How QEMU takes a descriptor that it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// `getfd`: under a name.
    Name(String),
    /// `add-fd`: as one of a set.
    Set {
        /// The number of the set.
        number: u32,
        /// What the set is for; a set is found again by this.
        purpose: String,
    },
}

/// A descriptor that is sent to QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFd {
    /// What it is.
    pub kind: FdKind,
    /// How QEMU takes it.
    pub receipt: Receipt,
}

/// How a device comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// Files of the host that it takes.
    pub files: Vec<HostFile>,
    /// Descriptors that are sent before the commands.
    pub fds: Vec<SentFd>,
    /// The commands, in order.
    pub commands: Vec<MonitorCommand>,
}

/// How a device goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Detachment {
    /// Its id: QEMU is told by `device_del`, and says by `DEVICE_DELETED` that the guest has let it go.
    pub device: String,
    /// What is to be done then, in order.
    pub afterwards: Vec<(&'static str, Value)>,
    /// The sets of descriptors that are to be removed then, by what they are for.
    pub sets: Vec<String>,
}

/// How a medium goes out of a drive.
#[derive(Debug, Clone, PartialEq)]
pub struct UnpluggedMedium {
    /// The drive's id.
    pub device: String,
    /// The node of the new medium; none when the drive is to be empty.
    pub node: Option<String>,
    /// How the old one is closed, in order.
    pub afterwards: Vec<(&'static str, Value)>,
    /// The sets of descriptors of the old one, by what they are for.
    pub sets: Vec<String>,
}

/// How a device of a domain comes to the running guest.
///
/// `inherited` is what was opened for it, and `first_set` a number above those of all sets of descriptors that QEMU has.
///
/// # Errors
/// What the device's own rules refuse.
pub fn attachment(
    domain: &Domain,
    device: DeviceRef,
    facts: &HostFacts,
    inherited: Inherited,
    first_set: u32,
) -> Result<Attachment, Vec<Fault>> {
    let fragment = fragment(domain, device, facts, inherited, first_set)?;
    Ok(Attachment {
        commands: commands(&fragment).unwrap_or_default(),
        fds: sent(&fragment),
        files: fragment.files,
    })
}

/// How a device of a domain goes from the running guest.
///
/// # Errors
/// What the device's own rules refuse.
pub fn detachment(
    domain: &Domain,
    device: DeviceRef,
    facts: &HostFacts,
) -> Result<Detachment, Vec<Fault>> {
    let fragment = fragment(domain, device, facts, Inherited::default(), 0)?;
    let commands = commands(&fragment).unwrap_or_default();
    Ok(Detachment {
        device: domain.devices.info(device).alias().to_owned(),
        afterwards: undoing(&commands),
        sets: purposes(&fragment),
    })
}

/// How the medium of a drive is changed: what comes, and what goes of the live one afterwards.
///
/// # Errors
/// What the disk's own rules refuse.
pub fn medium(
    (live, old): (&Domain, DeviceRef),
    (wanted, new): (&Domain, DeviceRef),
    facts: &HostFacts,
    inherited: Inherited,
    first_set: u32,
) -> Result<(Attachment, UnpluggedMedium), Vec<Fault>> {
    let is_device = |command: &MonitorCommand| command.name == "device_add";
    let mut comes = attachment(wanted, new, facts, inherited, first_set)?;
    let device = comes.commands.iter().find(|command| is_device(command));
    let node = device.and_then(|it| it.arguments.get("drive")?.as_str().map(str::to_owned));
    comes.commands.retain(|command| !is_device(command));
    let goes = detachment(live, old, facts)?;
    let out =
        UnpluggedMedium { device: goes.device, node, afterwards: goes.afterwards, sets: goes.sets };
    Ok((comes, out))
}

/// Whether a device takes more than a running QEMU can be given.
pub(super) fn needs_start(domain: &Domain, device: DeviceRef, facts: &HostFacts) -> bool {
    // What the device's own rules refuse is told when it is to come.
    fragment(domain, device, facts, Inherited::default(), 0)
        .is_ok_and(|fragment| fragment.needs_start || commands(&fragment).is_none())
}

fn fragment(
    domain: &Domain,
    device: DeviceRef,
    facts: &HostFacts,
    inherited: Inherited,
    first_set: u32,
) -> Result<Fragment, Vec<Fault>> {
    let faults = Faults::new();
    let launch = Launch { inherited, ..Launch::default() };
    let mut command = Command::to_running(domain, facts, &launch, &faults, first_set);
    arguments(&mut command, device);
    let fragment = command.into_fragment();
    if faults.any_refused() { Err(faults.into_sorted()) } else { Ok(fragment) }
}

/// Adds what the device has on the command line. Others than these do not come while a guest runs.
fn arguments(command: &mut Command<'_>, device: DeviceRef) {
    let (all, index) = (&command.domain.devices, device.index);
    match Pluggable::of(device.kind) {
        Some(Pluggable::Disk) => devices::disk::arguments(command, &all.disks[index]),
        Some(Pluggable::Interface) => {
            devices::interface::arguments(command, &all.interfaces[index]);
        }
        Some(Pluggable::Memory) => {
            devices::memory_device::arguments(command, &all.memories[index]);
        }
        Some(Pluggable::Rng) => devices::rng::arguments(command, &all.rngs[index]),
        Some(Pluggable::Input) => devices::input::arguments(command, &all.inputs[index]),
        Some(Pluggable::Controller) => {
            devices::controller::arguments(command, &all.controllers[index]);
        }
        None => {}
    }
}

/// The options as commands; nothing when there is an option that is none.
fn commands(fragment: &Fragment) -> Option<Vec<MonitorCommand>> {
    let mut commands = Vec::new();
    for pair in fragment.arguments.chunks(2) {
        let [option, value] = pair else { return None };
        commands.push(command(option, serde_json::from_str(value).ok()?)?);
    }
    let unplug = |link: &crate::plan::UnpluggedLink| MonitorCommand {
        name: "set_link",
        arguments: json!({ "name": link.device, "up": false }),
        undo: None,
    };
    commands.extend(fragment.unplugged.iter().map(unplug));
    Some(commands)
}

fn command(option: &str, arguments: Value) -> Option<MonitorCommand> {
    let (name, undo, key) = match option {
        "-object" => ("object-add", "object-del", "id"),
        "-blockdev" => ("blockdev-add", "blockdev-del", "node-name"),
        "-netdev" => ("netdev_add", "netdev_del", "id"),
        // It is the last one, and is not there when it fails.
        "-device" => return Some(MonitorCommand { name: "device_add", arguments, undo: None }),
        _ => return None,
    };
    let undo = (undo, json!({ key: arguments.get(key)? }));
    Some(MonitorCommand { name, arguments, undo: Some(undo) })
}

/// What undoes these commands, the last one first.
fn undoing(commands: &[MonitorCommand]) -> Vec<(&'static str, Value)> {
    commands.iter().rev().filter_map(|command| command.undo.clone()).collect()
}

/// The descriptors, each as QEMU takes it.
fn sent(fragment: &Fragment) -> Vec<SentFd> {
    let sent = |passed: &PassedFd| {
        let in_set = |set: &&FdSet| set.fds.contains(&passed.number);
        let receipt = match fragment.sets.iter().find(in_set) {
            Some(set) => Receipt::Set { number: set.number, purpose: set.purpose.clone() },
            None => Receipt::Name(sent_name(passed.number)),
        };
        SentFd { kind: passed.kind.clone(), receipt }
    };
    fragment.fds.iter().map(sent).collect()
}

/// What sets of descriptors are for that QEMU may have of this device.
fn purposes(fragment: &Fragment) -> Vec<String> {
    let files = fragment.files.iter().filter_map(|file| file.descriptor.clone());
    files.chain(fragment.sets.iter().map(|set| set.purpose.clone())).collect()
}

/// Whether a disk's medium can be taken out.
pub(super) fn is_removable(disk: &Disk) -> bool {
    devices::disk::is_removable(disk)
}

/// Puts a device of one domain among those of another.
pub(super) fn insert(into: &mut Devices, from: &Devices, device: DeviceRef) {
    let index = device.index;
    match Pluggable::of(device.kind) {
        Some(Pluggable::Disk) => into.disks.push(from.disks[index].clone()),
        Some(Pluggable::Interface) => into.interfaces.push(from.interfaces[index].clone()),
        Some(Pluggable::Memory) => into.memories.push(from.memories[index].clone()),
        Some(Pluggable::Rng) => into.rngs.push(from.rngs[index].clone()),
        Some(Pluggable::Input) => into.inputs.push(from.inputs[index].clone()),
        Some(Pluggable::Controller) => into.controllers.push(from.controllers[index].clone()),
        None => {}
    }
}

/// Removes a device by its id.
pub(super) fn remove(from: &mut Devices, kind: DeviceKind, alias: &str) {
    match Pluggable::of(kind) {
        Some(Pluggable::Disk) => from.disks.retain(|it| it.info.alias() != alias),
        Some(Pluggable::Interface) => from.interfaces.retain(|it| it.info.alias() != alias),
        Some(Pluggable::Memory) => from.memories.retain(|it| it.info.alias() != alias),
        Some(Pluggable::Rng) => from.rngs.retain(|it| it.info.alias() != alias),
        Some(Pluggable::Input) => from.inputs.retain(|it| it.info.alias() != alias),
        Some(Pluggable::Controller) => from.controllers.retain(|it| it.info.alias() != alias),
        None => {}
    }
}
