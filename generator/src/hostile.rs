//! Whatever stands in a definition, its unit has the directives that the program means and no other.

use std::path::Path;

use domain::DomainName;
use proptest::prelude::*;

use crate::drop_in::{self, Surroundings};
use crate::environment::Scope;
use crate::facts;

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

/// A definition with `@` wherever text of its author reaches the unit.
const DEFINITION: &str = "<domain type='kvm'><name>web</name><title>@</title><memory>@</memory>
<memtune><hard_limit>@</hard_limit><soft_limit unit='@'>1</soft_limit></memtune>
<memoryBacking><hugepages/><locked/></memoryBacking>
<blkiotune><weight>@</weight><device><path>@</path><weight>300</weight></device>
  <device><path>/dev/@</path><read_bytes_sec>7</read_bytes_sec></device></blkiotune>
<vcpu cpuset='@'>2</vcpu><cputune><shares>@</shares><quota>@</quota><emulatorpin cpuset='@'/>
  <emulatorsched scheduler='fifo' priority='@'/></cputune>
<numatune><memory mode='@' nodeset='@'/></numatune>
<resource><partition>/@</partition></resource>
<os><kernel>@</kernel><initrd>/@</initrd><loader>/@</loader><acpi><table>@</table></acpi><nvram template='@'>/a/@</nvram></os>
<devices><disk type='file'><source file='@'/><backingStore><source file='/@'/></backingStore></disk>
  <disk type='block'><source dev='@'/></disk><disk type='block'><source dev='/dev/@'/></disk>
  <disk type='network'><source protocol='@'><host name='@' transport='@'/></source></disk>
  <filesystem><source dir='@'/></filesystem><emulator>/@</emulator>
  <serial type='@'><source path='@'/></serial><serial type='dev'><source path='/dev/@'/></serial>
  <console type='pipe'><source path='/@'/></console><channel type='unix'><source path='/@:@'/></channel>
  <input><source evdev='/dev/@'/></input><rng><backend model='random'>/dev/@</backend></rng>
  <interface type='bridge'><source bridge='@'/></interface>
  <interface type='direct'><source dev='@'/></interface>
  <hostdev type='pci'><source><address bus='@'/></source></hostdev></devices></domain>";

/// The definition with each `@` replaced by the next of `values`, in turns.
fn filled(values: &[String]) -> String {
    let mut values = values.iter().cycle();
    let mut text = String::new();
    for (index, part) in DEFINITION.split('@').enumerate() {
        if index > 0 {
            for c in values.next().expect("a cycle has no end").chars() {
                // References, so that line ends and quotes come through as they are.
                let plain = c.is_ascii_alphanumeric();
                if plain { text.push(c) } else { text.push_str(&format!("&#{};", u32::from(c))) }
            }
        }
        text.push_str(part);
    }
    text
}

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
        values in prop::collection::vec(
            prop_oneof![
                "[\t\n\r -~\u{80}-\u{2ff}]{0,24}",
                "(\\\\|\n|\r|\\[Service\\]|ExecStart=/|%n|%|\\$HOME|\"|'|\\.\\./|/| |;|#|[0-9]){0,12}",
                "[0-9]{1,20}",
                Just("a".repeat(65_536)),
            ],
            1..8,
        ),
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
