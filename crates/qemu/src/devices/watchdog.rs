//! Watchdogs.

use domain::devices::{DeviceInfo, Watchdog, WatchdogAction, WatchdogModel};
use domain::{Domain, Faults};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;
use crate::rules::refuse_broken;

/// Adds the watchdog of the q35 chipset, which bites as the first one does.
pub(crate) fn add_implicit(domain: &mut Domain) {
    let watchdogs = &mut domain.devices.watchdogs;
    for watchdog in watchdogs.iter_mut() {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
    let action = watchdogs.first().map_or(Some(WatchdogAction::Reset), |watchdog| watchdog.action);
    let has_itco = watchdogs.iter().any(|watchdog| watchdog.model == WatchdogModel::Itco);
    if Board::of_domain(domain) == Board::Q35 && !has_itco {
        let (place, info) = (domain::Place::default(), DeviceInfo::default());
        let itco = Watchdog { place, model: WatchdogModel::Itco, action, info };
        domain.devices.watchdogs.push(itco);
    }
}

/// Refuses watchdogs where they cannot stand.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let mut chipsets = 0;
    for watchdog in &domain.devices.watchdogs {
        let address = watchdog.info.address.is_some();
        chipsets += usize::from(watchdog.model == WatchdogModel::Itco);
        let itco = watchdog.model == WatchdogModel::Itco;
        let rules = [
            (
                watchdog.model == WatchdogModel::I6300esb
                    && address
                    && watchdog.info.pci().is_none(),
                "model='i6300esb' stands on PCI; remove <address>",
            ),
            (
                watchdog.model == WatchdogModel::Ib700 && watchdog.info.pci().is_some(),
                "model='ib700' stands on ISA; remove <address>",
            ),
            (itco && address, "model='itco' is part of the chipset; remove <address>"),
            (itco && chipsets > 1, "the chipset has one watchdog; remove this one"),
        ];
        refuse_broken(faults, &watchdog.place, rules);
    }
}

/// Adds all watchdogs and what they do, which QEMU has but one of.
pub(crate) fn all_arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let watchdogs = &domain.devices.watchdogs;
    for watchdog in watchdogs {
        arguments(command, watchdog);
    }
    let Some(first) = watchdogs.first() else { return };
    if let Some(other) = watchdogs.iter().find(|watchdog| watchdog.action != first.action) {
        command.refuse(&other.place, "all watchdogs of a guest do the same; give them one action");
    }
    let action = match first.action.unwrap_or(WatchdogAction::Reset) {
        // QEMU pauses, and the dump is made from outside.
        WatchdogAction::Dump => "pause",
        action @ (WatchdogAction::Reset
        | WatchdogAction::Shutdown
        | WatchdogAction::Poweroff
        | WatchdogAction::Pause
        | WatchdogAction::None
        | WatchdogAction::InjectNmi) => action.as_str(),
    };
    command.argv.plain("-watchdog-action", action);
}

fn arguments(command: &mut Command<'_>, watchdog: &Watchdog) {
    if watchdog.model == WatchdogModel::Itco {
        if Board::of_domain(command.domain) != Board::Q35 {
            command.refuse(&watchdog.place, "only a q35 machine has model='itco'; use i6300esb");
        }
        command.argv.options("-global", Options::pair("ICH9-LPC.noreboot", "off"));
        return;
    }
    let device = Object::new("driver", watchdog.model.as_str());
    command.device(&placed(command, &watchdog.info, device));
}
