//! Volumes of a running guest: disks whose images come as open files, and which no definition has.
//!
//! ```text
//!   file, name --add-fd--> a set of QEMU's, with the name --> <disk> on the set --ReloadGuest--> the guest's unit
//! ```
//!
//! QEMU keeps the name with the set, and the live definition has the disk that lies on it. So a daemon that is killed
//! loses nothing, and neither has it anything to lose: what a guest has is asked each time.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use domain::devices::{Address, ControllerKind, Disk, DiskBus, ScsiModel, SourceKind};
use domain::{DeviceEdit, Domain, Faults, edit_device};
use serde_json::{Value, json};

use super::devices;
use crate::guest::Guest;
use crate::live::LiveFiles;
use crate::monitor::AskFault;
use crate::systemd::Systemd;

/// How many a guest may have. The slots of its bus are fewer, unless its definition adds some.
const MOST: usize = 16;

/// What the purpose of a set begins with that has a volume's file; the volume's name follows.
const PURPOSE: &str = "volume ";

/// The first number of the sets that have volumes; a reload numbers others below (`FIRST_VOLUME_SET` of crates/qemu),
/// and by these knows the disks that it must leave.
const FIRST_SET: u64 = 1 << 30;

/// How many disks one SCSI controller is given. Virtio's could have 16384.
const MOST_UNITS: u32 = 64;

/// What the guest sees of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// A virtio disk.
    Virtio,
    /// A SCSI disk.
    Scsi,
    /// A SCSI CD-ROM drive.
    Cdrom,
}

/// A file that is to be a disk of a guest.
#[derive(Debug)]
pub(crate) struct Volume {
    /// What it is called, by whoever adds and removes it.
    pub(crate) name: String,
    /// The file, open for reading, or for writing as well.
    pub(crate) file: OwnedFd,
    /// Whether that is a block device.
    pub(crate) block: bool,
    /// Whether it can only be read.
    pub(crate) readonly: bool,
    /// What the guest sees.
    pub(crate) frontend: Frontend,
}

/// Why a volume does not come or go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VolumeFault {
    /// There is one of that name.
    #[error("the guest has a volume of this name; remove it first, or give another name")]
    Exists,
    /// There is none of that name.
    #[error("the guest has no volume of this name")]
    Missing,
    /// There are too many.
    #[error("the guest has {MOST} volumes, or no target is left for one; remove one first")]
    TooMany,
    /// Nobody could change it.
    #[error("the guest lives in no unit, and nobody else changes its devices")]
    NoUnit,
    /// QEMU is not told.
    #[error(transparent)]
    Ask(#[from] AskFault),
    /// The guest is not changed.
    #[error("{0}")]
    Failed(String),
}

/// A set of descriptors that QEMU has for a volume.
#[derive(Debug, PartialEq, Eq)]
struct Set {
    number: u64,
    volume: String,
}

/// Changes the volumes of one guest.
#[derive(Debug, Clone)]
pub(crate) struct Volumes {
    /// The guest.
    pub(crate) guest: Arc<Guest>,
    /// Has its live definition.
    pub(crate) live: LiveFiles,
    /// Has its unit change it.
    pub(crate) systemd: Systemd,
}

impl Volumes {
    /// Gives the guest a volume.
    ///
    /// # Errors
    /// [`VolumeFault`]; the guest is as it was.
    pub(crate) async fn add(self, volume: Volume) -> Result<(), VolumeFault> {
        let (text, live) = self.live()?;
        let sets = self.sets().await?;
        for set in sets.iter().filter(|set| set.volume == volume.name) {
            match disk_on(&live, set.number) {
                Some(_) => return Err(VolumeFault::Exists),
                // A daemon that was killed has left it.
                None => self.forget(set.number).await,
            }
        }
        let bound = sets.iter().filter(|set| disk_on(&live, set.number).is_some());
        if bound.count() >= MOST {
            return Err(VolumeFault::TooMany);
        }
        let place = Place::free(&live, volume.frontend).ok_or(VolumeFault::TooMany)?;
        let Volume { name, file, block, readonly, .. } = volume;
        let taken =
            |set: u64| sets.iter().any(|it| it.number == set) || disk_on(&live, set).is_some();
        let set = (FIRST_SET..).find(|set| !taken(*set)).ok_or(VolumeFault::TooMany)?;
        let arguments = json!({ "fdset-id": set, "opaque": format!("{PURPOSE}{name}") });
        self.guest.monitor().ask_with("add-fd", arguments, Some(file)).await?;
        let plugged = self.plug(&text, &place.elements(set, block, readonly)).await;
        match plugged {
            // What counts is whether the guest has it, whatever else the reload was about.
            Err(fault) if !self.has(set) => {
                self.forget(set).await;
                Err(fault)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes a volume from the guest, and returns when the guest has let it go.
    ///
    /// # Errors
    /// [`VolumeFault`]; the guest has it still, or there was none.
    pub(crate) async fn remove(self, name: &str) -> Result<(), VolumeFault> {
        let (text, live) = self.live()?;
        let sets = self.sets().await?;
        let found = sets.iter().find(|set| set.volume == name).ok_or(VolumeFault::Missing)?;
        let Some(disk) = disk_on(&live, found.number) else {
            self.forget(found.number).await;
            return Err(VolumeFault::Missing);
        };
        let element = format!("<disk><target dev='{}'/></disk>", disk.target);
        let text = edited(&text, &element, DeviceEdit::Detach)?;
        let unplugged = self.reload(&text).await;
        match unplugged {
            Err(fault) if self.has(found.number) => Err(fault),
            Ok(()) | Err(_) => {
                self.forget(found.number).await;
                Ok(())
            }
        }
    }

    /// Whether the guest has a disk on this set, as far as can be told.
    fn has(&self, set: u64) -> bool {
        self.live().is_ok_and(|(_, live)| disk_on(&live, set).is_some())
    }

    async fn plug(&self, text: &str, elements: &[String]) -> Result<(), VolumeFault> {
        let mut text = text.to_owned();
        for element in elements {
            text = edited(&text, element, DeviceEdit::Attach)?;
        }
        self.reload(&text).await
    }

    async fn reload(&self, text: &str) -> Result<(), VolumeFault> {
        let reloaded = devices::reload(&self.live, &self.systemd, &self.guest, text).await;
        reloaded.map_err(VolumeFault::Failed)
    }

    fn live(&self) -> Result<(String, Domain), VolumeFault> {
        if self.guest.unit().is_empty() {
            return Err(VolumeFault::NoUnit);
        }
        let name = self.guest.name();
        let text = devices::live_text(&self.live, name).map_err(VolumeFault::Failed)?;
        let live = Domain::parse_running(&text, &Faults::new());
        let live = live.ok_or_else(|| {
            VolumeFault::Failed(format!("the live definition of guest '{name}' cannot be read"))
        })?;
        Ok((text, live))
    }

    /// The sets that are for volumes.
    async fn sets(&self) -> Result<Vec<Set>, VolumeFault> {
        let answer = self.guest.monitor().ask("query-fdsets", Value::Null).await?;
        Ok(sets_in(&answer))
    }

    /// Has QEMU close what it has in a set.
    async fn forget(&self, set: u64) {
        let removed = self.guest.monitor().ask("remove-fd", json!({ "fdset-id": set })).await;
        if let Err(fault) = removed {
            let name = self.guest.name();
            tracing::warn!("guest '{name}' keeps the file of a volume that it lost: {fault}");
        }
    }
}

fn edited(text: &str, element: &str, how: DeviceEdit) -> Result<String, VolumeFault> {
    edit_device(text, element, how).map_err(|error| VolumeFault::Failed(error.to_string()))
}

/// The sets for volumes in QEMU's answer.
fn sets_in(answer: &Value) -> Vec<Set> {
    let volume = |set: &Value| {
        let number = set.get("fdset-id")?.as_u64().filter(|number| *number >= FIRST_SET)?;
        let purposes = set.get("fds")?.as_array()?.iter();
        let mut purposes = purposes.filter_map(|fd| fd.get("opaque")?.as_str());
        let volume = purposes.find_map(|it| it.strip_prefix(PURPOSE))?.to_owned();
        Some(Set { number, volume })
    };
    answer.as_array().into_iter().flatten().filter_map(volume).collect()
}

/// The path by which QEMU opens what is in a set (qemu(1), `-add-fd`).
fn path_of(set: u64) -> String {
    format!("/dev/fdset/{set}")
}

/// The disk that lies on a set.
fn disk_on(live: &Domain, set: u64) -> Option<&Disk> {
    let path = path_of(set);
    live.devices.disks.iter().find(|disk| {
        matches!(&disk.source.kind, SourceKind::File(Some(it)) | SourceKind::Block(Some(it)) if *it == path)
    })
}

/// Where a volume stands in the guest.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    frontend: Frontend,
    target: String,
    /// Of a SCSI disk, the number of its controller, and its own there.
    scsi: Option<(u32, u32)>,
    /// Whether that controller is to come as well.
    new_controller: bool,
}

impl Place {
    /// A place that nothing has, with the last target that is free: definitions begin with the first.
    fn free(live: &Domain, frontend: Frontend) -> Option<Self> {
        let prefix = if frontend == Frontend::Virtio { "vd" } else { "sd" };
        let is_free =
            |target: &String| live.devices.disks.iter().all(|disk| disk.target.as_str() != target);
        let target = ('a'..='z').rev().map(|letter| format!("{prefix}{letter}")).find(is_free)?;
        if frontend == Frontend::Virtio {
            return Some(Self { frontend, target, scsi: None, new_controller: false });
        }
        let (controller, unit, new_controller) = free_unit(live)?;
        Some(Self { frontend, target, scsi: Some((controller, unit)), new_controller })
    }

    /// The elements of its devices, with the file in a set of QEMU's.
    fn elements(&self, set: u64, block: bool, readonly: bool) -> Vec<String> {
        let (kind, attribute) = if block { ("block", "dev") } else { ("file", "file") };
        let (device, bus) = match self.frontend {
            Frontend::Virtio => ("disk", "virtio"),
            Frontend::Scsi => ("disk", "scsi"),
            Frontend::Cdrom => ("cdrom", "scsi"),
        };
        let (path, target) = (path_of(set), &self.target);
        let readonly = if readonly { "<readonly/>" } else { "" };
        let address = self.scsi.map_or_else(String::new, |(controller, unit)| {
            format!(
                "<address type='drive' controller='{controller}' bus='0' target='0' unit='{unit}'/>"
            )
        });
        let disk = format!(
            "<disk type='{kind}' device='{device}'><driver name='qemu' type='raw'/>\
             <source {attribute}='{path}'/><target dev='{target}' bus='{bus}'/>{readonly}{address}</disk>"
        );
        let controller = self.scsi.filter(|_| self.new_controller).map(|(number, _)| {
            format!("<controller type='scsi' index='{number}' model='virtio-scsi'/>")
        });
        controller.into_iter().chain([disk]).collect()
    }
}

/// The number of a virtio SCSI controller and a free one of a disk there, and whether the controller is a new one.
fn free_unit(live: &Domain) -> Option<(u32, u32, bool)> {
    let is_virtio = ControllerKind::Scsi(Some(ScsiModel::VirtioScsi));
    let controllers = &live.devices.controllers;
    for controller in controllers.iter().filter(|it| it.kind == is_virtio) {
        let number = controller.number();
        let is_taken = |unit: &u32| {
            live.devices.disks.iter().any(|disk| {
                let Some(Address::Drive(at)) = &disk.info.address else { return false };
                disk.bus() == DiskBus::Scsi && at.controller == number && at.unit == *unit
            })
        };
        if let Some(unit) = (0..MOST_UNITS).find(|unit| !is_taken(unit)) {
            return Some((number, unit, false));
        }
    }
    let is_scsi = |number: u32| {
        controllers
            .iter()
            .any(|it| matches!(it.kind, ControllerKind::Scsi(_)) && it.number() == number)
    };
    (0..MOST_UNITS).find(|number| !is_scsi(*number)).map(|number| (number, 0, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(devices: &str) -> Domain {
        let text = format!(
            "<domain type='qemu'><name>web</name><uuid>5d2f2a8e-6d2c-4f0e-9d0e-1a8f5a1d7c09</uuid>
             <memory>1024</memory><os><type>hvm</type></os><devices>{devices}</devices></domain>"
        );
        Domain::parse_running(&text, &Faults::new()).unwrap()
    }

    /// What a guest has when it was given a volume.
    fn with(devices: &str, place: &Place, set: u64) -> String {
        place.elements(set, false, false).iter().fold(devices.to_owned(), |all, it| all + it)
    }

    #[test]
    fn a_set_is_a_volume_s_by_its_purpose() {
        let answer = json!([
            { "fdset-id": 1, "fds": [{ "fd": 9, "opaque": "vda" }] },
            { "fdset-id": 2, "fds": [{ "fd": 10 }] },
            { "fdset-id": 3, "fds": [{ "fd": 13, "opaque": "volume e" }] },
            { "fdset-id": FIRST_SET, "fds": [{ "fd": 11, "opaque": "volume fs:a volume b" }] },
            { "fds": [{ "fd": 12, "opaque": "volume c" }] },
            "volume d",
        ]);
        assert_eq!(
            sets_in(&answer),
            [Set { number: FIRST_SET, volume: "fs:a volume b".to_owned() }]
        );
        assert_eq!(sets_in(&json!({ "fds": 1 })), []);
    }

    #[test]
    fn volumes_are_found_by_their_sets() {
        let place = Place::free(&live(""), Frontend::Virtio).unwrap();
        let elements = |block, readonly| place.elements(12, block, readonly).concat();
        for volume in [elements(false, false), elements(true, true)] {
            let live = live(&volume);
            let disk = disk_on(&live, 12).unwrap();
            assert_eq!((disk.target.as_str(), disk.readonly), ("vdz", volume.contains("block")));
            assert_eq!(disk_on(&live, 1), None);
        }
    }

    #[test]
    fn places_are_free_from_the_last() {
        let one = "<disk type='file'><source file='/a'/><target dev='vdz' bus='virtio'/></disk>";
        let place = Place::free(&live(one), Frontend::Virtio).unwrap();
        assert_eq!((place.target.as_str(), place.scsi), ("vdy", None));
        let all: String =
            ('a'..='z').map(|letter| one.replace("vdz", &format!("vd{letter}"))).collect();
        assert_eq!(Place::free(&live(&all), Frontend::Virtio), None);
    }

    #[test]
    fn a_scsi_disk_takes_a_free_unit_or_brings_a_controller() {
        // Another controller is of no use.
        let other = "<controller type='scsi' index='0' model='lsilogic'/>";
        let first = Place::free(&live(other), Frontend::Cdrom).unwrap();
        assert_eq!((first.scsi, first.new_controller), (Some((1, 0)), true));
        let devices = with(other, &first, 1);
        assert!(devices.contains("<controller type='scsi' index='1' model='virtio-scsi'/>"));
        let second = Place::free(&live(&devices), Frontend::Scsi).unwrap();
        assert_eq!((second.scsi, second.new_controller), (Some((1, 1)), false));
        assert_eq!(second.target, "sdy");
        // A SATA disk has an address of the same form.
        let sata = "<disk type='file'><source file='/a'/><target dev='sda' bus='sata'/>
            <address type='drive' controller='1' bus='0' target='0' unit='2'/></disk>";
        let devices = with(&devices, &second, 2) + sata;
        assert_eq!(Place::free(&live(&devices), Frontend::Scsi).unwrap().scsi, Some((1, 2)));
    }
}
