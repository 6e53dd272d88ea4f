//! The steps of a reload, carried out: files opened and sent, QEMU told. What fails is undone.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use domain::devices::{DeviceKind, DeviceRef, InterfaceSource};
use domain::{Domain, Fault, Place, UnitInstance};
use qemu::{
    Attachment, Changes, FdKind, HostFacts, HostFile, Inherited, Receipt, SentFd, Step, StepKind,
    UnpluggedMedium, is_volume_set,
};
use serde_json::{Value, json};

use super::intent::{Doing, Intent, Set, made_links};
use super::leavings::{clear, remove_macvtap, set_number, sets_for};
use super::monitor::{LetGo, Monitor, Refusal};
use crate::hand_over::note_links;
use crate::inheritance::identify;
use crate::live::LiveFile;
use crate::runtime_dir::is_units_own;
use crate::tap::Taps;
use crate::{fds, host_files, log};

/// Carries out steps.
pub(super) struct Carrier<'a> {
    pub(super) monitor: Monitor,
    pub(super) changes: &'a Changes,
    pub(super) facts: &'a HostFacts,
    pub(super) in_sandbox: bool,
    pub(super) instance: &'a UnitInstance,
    pub(super) file: &'a LiveFile,
}

/// A guest before a step and after it.
pub(super) struct Between<'a> {
    /// The guest as it is.
    pub(super) live: &'a Domain,
    /// The guest as it will be.
    pub(super) after: &'a Domain,
}

/// A command that undoes another.
type Undo = (&'static str, Value);

/// What was opened for a device, by the names of the plan.
type Files = BTreeMap<String, OwnedFd>;

/// Files that each sandbox has.
const EVERYWHERE: [&str; 4] = ["/dev/random", "/dev/urandom", "/dev/null", "/dev/zero"];

impl<'a> Carrier<'a> {
    /// Carries out one step.
    pub(super) fn carry_out(&mut self, step: &Step, guest: &Between<'_>) -> Result<(), Fault> {
        let place = &step.place;
        let wanted = &self.changes.wanted;
        let (command, arguments) = match &step.kind {
            StepKind::Attach(device) => return self.attach(*device, guest, place),
            StepKind::Detach { kind, alias } => {
                return self.detach(*kind, alias, guest.live, place);
            }
            StepKind::Medium(device) => return self.change_medium(*device, guest, place),
            StepKind::Vcpus(count) => return self.set_vcpus(*count, place),
            StepKind::Link(device) => {
                let interface = &wanted.devices.interfaces[device.index];
                let up = interface.link_up.unwrap_or(true);
                ("set_link", json!({ "name": interface.info.alias(), "up": up }))
            }
            StepKind::Requested(device) => {
                let memory = &wanted.devices.memories[device.index];
                let path = format!("/machine/peripheral/{}", memory.info.alias());
                let bytes = memory.target.requested.unwrap_or_default().bytes();
                ("qom-set", json!({ "path": path, "property": "requested-size", "value": bytes }))
            }
            StepKind::Balloon(bytes) => ("balloon", json!({ "value": bytes })),
        };
        self.begin(Doing::tell(command, &arguments), guest, place)?;
        self.tell(command, arguments, place)
    }

    /// Notes what is about to be done, for the next reload if this one does not come to its end.
    fn begin(&self, doing: Doing, guest: &Between<'_>, place: &Place) -> Result<(), Fault> {
        let intent = Intent { after: guest.after.write(), doing };
        intent.keep(self.file).map_err(|error| place.refused(format!("{error:#}")))
    }

    fn tell(&mut self, command: &str, arguments: Value, place: &Place) -> Result<(), Fault> {
        let told = self.monitor.ask(command, arguments).map(drop);
        told.map_err(|refusal| refused(place, &refusal))
    }

    fn attach(
        &mut self,
        device: DeviceRef,
        guest: &Between<'_>,
        place: &Place,
    ) -> Result<(), Fault> {
        let (wanted, facts) = (&self.changes.wanted, self.facts);
        let plan = |inherited, first| {
            qemu::attachment(wanted, device, facts, inherited, first).map_err(first_of(place))
        };
        let mut files = self.open(&plan(Inherited::default(), 0)?)?;
        let first = self.first_set(place)?;
        let attachment = plan(found(&files), first)?;
        self.check_paths(&attachment)?;
        let alias = wanted.devices.info(device).alias();
        self.begin(Doing::bring(alias, &attachment), guest, place)?;
        self.bring(&attachment, &mut files, place).map(drop)
    }

    fn change_medium(
        &mut self,
        device: DeviceRef,
        guest: &Between<'_>,
        place: &Place,
    ) -> Result<(), Fault> {
        let live = guest.live;
        let (wanted, facts) = (&self.changes.wanted, self.facts);
        let alias = wanted.devices.info(device).alias();
        let old = by_alias(live, DeviceKind::Disk, alias, place)?;
        let plan = |inherited, first| {
            qemu::medium((live, old), (wanted, device), facts, inherited, first)
                .map_err(first_of(place))
        };
        let mut files = self.open(&plan(Inherited::default(), 0)?.0)?;
        let first = self.first_set(place)?;
        let (comes, goes) = plan(found(&files), first)?;
        self.check_paths(&comes)?;
        // The new medium's sets have the old one's names, so these are looked for first.
        let old_sets = self.sets(&goes.sets, place)?;
        self.begin(Doing::exchange(&comes, &goes, old_sets.clone()), guest, place)?;
        let undo = self.bring(&comes, &mut files, place)?;
        if let Err(refusal) = self.exchange(&goes) {
            self.undo(undo);
            return Err(refused(place, &refusal));
        }
        clear(&mut self.monitor, goes.afterwards, &old_sets);
        Ok(())
    }

    fn exchange(&mut self, goes: &UnpluggedMedium) -> Result<(), Refusal> {
        let id = || json!({ "id": goes.device });
        self.monitor.ask("blockdev-open-tray", id())?;
        self.monitor.ask("blockdev-remove-medium", id())?;
        if let Some(node) = &goes.node {
            let medium = json!({ "id": goes.device, "node-name": node });
            self.monitor.ask("blockdev-insert-medium", medium)?;
        }
        self.monitor.ask("blockdev-close-tray", id()).map(drop)
    }

    fn detach(
        &mut self,
        kind: DeviceKind,
        alias: &str,
        live: &Domain,
        place: &Place,
    ) -> Result<(), Fault> {
        let device = by_alias(live, kind, alias, place)?;
        let goes = qemu::detachment(live, device, self.facts).map_err(first_of(place))?;
        self.unplug(&goes.device, place)?;
        let sets = self.sets(&goes.sets, place)?;
        clear(&mut self.monitor, goes.afterwards, &sets);
        if kind == DeviceKind::Interface
            && let interface = &live.devices.interfaces[device.index]
            && let InterfaceSource::Direct { .. } = interface.source
        {
            remove_macvtap(interface);
        }
        Ok(())
    }

    /// Has the guest let a device go.
    fn unplug(&mut self, device: &str, place: &Place) -> Result<(), Fault> {
        let what = match self.monitor.unplug(device).map_err(|it| refused(place, &it))? {
            LetGo::Gone => return Ok(()),
            LetGo::Refused => "the guest refuses to let it go",
            LetGo::Late => "the guest has not let it go yet; reload again when it has",
        };
        Err(place.refused(format!("device '{device}' is still there: {what}")))
    }

    fn set_vcpus(&mut self, count: u32, place: &Place) -> Result<(), Fault> {
        let slots = self.monitor.ask("query-hotpluggable-cpus", Value::Null);
        let slots = slots.map_err(|refusal| refused(place, &refusal))?;
        let steps =
            qmp::vcpus::steps(&slots, count).map_err(|why| place.refused(why.to_string()))?;
        for step in steps {
            match step.arguments.get("id").and_then(Value::as_str) {
                Some(id) if step.command == "device_del" => self.unplug(id, place)?,
                Some(_) | None => self.tell(step.command, step.arguments, place)?,
            }
        }
        Ok(())
    }

    /// Opens the files of a device. One whose QEMU is in no sandbox opens them by itself, with rights of its own.
    fn open(&self, attachment: &Attachment) -> Result<Files, Fault> {
        let mut files = Files::new();
        // What is in a set of descriptors QEMU has open.
        for file in attachment.files.iter().filter(|it| !is_volume_set(&it.path)) {
            match &file.descriptor {
                // What is in the guest's own folders its account opens by itself, with the account's rights.
                Some(name) if self.in_sandbox && !is_units_own(Path::new(&file.path)) => {
                    files.insert(name.clone(), host_files::open(file)?.into());
                }
                Some(_) if self.in_sandbox => {}
                Some(_) | None => host_files::unusable(file).map_or(Ok(()), Err)?,
            }
        }
        Ok(files)
    }

    /// Refuses what QEMU would open by its path, and does not see in its sandbox.
    fn check_paths(&self, attachment: &Attachment) -> Result<(), Fault> {
        let sent: Vec<&str> =
            attachment.fds.iter().flat_map(|fd| host_files::devices(&fd.kind)).collect();
        let is_seen = |file: &&HostFile| {
            let path = file.path.as_str();
            EVERYWHERE.contains(&path)
                || sent.contains(&path)
                || is_units_own(Path::new(path))
                || is_volume_set(path)
        };
        match attachment.files.iter().find(|file| self.in_sandbox && !is_seen(file)) {
            Some(file) => Err(file.place.refused(format!(
                "QEMU opens '{}' by itself, and its sandbox does not show it; restart the guest",
                file.path
            ))),
            None => Ok(()),
        }
    }

    /// A number above those of all sets that QEMU has, volumes' apart.
    fn first_set(&mut self, place: &Place) -> Result<u32, Fault> {
        let sets = self.monitor.ask("query-fdsets", Value::Null);
        let sets = sets.map_err(|refusal| refused(place, &refusal))?;
        let numbers = sets.as_array().into_iter().flatten().filter_map(set_number);
        let last = numbers.filter(|it| *it < qemu::FIRST_VOLUME_SET).max().unwrap_or_default();
        u32::try_from(last + 1).map_err(|_| place.refused("QEMU has no number left for its files"))
    }

    /// The sets that are for these.
    fn sets(&mut self, purposes: &[String], place: &Place) -> Result<Vec<Set>, Fault> {
        let purposes: Vec<&str> = purposes.iter().map(String::as_str).collect();
        sets_for(&mut self.monitor, &purposes).map_err(|refusal| refused(place, &refusal))
    }

    /// Sends what a device takes and has QEMU make it; the result is what undoes that.
    fn bring(
        &mut self,
        attachment: &Attachment,
        files: &mut Files,
        place: &Place,
    ) -> Result<Vec<Undo>, Fault> {
        let mut taps = Taps::default();
        let mut undo = Vec::new();
        // Before they are made, for they are there also when this program is killed.
        if let Err(error) = note_links(self.instance, &made_links(attachment)) {
            log::warning(format_args!("{error:#}; network devices stay when the guest has ended"));
        }
        let brought = self
            .send(attachment, files, &mut taps, &mut undo, place)
            .and_then(|()| self.command(attachment, &mut undo, place));
        if let Err(fault) = brought {
            self.undo(undo);
            return Err(fault);
        }
        taps.into_made().into_iter().for_each(|link| drop(link.leave()));
        Ok(undo)
    }

    fn send(
        &mut self,
        attachment: &Attachment,
        files: &mut Files,
        taps: &mut Taps,
        undo: &mut Vec<Undo>,
        place: &Place,
    ) -> Result<(), Fault> {
        for sent in &attachment.fds {
            let fd = opened(sent, files, taps, place)?;
            let (command, arguments, back) = receipt(&sent.receipt);
            let told = self.monitor.ask_with(command, arguments, Some(fd.as_fd()));
            told.map_err(|refusal| refused(place, &refusal))?;
            undo.push(back);
        }
        Ok(())
    }

    fn command(
        &mut self,
        attachment: &Attachment,
        undo: &mut Vec<Undo>,
        place: &Place,
    ) -> Result<(), Fault> {
        for command in &attachment.commands {
            self.tell(command.name, command.arguments.clone(), place)?;
            undo.extend(command.undo.clone());
        }
        Ok(())
    }

    /// Undoes what was done, the last first. What does not go is QEMU's to keep: nothing hangs on it.
    fn undo(&mut self, undo: Vec<Undo>) {
        for (command, arguments) in undo.into_iter().rev() {
            // A descriptor that a device took is not there under its name any more.
            let left = self.monitor.ask(command, arguments.clone());
            if let Err(refusal) = left
                && command != "closefd"
            {
                log::warning(format_args!("QEMU does not undo: {command} {arguments}: {refusal}"));
            }
        }
    }
}

/// What one of the descriptors stands for, open as QEMU wants it.
fn opened(
    sent: &SentFd,
    files: &mut Files,
    taps: &mut Taps,
    place: &Place,
) -> Result<OwnedFd, Fault> {
    let FdKind::Inherited { name, cache, .. } = &sent.kind else {
        return fds::open_one(taps, &sent.kind).map_err(|error| unopened(place, error));
    };
    let missing = || place.refused(format!("'{name}' is used twice"));
    let fd = files.remove(name).ok_or_else(missing)?;
    cache.as_ref().map_or(Ok(()), |cache| fds::use_cache(&fd, cache))?;
    Ok(fd)
}

fn receipt(receipt: &Receipt) -> (&'static str, Value, Undo) {
    match receipt {
        Receipt::Name(name) => {
            ("getfd", json!({ "fdname": name }), ("closefd", json!({ "fdname": name })))
        }
        Receipt::Set { number, purpose } => (
            "add-fd",
            json!({ "fdset-id": number, "opaque": purpose }),
            ("remove-fd", json!({ "fdset-id": number })),
        ),
    }
}

fn found(files: &Files) -> Inherited {
    files.iter().map(|(name, fd)| (name.clone(), identify(fd))).collect()
}

fn by_alias(
    domain: &Domain,
    kind: DeviceKind,
    alias: &str,
    place: &Place,
) -> Result<DeviceRef, Fault> {
    let found = domain.devices.all(kind).find(|it| domain.devices.info(*it).alias() == alias);
    found.ok_or_else(|| place.refused(format!("the running guest has no device '{alias}'")))
}

fn refused(place: &Place, refusal: &Refusal) -> Fault {
    place.refused(format!("the running guest was not changed: {refusal}"))
}

fn unopened(place: &Place, error: fds::OpenError) -> Fault {
    match error {
        fds::OpenError::Device(fault) => fault,
        fds::OpenError::HandOver(told) => place.refused(told),
        fds::OpenError::File(error) => place.refused(format!("{error:#}")),
    }
}

/// The first of a device's own faults.
fn first_of(place: &Place) -> impl FnOnce(Vec<Fault>) -> Fault + use<> {
    let place = place.clone();
    move |faults| faults.into_iter().next().unwrap_or_else(|| place.refused("it is refused"))
}
