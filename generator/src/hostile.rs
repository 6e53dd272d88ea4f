//! Whatever stands in a definition, its unit has the directives that the program means and no other.

use std::path::Path;

use domain::DomainName;
use proptest::prelude::*;

use crate::drop_in::{self, Surroundings};
use crate::environment::Scope;
use crate::facts;

mod definition;

use definition::{filled, values};

/// All that a drop-in may have.
const KEYS: [&str; 37] = [
    "SourcePath",
    "Description",
    "RequiresMountsFor",
    "BindsTo",
    "After",
    "Wants",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "StateDirectory",
    "StateDirectoryMode",
    "CacheDirectory",
    "CacheDirectoryMode",
    "User",
    "BindPaths",
    "BindReadOnlyPaths",
    "DeviceAllow",
    "PrivateNetwork",
    "RestrictAddressFamilies",
    "IPAddressDeny",
    "RestrictRealtime",
    "Slice",
    "MemoryMax",
    "MemoryHigh",
    "MemorySwapMax",
    "LimitMEMLOCK",
    "IOWeight",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOWriteBandwidthMax",
    "IOReadIOPSMax",
    "IOWriteIOPSMax",
    "CPUWeight",
    "CPUQuota",
    "CPUQuotaPeriodSec",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "LimitRTPRIO",
];

/// The keys of a unit file with the lines that systemd continues joined to the ones before.
fn keys(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut continued = false;
    for line in text.lines() {
        if !continued && !line.starts_with('#') {
            keys.push(line.split_once('=').map_or(line, |(key, _)| key).to_owned());
        }
        continued = line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    }
    keys
}

proptest! {
    #[test]
    fn no_definition_adds_a_directive(
        values in values(),
    ) {
        let name = DomainName::try_from("web").expect("a plain name is one");
        let (facts, faults) = facts::read(filled(&values).as_bytes(), &name);
        prop_assert!(faults.is_empty(), "{:?}", faults);
        let around = Surroundings { devices: true, scope: Scope::System };
        let text = drop_in::text(&name, Path::new("/etc/glassbox/qemu/web.xml"), &facts, around);
        prop_assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{:?}", text);
        let mut sections = 0;
        for key in keys(&text) {
            sections += usize::from(key == "[Unit]" || key == "[Service]");
            let known = key.is_empty() || key.starts_with('[') || KEYS.contains(&key.as_str());
            prop_assert!(known, "{:?} in {}", key, text);
        }
        prop_assert!(sections <= 2, "{}", text);
    }
}

/// Without this the property would hold of a definition that reaches no unit.
#[test]
fn every_kind_of_value_reaches_the_unit() {
    let name = DomainName::try_from("web").expect("a plain name is one");
    let (facts, _) = facts::read(filled(&["1".to_owned()]).as_bytes(), &name);
    let around = Surroundings { devices: true, scope: Scope::System };
    let text = drop_in::text(&name, Path::new("/etc/glassbox/qemu/web.xml"), &facts, around);
    for part in [
        "(1)",
        "MemoryMax=1024",
        "/dev/1 7",
        "AllowedCPUs=1",
        "Slice=1.slice",
        "dev-1.device",
        "net-devices-1.device",
        "RequiresMountsFor=/1",
        "Wants=network-online",
        "LimitRTPRIO=1",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
