//! What all devices have, and no two of them alike: aliases, boot orders, ACPI indexes.

use std::collections::BTreeSet;

use domain::devices::{DeviceInfo, DeviceKind};
use domain::{Domain, Faults};

use crate::pci::place;
use crate::rules::refuse_broken;

/// The highest ACPI index that firmware tells (`ONBOARD_INDEX_MAX` in QEMU's `hw/acpi/pcihp.c`).
const HIGHEST_INDEX: u32 = 16 * 1024 - 1;

/// Refuses devices that share what names them.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let (mut aliases, mut indexes, mut orders) = Default::default();
    for device in DeviceKind::ALL.into_iter().flat_map(|kind| domain.devices.all(kind)) {
        // The first console may be a serial port, which has the alias already.
        if device.kind == DeviceKind::Console && device.index == 0 {
            continue;
        }
        let info = domain.devices.info(device);
        let rules = shared(info, (&mut aliases, &mut indexes, &mut orders));
        refuse_broken(faults, &place(domain, device), rules.into_iter().chain(alone(info)));
    }
}

type Seen<'s, 'd> = (&'s mut BTreeSet<&'d str>, &'s mut BTreeSet<u32>, &'s mut BTreeSet<u32>);

fn shared<'d>(
    info: &'d DeviceInfo,
    (aliases, indexes, orders): Seen<'_, 'd>,
) -> [(bool, &'static str); 3] {
    let alias = info.alias.as_ref().is_some_and(|alias| !aliases.insert(alias.as_str()));
    [
        (alias, "another device has this alias; give another"),
        (
            info.acpi_index.is_some_and(|index| !indexes.insert(index)),
            "another device has this ACPI index; give another",
        ),
        (
            info.boot_order.is_some_and(|order| !orders.insert(order)),
            "another device has this boot order; give another",
        ),
    ]
}

fn alone(info: &DeviceInfo) -> [(bool, &'static str); 3] {
    let rom = info.rom.as_ref();
    let without = rom.is_some_and(|rom| rom.enabled == Some(false));
    [
        (info.boot_order == Some(0), "the first device to boot from has order='1'; give that"),
        (
            info.acpi_index.is_some_and(|index| !(1..=HIGHEST_INDEX).contains(&index)),
            "an ACPI index is a number of 1 to 16383; give one of these",
        ),
        (
            without && rom.is_some_and(|rom| rom.file.is_some() || rom.bar.is_some()),
            "a device without a ROM has neither 'bar' nor 'file'; remove them",
        ),
    ]
}
