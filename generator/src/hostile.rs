//! Whatever stands in a definition, its unit has the directives that the program means and no other.

use std::path::Path;

use domain::{
    DomainName, Faults, NbdkitParts, Network, NetworkName, TemplateInstance, UnitInstance,
};
use proptest::prelude::*;

use crate::drop_in::{self, DropIn, Surroundings};
use crate::environment::Scope;
use crate::facts::{self, Facts};
use crate::networkd;

mod definition;

use definition::{filled, referenced, value, values};

/// A machine with udev.
const AROUND: Surroundings =
    Surroundings { devices: true, scope: Scope::System, machine: Some([1; 16]) };

/// A host with all of nbdkit.
const NBDKIT: NbdkitParts = NbdkitParts { curl: true, ssh: true, readahead: true };

/// All that a drop-in may have.
const KEYS: [&str; 39] = [
    "SourcePath",
    "Description",
    "RequiresMountsFor",
    "BindsTo",
    "After",
    "Wants",
    "PartOf",
    "LoadCredential",
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

/// A network with a value between two `@` wherever it may have one.
const NETWORK: &str = "<network><name>lan</name><title>@Offices@</title><uuid>@c7a5fdbd-edaf-9455-926a-d65c16db1809@</uuid>
<forward mode='@nat@'><nat ipv6='@yes@'/></forward><bridge name='@virbr0@' stp='@on@' delay='@3@' zone='@z@'/>
<mac address='@52:54:00:11:22:33@'/><mtu size='@9000@'/><domain name='@lan.example@' localOnly='@no@'/>
<dns enable='@yes@'><forwarder addr='@192.0.2.53@'/><forwarder addr='@2001:db8::53@'/></dns>
<ip address='@10.1.2.1@' netmask='@255.255.255.0@' family='@ipv4@'><dhcp>
  <range start='@10.1.2.2@' end='@10.1.2.9@'><lease expiry='@2@' unit='@hours@'/></range>
  <host mac='@52:54:00:aa:bb:cc@' ip='@10.1.2.9@' name='@a@'/>
  <bootp file='@pxelinux.0@' server='@10.1.2.3@'/></dhcp></ip>
<ip family='ipv6' address='@fd00::1@' prefix='@64@'/>
<route address='@10.9.0.0@' prefix='@16@' gateway='@10.1.2.4@' metric='@2@'/></network>";

/// All that a network's files may have.
const NETWORK_KEYS: [&str; 42] = [
    "[Match]",
    "[Link]",
    "[NetDev]",
    "[Bridge]",
    "[Network]",
    "[Address]",
    "[DHCPServer]",
    "[DHCPServerStaticLease]",
    "[IPv6SendRA]",
    "[IPv6Prefix]",
    "[Route]",
    "[RoutingPolicyRule]",
    "Name",
    "Kind",
    "MACAddress",
    "MTUBytes",
    "STP",
    "ForwardDelaySec",
    "RequiredForOnline",
    "ConfigureWithoutCarrier",
    "LinkLocalAddressing",
    "IPv6AcceptRA",
    "IPMasquerade",
    "DHCPServer",
    "IPv6SendRA",
    "Address",
    "DuplicateAddressDetection",
    "ServerAddress",
    "PoolOffset",
    "PoolSize",
    "EmitRouter",
    "EmitDNS",
    "DNS",
    "SendOption",
    "DefaultLeaseTimeSec",
    "MaxLeaseTimeSec",
    "BootServerAddress",
    "BootFilename",
    "Prefix",
    "Domains",
    "RouterLifetimeSec",
    "Destination",
];

/// Those of rules and routes.
const ROUTING_KEYS: [&str; 8] =
    ["Gateway", "Metric", "Family", "IncomingInterface", "To", "Type", "Table", "Priority"];

/// The network with a value in one place, counted around; without one it is sound.
fn network_with(hostile: Option<(usize, &str)>) -> String {
    let places = NETWORK.matches('@').count() / 2;
    let parts = NETWORK.split('@').enumerate();
    parts
        .map(|(index, part)| {
            let here = |place: usize| index % 2 == 1 && index / 2 == place % places;
            match hostile.filter(|(place, _)| here(*place)) {
                Some((_, value)) => referenced(value),
                None => part.to_owned(),
            }
        })
        .collect()
}

/// The files of a network, and its drop-in, with what is refused left out.
fn network_files(text: &str) -> Vec<String> {
    let name = NetworkName::try_from("lan").expect("a plain name is one");
    let Some(network) = Network::parse(text, &name, &Faults::new()) else { return Vec::new() };
    let bridge = network.bridge_name();
    let source = Path::new("/etc/glassbox/networks/lan.xml");
    let title = network.title.as_deref();
    vec![
        networkd::netdev(&network, &bridge),
        networkd::network(&network, &bridge),
        drop_in::of_network(&name, source, title, Some(&bridge), AROUND),
    ]
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
        values in values(),
    ) {
        let name = DomainName::try_from("web").expect("a plain name is one");
        let (facts, faults) = facts::read(filled(&values).as_bytes(), &name, None, NBDKIT);
        prop_assert!(faults.is_empty(), "{:?}", faults);
        let all = drop_ins(&name, &facts);
        prop_assert_eq!(all.len(), 6);
        only_what_is_meant(&name, all)?;
    }

    #[test]
    fn no_guest_of_a_template_adds_a_directive(
        guest in prop_oneof![
            "[^/\\p{Cc}]{1,12}@[^/\\p{Cc}]{1,12}",
            "w@(\\\\|\\[Service\\]|ExecStart=|%n|%i|%|\\$HOME|\"|'|\\.\\.| |;|#|&lt;|<a/>|[0-9]){1,12}",
        ],
        template in prop::collection::vec("(%i|%p|%%|[ -$&-~]){0,6}", 1..8),
    ) {
        let Ok(guest) = DomainName::try_from(guest.as_str()) else { return Ok(()) };
        // A name with nothing before its '@' is no template's.
        let Some(instance) = TemplateInstance::of(&guest) else { return Ok(()) };
        // XML has no way to say such a name, so that it is refused.
        prop_assume!(guest.as_str().trim() == guest.as_str());
        let text = filled(&template).replace("<name>web</name>", "");
        let (facts, faults) = facts::read(text.as_bytes(), &guest, Some(instance), NBDKIT);
        prop_assert!(faults.is_empty() || faults[0].what.contains("begin with a dot"), "{:?}", faults);
        only_what_is_meant(&guest, drop_ins(&guest, &facts))?;
    }

    #[test]
    fn no_network_adds_a_line(place in 0_usize..64, value in value()) {
        for text in network_files(&network_with(Some((place, &value)))) {
            prop_assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{:?}", text);
            let keys = keys(&text);
            for key in &keys {
                let mut known = KEYS.iter().chain(&NETWORK_KEYS).chain(&ROUTING_KEYS);
                let known = key.is_empty() || key == "[Unit]" || known.any(|known| known == key);
                prop_assert!(known, "{:?} in {}", key, text);
            }
            for once in ["[Unit]", "[Match]", "[NetDev]", "[Network]", "[DHCPServer]", "Name", "Description"] {
                let times = keys.iter().filter(|key| *key == once).count();
                prop_assert!(times <= 1, "{} in {}", once, text);
            }
        }
    }
}

/// The drop-ins of a guest and of the programs beside it.
fn drop_ins(name: &DomainName, facts: &Facts) -> Vec<DropIn> {
    drop_in::all(name, Path::new("/etc/glassbox/qemu/web.xml"), facts, AROUND)
}

/// Whether the units are those that the definition asks for, and have no directive beside those that the program
/// writes, nor a line that would be one.
fn only_what_is_meant(name: &DomainName, all: Vec<DropIn>) -> Result<(), TestCaseError> {
    let guest = UnitInstance::from(name);
    let meant = [
        "qemu@%",
        "swtpm@%:tpm0",
        "virtiofsd@%:fs0",
        "passt@%:net0",
        "nbdkit@%:vda",
        "qemu-pr-helper@%:pr-helper0",
    ];
    let meant = meant.map(|unit| unit.replace('%', guest.as_str()) + ".service");
    for DropIn { unit, text } in all {
        prop_assert!(meant.contains(&unit.to_string()), "{}", unit);
        prop_assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{:?}", text);
        let mut sections = 0;
        for key in keys(&text) {
            sections += usize::from(key == "[Unit]" || key == "[Service]");
            let known = key.is_empty() || key.starts_with('[') || KEYS.contains(&key.as_str());
            prop_assert!(known, "{:?} in {}", key, text);
        }
        prop_assert!(sections <= 2, "{}", text);
    }
    Ok(())
}

/// Without this the property would hold of a network that reaches no file.
#[test]
fn every_kind_of_value_reaches_the_files_of_a_network() {
    let files = network_files(&network_with(None)).concat();
    for part in [
        "(Offices)",
        "virbr0",
        "SendOption=15:string:lan.example",
        "52:54:00:aa:bb:cc",
        "pxelinux.0",
        "DNS=2001:",
    ] {
        assert!(files.contains(part), "{part:?} is not in\n{files}");
    }
}

/// Without this the property would hold of a definition that reaches no unit.
#[test]
fn every_kind_of_value_reaches_the_unit() {
    let name = DomainName::try_from("web").expect("a plain name is one");
    let (facts, _) = facts::read(filled(&["1".to_owned()]).as_bytes(), &name, None, NBDKIT);
    let text: String = drop_ins(&name, &facts).into_iter().map(|it| it.text).collect();
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
        "BindPaths=-/1",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
