//! What holds for every domain: writing and reading give the same, completing twice changes nothing, planning
//! is repeatable, ids are unique, and a guest lacks nothing of the definition that it was started with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use domain::{Domain, Faults, tree};
use proptest::prelude::*;
use qemu::{HostFacts, Launch};

/// Devices that a domain can have any number of.
const MANY: [&str; 24] = [
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
    "<interface type='user'><model type='e1000'/><link state='down'/></interface>",
    "<interface type='bridge'><source bridge='br0'/><model type='virtio'/><driver queues='2'/>\
     <bandwidth><inbound average='5'/></bandwidth><vlan><tag id='7'/></vlan>\
     <virtualport type='openvswitch'/></interface>",
    "<interface type='ethernet'><source><ip address='10.0.0.1' prefix='8'/></source></interface>",
    "<interface type='direct'><source dev='eth0'/></interface>",
    "<interface type='mcast'><source address='230.0.0.1' port='5'/></interface>",
    "<interface type='user'><portForward proto='tcp'><range start='5' to='6'/></portForward>\
     <backend type='passt'/></interface>",
    "<redirdev type='tcp'><source host='h' service='5'/></redirdev>",
    "<hub type='usb'/>",
    "<hostdev type='usb'><source><vendor id='1'/><product id='2'/></source></hostdev>",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<channel type='pty'><target type='virtio'/></channel>",
    "<serial type='pty'><log file='/a&amp;b' append='on'/></serial>",
    "<serial type='tcp'><source mode='bind' host='::1' service='x'/></serial>",
    "<rng model='virtio'><rate bytes='5'/><backend model='random'>/dev/urandom</backend></rng>",
    "<rng model='virtio-transitional'><backend model='builtin'/></rng>",
    "<input type='keyboard' bus='virtio'/>",
    "<controller type='pci' model='pcie-root-port'/>",
    "<controller type='scsi' model='virtio-scsi'/>",
    "<controller type='sata'/>",
    "<channel type='udp'><source mode='connect' service='1'/><target type='virtio'/></channel>",
    "<sound model='virtio' streams='2'/>",
    "<shmem name='a'><model type='ivshmem-plain'/></shmem>",
    "<video><model type='virtio'/></video>",
];

fn xml(machine: &str, devices: &[&str], disks: &[(char, bool)]) -> String {
    let disks: Vec<String> = disks
        .iter()
        .map(|(letter, virtio)| {
            let (prefix, bus) = if *virtio { ("vd", "virtio") } else { ("sd", "sata") };
            format!(
                "<disk type='file'><driver type='qcow2' cache='none'/><source file='/{letter}'/>\
                 <target dev='{prefix}{letter}' bus='{bus}'/></disk>"
            )
        })
        .collect();
    format!(
        "<domain type='qemu'><name>a,b</name><title>&lt;t&gt;</title><memory unit='MiB'>64</memory>\
         <os><type machine='{machine}'>hvm</type></os><features><acpi/></features>\
         <devices><graphics type='vnc'><listen type='address' address='::'/></graphics>\
         {}{}</devices></domain>",
        devices.concat(),
        disks.concat()
    )
}

fn domains() -> impl Strategy<Value = String> {
    let devices = prop::collection::vec(prop::sample::select(MANY.as_slice()), 0..40);
    let disks = prop::collection::btree_map(prop::char::range('a', 'z'), any::<bool>(), 0..8);
    (any::<bool>(), devices, disks).prop_map(|(q35, devices, disks)| {
        let devices: Vec<&str> =
            devices.into_iter().filter(|d| q35 || !d.contains("root-port")).collect();
        let disks: Vec<(char, bool)> = disks.into_iter().collect();
        xml(if q35 { "q35" } else { "pc" }, &devices, &disks)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn domains_keep_their_meaning(xml in domains()) {
        let faults = Faults::new();
        let mut domain = Domain::parse(&xml, &faults).unwrap();
        let facts = HostFacts::default();
        qemu::complete(&mut domain, &facts, &faults);

        let mut again = domain.clone();
        qemu::complete(&mut again, &facts, &faults);
        prop_assert_eq!(&again, &domain, "completing twice");

        let written = domain.write();
        let read = Domain::parse(&written, &faults).unwrap();
        prop_assert_eq!(&read, &domain, "writing and reading {}", written);

        let running = qemu::running(&domain, &facts, &faults);
        let live = Domain::parse_running(&running.write(), &faults).unwrap();
        prop_assert_eq!(&live, &running, "a running guest, written and read");
        for document in [&xml, &live.write()] {
            let root = tree::parse(document).unwrap();
            let wanted = Domain::from_tree(&root, &faults).unwrap();
            let changes = qemu::changes(&live, &wanted, &root, &facts, &faults).unwrap();
            prop_assert_eq!(changes.steps, vec![], "{}", document);
            prop_assert_eq!(changes.restart, vec![], "{}", document);
        }

        let launch = Launch::default();
        let plan = qemu::plan(&domain, &facts, &launch, &faults);
        prop_assert_eq!(faults.into_sorted(), vec![]);
        let plan = plan.unwrap();
        prop_assert_eq!(&qemu::plan(&domain, &facts, &launch, &Faults::new()), &Some(plan.clone()));

        let ids: Vec<&str> = plan.arguments.iter().filter_map(|argument| {
            argument.split_once("\"id\":\"")?.1.split('"').next()
        }).collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        prop_assert_eq!(unique.len(), ids.len(), "{:?}", ids);
    }
}
