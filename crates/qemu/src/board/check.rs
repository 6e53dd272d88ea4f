//! What a board has no place for.

use domain::devices::{
    DiskBus, InputBus, PanicModel, SerialTarget, SoundModel, TpmModel, VideoModel, WatchdogModel,
};
use domain::{Domain, Fault, Faults, Features, Place, TimerName};

use super::Board;

/// Refuses devices and features of a PC on a board that is none, and what else the board lacks.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let board = Board::of_domain(domain);
    gic(domain, board, faults);
    if domain.clock.timer(TimerName::Armvtimer).is_some() {
        let what = "glassbox sets no policy of the timer 'armvtimer'; remove it";
        faults.push(domain.place.child("clock").refused(what));
    }
    if board.is_pc() {
        if domain.os.dtb.is_some() {
            let what = "a PC tells by ACPI what it has; remove <dtb>";
            faults.push(domain.os.place.child("dtb").refused(what));
        }
        return;
    }
    let machine = domain.os.machine.as_deref().unwrap_or_default();
    for (place, name, instead) in pc_devices(domain) {
        faults.push(place.refused(format!("a machine '{machine}' has no {name}; {instead}")));
    }
    for name in pc_features(&domain.features) {
        let what = format!("a machine '{machine}' has no <{name}>; remove it");
        faults.push(domain.place.child("features").refused(what));
    }
    if domain.pm.suspend_to_mem.is_some() || domain.pm.suspend_to_disk.is_some() {
        let what = format!("a machine '{machine}' has no sleep states to choose; remove it");
        faults.push(domain.place.child("pm").refused(what));
    }
    timers(domain, machine, faults);
    tables(domain, board, faults);
    plugged_memory(domain, board, faults);
}

/// Devices that stand on ISA or in a PC's chipset: where, what, and what to do.
fn pc_devices(domain: &Domain) -> Vec<(&Place, &'static str, &'static str)> {
    let devices = &domain.devices;
    let mut found = Vec::new();
    let mut find = |wrong: bool, place, name, instead| {
        if wrong {
            found.push((place, name, instead));
        }
    };
    for disk in &devices.disks {
        let ide = disk.bus() == DiskBus::Ide;
        find(ide, &disk.place, "IDE controller", "use bus='virtio' or bus='scsi'");
        find(disk.bus() == DiskBus::Fdc, &disk.place, "floppy controller", "remove the drive");
    }
    for serial in &devices.serials {
        let debug = serial.target == Some(SerialTarget::IsaDebug);
        find(debug, &serial.place, "debug port", "use <target type='system-serial'/>");
    }
    for parallel in &devices.parallels {
        find(true, &parallel.place, "parallel port", "remove it");
    }
    for input in &devices.inputs {
        let ps2 = input.bus == Some(InputBus::Ps2);
        find(ps2, &input.place, "keyboard controller", "use bus='usb' or bus='virtio'");
    }
    for sound in &devices.sounds {
        let isa = matches!(sound.model, SoundModel::Sb16 | SoundModel::Pcspk);
        find(isa, &sound.place, "such sound card", "use model='ich9' or model='virtio'");
    }
    for video in &devices.videos {
        let pc = matches!(video.model, Some(VideoModel::Qxl | VideoModel::Vmvga));
        find(pc, &video.place, "such video card", "use <model type='virtio'/>");
    }
    for watchdog in &devices.watchdogs {
        let isa = watchdog.model == WatchdogModel::Ib700;
        find(isa, &watchdog.place, "such watchdog", "use model='i6300esb'");
    }
    for panic in &devices.panics {
        let pc = matches!(panic.model, Some(PanicModel::Isa | PanicModel::Hyperv));
        find(pc, &panic.place, "such panic device", "use model='pvpanic'");
    }
    for tpm in &devices.tpms {
        let crb = tpm.model == Some(TpmModel::Crb);
        find(crb, &tpm.place, "interface 'tpm-crb'", "use model='tpm-tis'");
    }
    found
}

/// Features that only a PC has, by their elements' names.
fn pc_features(features: &Features) -> Vec<&'static str> {
    let found = [
        (features.hyperv.is_some(), "hyperv"),
        (features.pvspinlock.is_some(), "pvspinlock"),
        (features.vmport.is_some(), "vmport"),
        (features.smm.is_some(), "smm"),
        (features.ioapic.is_some(), "ioapic"),
        (features.ps2 == Some(true), "ps2"),
        (features.apic.is_some_and(|apic| apic.eoi.is_some()), "apic eoi='...'"),
    ];
    found.into_iter().filter_map(|(there, name)| there.then_some(name)).collect()
}

/// Reports timers that only a PC has: the guest loses nothing by their settings.
fn timers(domain: &Domain, machine: &str, faults: &Faults) {
    for timer in &domain.clock.timers {
        match timer.name {
            TimerName::Pit
            | TimerName::Hpet
            | TimerName::Tsc
            | TimerName::Kvmclock
            | TimerName::Hypervclock => {
                let place = domain.place.child("clock");
                let what = format!("a machine '{machine}' has no timer '{}'", timer.name);
                faults.push(Fault::ignored(place.position, &place.path, what));
            }
            TimerName::Rtc | TimerName::Platform | TimerName::Armvtimer => {}
        }
    }
}

/// ARM's tables of ACPI are the firmware's work, so there are none without it.
fn tables(domain: &Domain, board: Board, faults: &Faults) {
    let has_firmware = domain.os.firmware.is_some() || domain.os.loader.is_some();
    if board == Board::ArmVirt && domain.features.acpi && !has_firmware {
        let what = "<acpi/> needs UEFI on this machine; add firmware='efi' to <os> or remove it";
        faults.push(domain.place.child("features").refused(what));
    }
}

/// Only ARM has the interrupt controller that is chosen here.
fn gic(domain: &Domain, board: Board, faults: &Faults) {
    if domain.features.gic.is_some() && board != Board::ArmVirt {
        let what = "only a machine 'virt' of aarch64 has a GIC; remove <gic>";
        faults.push(domain.place.child("features").refused(what));
    }
}

/// RISC-V's machine takes no memory while it runs.
fn plugged_memory(domain: &Domain, board: Board, faults: &Faults) {
    if board == Board::RiscvVirt && domain.memory.maximum.is_some() {
        let what = "memory cannot be plugged into this machine; remove it";
        faults.push(domain.place.child("maxMemory").refused(what));
    }
}
