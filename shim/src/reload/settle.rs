//! Makes the live definition what QEMU has: settles what a reload that was killed left, and takes over what came and
//! went without a reload, CPUs and memory that the management daemon set and devices that the guest let go late.

use anyhow::Context;
use domain::devices::{BalloonModel, DeviceKind, DeviceRef, InterfaceSource};
use domain::{Domain, Faults, MemorySize};
use qemu::HostFacts;
use serde_json::{Value, json};

use super::intent::{Doing, Intent, Parts, Set, Told};
use super::leavings::{remove_macvtap, sets_for};
use super::monitor::{Monitor, Refusal};
use crate::live::LiveFile;
use crate::log;
use crate::tap::Taps;

/// Settles what is different in QEMU.
pub(super) struct Settling<'a> {
    pub(super) monitor: &'a mut Monitor,
    pub(super) file: &'a LiveFile,
    pub(super) facts: &'a HostFacts,
}

impl Settling<'_> {
    /// The guest as QEMU has it; the live definition is written when it said something else.
    pub(super) fn settle(&mut self, live: Domain) -> anyhow::Result<Domain> {
        let before = live.write();
        let mut live = self.interrupted()?.unwrap_or(live);
        self.gone(&mut live)?;
        self.cpus(&mut live)?;
        self.memory(&mut live)?;
        let now = live.write();
        if now != before {
            let path = self.file.path().display().to_string();
            self.file.write(&now).context(path)?;
        }
        self.file.settled().context("a step is noted still")?;
        Ok(live)
    }

    /// Finishes or undoes the step that was begun. The result is the guest, if the step was made.
    fn interrupted(&mut self) -> anyhow::Result<Option<Domain>> {
        let intent = match Intent::read(self.file) {
            Ok(None) => return Ok(None),
            Ok(Some(intent)) => intent,
            Err(error) => {
                log::warning(format_args!(
                    "what an earlier reload was doing cannot be read, and QEMU may keep some of it: {error:#}"
                ));
                return Ok(None);
            }
        };
        let made = match &intent.doing {
            Doing::Bring { device, parts, then } => self.brought(device, parts, then)?,
            doing @ Doing::Exchange { .. } => self.exchanged(doing)?,
            Doing::Tell(told) => self.told(told)?,
        };
        log::info(format_args!(
            "an earlier reload did not come to its end; its last step is {}",
            if made { "made" } else { "undone" }
        ));
        let after = || Domain::parse_running(&intent.after, &Faults::new());
        Ok(made.then(after).flatten())
    }

    fn brought(&mut self, device: &str, parts: &Parts, then: &[Told]) -> anyhow::Result<bool> {
        if !self.monitor.devices()?.contains(device) {
            self.undo(parts)?;
            return Ok(false);
        }
        for told in then {
            self.told(told)?;
        }
        Ok(true)
    }

    fn exchanged(&mut self, doing: &Doing) -> anyhow::Result<bool> {
        let Doing::Exchange { device, node, comes, goes, sets } = doing else { return Ok(false) };
        let inserted = self.medium(device)?;
        let close = Told::new("blockdev-close-tray", json!({ "id": device }));
        // A drive that was empty before is so until the new one is put in.
        let comes_in = inserted.is_none() && self.has_node(node.as_deref())?;
        if inserted != *node && !comes_in {
            self.undo(comes)?;
            self.told(&close)?;
            return Ok(false);
        }
        if comes_in {
            self.told(&Told::new("blockdev-open-tray", json!({ "id": device })))?;
            let medium = json!({ "id": device, "node-name": node });
            self.told(&Told::new("blockdev-insert-medium", medium))?;
        }
        self.told(&close)?;
        for told in goes {
            self.take_away(told)?;
        }
        self.remove_sets(sets)?;
        Ok(true)
    }

    /// Tells QEMU something that it may have been told before.
    fn told(&mut self, told: &Told) -> anyhow::Result<bool> {
        match self.monitor.ask(&told.command, told.arguments.clone()) {
            Ok(_) => Ok(true),
            Err(Refusal::Command(error)) => {
                let Told { command, arguments } = told;
                log::warning(format_args!(
                    "QEMU does not finish an earlier reload: {command} {arguments}: {}",
                    error.desc
                ));
                Ok(false)
            }
            Err(lost @ Refusal::Lost(_)) => Err(lost.into()),
        }
    }

    fn undo(&mut self, parts: &Parts) -> anyhow::Result<()> {
        for told in &parts.undo {
            self.take_away(told)?;
        }
        self.remove_sets(&parts.sets)?;
        for name in &parts.links {
            if let Err(error) = Taps::remove_macvtap(name) {
                log::warning(format_args!("the network device '{name}' stays: {error}"));
            }
        }
        Ok(())
    }

    /// Takes something away that may not be there.
    fn take_away(&mut self, told: &Told) -> anyhow::Result<()> {
        match self.monitor.release(&told.command, &told.arguments) {
            Err(refusal) if refusal.is_in_use() => {
                let Told { command, arguments } = told;
                log::warning(format_args!(
                    "QEMU keeps something: {command} {arguments}: {refusal}"
                ));
                Ok(())
            }
            Ok(()) | Err(Refusal::Command(_)) => Ok(()),
            Err(lost @ Refusal::Lost(_)) => Err(lost.into()),
        }
    }

    fn remove_sets(&mut self, sets: &[Set]) -> anyhow::Result<()> {
        if sets.is_empty() {
            return Ok(());
        }
        let purposes: Vec<&str> = sets.iter().map(|set| set.purpose.as_str()).collect();
        let there = sets_for(self.monitor, &purposes)?;
        for set in sets.iter().filter(|set| there.contains(set)) {
            self.take_away(&Told::new("remove-fd", json!({ "fdset-id": set.number })))?;
        }
        Ok(())
    }

    /// The node of the medium in a drive.
    fn medium(&mut self, device: &str) -> anyhow::Result<Option<String>> {
        let all = self.monitor.ask("query-block", Value::Null)?;
        let path = format!("/machine/peripheral/{device}");
        let is_drive = |it: &&Value| {
            let at = it.get("qdev").and_then(Value::as_str).unwrap_or_default();
            at == device || at == path || at.starts_with(&format!("{path}/"))
        };
        let found = all.as_array().into_iter().flatten().find(is_drive);
        let node = found.and_then(|drive| drive.pointer("/inserted/node-name")?.as_str());
        Ok(node.map(str::to_owned))
    }

    fn has_node(&mut self, node: Option<&str>) -> anyhow::Result<bool> {
        let Some(node) = node else { return Ok(false) };
        let all = self.monitor.ask("query-named-block-nodes", json!({ "flat": true }))?;
        let is_it = |it: &Value| it.get("node-name").is_some_and(|name| name == node);
        Ok(all.as_array().is_some_and(|all| all.iter().any(is_it)))
    }

    /// Forgets what the guest has let go after somebody had given up waiting, with what it left in QEMU.
    fn gone(&mut self, live: &mut Domain) -> anyhow::Result<()> {
        let there = self.monitor.devices()?;
        let alias = |live: &Domain, device| live.devices.info(device).alias().to_owned();
        let gone: Vec<(DeviceRef, String)> = qemu::plugged(live, self.facts)
            .into_iter()
            .map(|device| (device, alias(live, device)))
            .filter(|(_, alias)| !there.contains(alias))
            .collect();
        // What their references are is right until one is removed.
        for (device, alias) in &gone {
            let Ok(goes) = qemu::detachment(live, *device, self.facts) else { continue };
            let purposes: Vec<&str> = goes.sets.iter().map(String::as_str).collect();
            let sets = sets_for(self.monitor, &purposes)?;
            for (command, arguments) in goes.afterwards {
                self.take_away(&Told::new(command, arguments))?;
            }
            self.remove_sets(&sets)?;
            if device.kind == DeviceKind::Interface
                && let interface = &live.devices.interfaces[device.index]
                && let InterfaceSource::Direct { .. } = interface.source
            {
                remove_macvtap(interface);
            }
            log::info(format_args!("'{alias}' has gone from the running guest meanwhile"));
        }
        for (device, alias) in &gone {
            qemu::forget(live, device.kind, alias);
        }
        Ok(())
    }

    /// How many CPUs there are. Which ones is for each to say where each is told by itself.
    fn cpus(&mut self, live: &mut Domain) -> anyhow::Result<()> {
        let all = self.monitor.ask("query-cpus-fast", Value::Null)?;
        let count = u32::try_from(all.as_array().map_or(0, Vec::len)).unwrap_or_default();
        let vcpus = &mut live.vcpus;
        if vcpus.each.is_empty() && (1..=vcpus.maximum).contains(&count) && count != vcpus.online()
        {
            vcpus.current = (count < vcpus.maximum).then_some(count);
        }
        Ok(())
    }

    /// What the balloon leaves the guest. It counts modules of memory, too, which `<memory>` may leave out.
    fn memory(&mut self, live: &mut Domain) -> anyhow::Result<()> {
        let balloons = &live.devices.memballoons;
        let Some(size) = live.memory.size else { return Ok(()) };
        if !balloons.iter().any(|it| !matches!(it.model, BalloonModel::None | BalloonModel::Xen)) {
            return Ok(());
        }
        let sizes = self.monitor.ask("query-memory-size-summary", Value::Null)?;
        let devices = self.monitor.ask("query-memory-devices", Value::Null)?;
        let balloon = match self.monitor.ask("query-balloon", Value::Null) {
            // It is not active.
            Err(Refusal::Command(_)) => return Ok(()),
            answered => answered?,
        };
        let bytes = |of: &Value, at: &str| of.pointer(at).and_then(Value::as_u64);
        // `get_current_ram_size` in hw/virtio/virtio-balloon.c.
        let is_module = |it: &&Value| it.get("type").is_some_and(|of| of == "dimm");
        let modules = devices.as_array().into_iter().flatten().filter(is_module);
        let modules = modules.filter_map(|it| bytes(it, "/data/size"));
        let all = bytes(&sizes, "/base-memory").map(|base| modules.fold(base, u64::saturating_add));
        if let (Some(all), Some(left)) = (all, bytes(&balloon, "/actual")) {
            let is_empty = left >= all;
            let left = MemorySize::from_bytes(left).min(size);
            live.memory.current = Some(if is_empty { size } else { left });
        }
        Ok(())
    }
}
