//! Each folder of `tests/cases` is a case: `domain.xml`, and `argv.txt` with the plan or `error.txt` with what
//! the user sees. `inherited.txt`, if there, has the file descriptors that the caller opened, a name and a kind a
//! line; `credentials.txt` those of the unit, a name and a number of bytes a line; `nbdkit.txt` the parts of nbdkit that
//! the host has for a guest of a unit; `host-lacks.txt` devices of the kernel that the host does not have, one a line.
//! `UPDATE_GOLDEN=1 cargo test -p qemu --test golden` writes what is got.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the cases are files; the crate itself opens none")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use domain::{CpuSet, Domain, Faults, MemorySize, NbdkitParts};
use qemu::{
    Access, Credential, FdKind, FirmwareDescriptor, Helper, HelperFacts, HelperInput, HostClock,
    HostFacts, HostNuma, HugePageFolder, Inherited, Invocation, Launch, LaunchPlan, NetworkFacts,
    Opened, ReadyAt, StartMode, ThreadCpus, ThreadPolicy, TunedThread, UsbDevice, VirtualNetwork,
};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// A host with two NUMA nodes, large pages, networks, USB devices, a swtpm, and firmware with and without secure boot.
fn host(name: &str) -> HostFacts {
    let nodes: Option<CpuSet> = CpuSet::from_numbers(0..2);
    let cpus = (0..2).map(|node| (node, CpuSet::from_numbers([node * 2, node * 2 + 1]).unwrap()));
    let firmware = ["secure.json", "plain.json", "arm.json"].map(|file| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firmware").join(file);
        FirmwareDescriptor::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
    });
    let local = HostFacts::local(name);
    let network = |mtu| VirtualNetwork { bridge: "virbr0".to_owned(), mtu };
    let refused =
        "/etc/glassbox/networks/broken.xml:2:3: /network/vlan: packets are not tagged; remove it";
    HostFacts {
        network: NetworkFacts {
            networks: [
                ("default".to_owned(), Ok(network(None))),
                ("large-packets".to_owned(), Ok(network(Some(9000)))),
                ("broken".to_owned(), Err(refused.to_owned())),
            ]
            .into(),
            ..local.network
        },
        numa: HostNuma { automatic: nodes.clone(), nodes, cpus: cpus.collect() },
        hugepages: vec![HugePageFolder {
            page: MemorySize::from_bytes(2 << 20),
            path: format!("/dev/hugepages/glassbox/{name}"),
        }],
        // Two of them are alike.
        usb_devices: Some(
            [(0x0627, 0x0001, 2), (0x0627, 0x0001, 3), (0x08e6, 0x4433, 4)]
                .map(|(vendor, product, device)| UsbDevice { vendor, product, bus: 1, device })
                .to_vec(),
        ),
        clock: Some(HostClock { now: 1_700_000_000, local_offset: 3600 }),
        firmware: firmware.to_vec(),
        ..local
    }
}

/// What the caller of a case opened.
fn inherited(case: &Path) -> Inherited {
    let text = std::fs::read_to_string(case.join("inherited.txt")).unwrap_or_default();
    let opened = |kind| match kind {
        "tap" => Opened::Tap,
        "vhost-net" => Opened::VhostNet,
        "vhost-vsock" => Opened::VhostVsock,
        "kvm" => Opened::Kvm,
        "file" => Opened::File(Access::ReadWrite),
        "file-for-reading" => Opened::File(Access::Read),
        "block" => Opened::Block(Access::ReadWrite),
        "block-for-reading" => Opened::Block(Access::Read),
        other => Opened::Other(format!("a {other}")),
    };
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), opened(kind)))
        .collect()
}

/// The credentials of a case's unit.
fn credentials(case: &Path) -> Vec<Credential> {
    let text = std::fs::read_to_string(case.join("credentials.txt")).unwrap_or_default();
    let credential = |(name, size): (&str, &str)| Credential {
        name: name.to_owned(),
        file: format!("/run/credentials/qemu@guest.service/{name}"),
        size: size.parse().unwrap(),
    };
    text.lines().map(|line| credential(line.split_once(' ').unwrap())).collect()
}

/// The programs beside the guest of a case that has nbdkit.
fn helpers(case: &Path) -> Option<HelperFacts> {
    let text = std::fs::read_to_string(case.join("nbdkit.txt")).ok()?;
    let has = |part| text.lines().any(|line| line == part);
    let parts = NbdkitParts { curl: has("curl"), ssh: has("ssh"), readahead: has("readahead") };
    Some(HelperFacts::of_units("/run/glassbox/companion/guest", parts))
}

/// Whether a case's host is without this device.
fn lacks(case: &Path, device: &str) -> bool {
    let text = std::fs::read_to_string(case.join("host-lacks.txt")).unwrap_or_default();
    text.lines().any(|line| line == device)
}

/// The name of the file that is expected, and its text.
fn translate(xml: &str, case: &Path) -> (&'static str, String) {
    let faults = Faults::new();
    let inherited = inherited(case);
    // The daemon's is left out, for all numbers of descriptors would be one more.
    let launch =
        Launch { start: StartMode::Boot, shim_monitor: true, daemon_monitor: false, inherited };
    let plan = Domain::parse(xml, &faults).and_then(|mut domain| {
        let mut facts = host(domain.name.as_str());
        facts.credentials = credentials(case);
        facts.helpers = helpers(case).unwrap_or(facts.helpers);
        facts.network.vhost_vsock = !lacks(case, "/dev/vhost-vsock");
        qemu::complete(&mut domain, &facts, &faults);
        if !faults.any_refused() {
            lasts(&domain, &facts);
        }
        qemu::plan(&domain, &facts, &launch, &faults)
    });
    let mut messages = String::new();
    for fault in faults.into_sorted() {
        writeln!(messages, "{}", fault.in_file("domain.xml")).unwrap();
    }
    match plan {
        Some(plan) => ("argv.txt", messages + &show(&plan)),
        None => ("error.txt", messages),
    }
}

/// Completing again changes nothing, and what is written reads back equal.
fn lasts(domain: &Domain, facts: &HostFacts) {
    let mut again = domain.clone();
    qemu::complete(&mut again, facts, &Faults::new());
    assert_eq!(&again, domain, "completing twice");
    let written = domain.write();
    let read = Domain::parse(&written, &Faults::new()).unwrap();
    assert_eq!(&read, domain, "{written}");
}

/// One option with its value a line, then what goes with them.
fn show(plan: &LaunchPlan) -> String {
    let mut text = plan.emulator.clone();
    for argument in &plan.arguments {
        let option = argument.starts_with('-');
        text.push(if option { '\n' } else { ' ' });
        text.push_str(argument);
    }
    text.push_str("\n\n");
    for fd in &plan.fds {
        writeln!(text, "fd {}: {}", fd.number, show_fd(&fd.kind)).unwrap();
    }
    for file in &plan.files {
        writeln!(text, "file {} {:?} {}", file.path, file.access, file.place.path).unwrap();
    }
    for copy in &plan.copies {
        writeln!(text, "copy {} of {} {}", copy.path, copy.template, copy.place.path).unwrap();
    }
    for helper in &plan.helpers {
        let Helper { service: _, device, before, program, inputs, socket, files, place } = helper;
        let show = |it: &Invocation| format!("{} {}", it.program, it.arguments.join(" "));
        for invocation in before {
            writeln!(text, "before {device} {}", show(invocation)).unwrap();
        }
        writeln!(text, "helper {} at {socket} for {}", show(program), place.path).unwrap();
        for (number, input) in (4..).zip(inputs) {
            writeln!(text, "helper's {number}: {}", show_input(input)).unwrap();
        }
        for file in files {
            writeln!(text, "helper's {} {:?} {}", file.path, file.access, file.place.path).unwrap();
        }
    }
    for console in &plan.consoles {
        writeln!(text, "console {} {}", console.alias, console.chardev).unwrap();
    }
    for device in &plan.pci_devices {
        let driver = device.driver.as_deref().map_or(String::new(), |it| format!(" taken by {it}"));
        writeln!(text, "pci {}{driver} {}", device.address, device.place.path).unwrap();
    }
    for link in &plan.unplugged {
        writeln!(text, "unplugged {} {}", link.device, link.place.path).unwrap();
    }
    for thread in &plan.threads {
        writeln!(text, "thread {}", show_thread(thread)).unwrap();
    }
    for (name, value) in &plan.environment {
        writeln!(text, "variable {name}={value}").unwrap();
    }
    if let Some(bytes) = plan.balloon {
        writeln!(text, "balloon {bytes}").unwrap();
    }
    if let Some(ready) = &plan.ready {
        writeln!(text, "ready in {} s at {}", ready.timeout.as_secs(), show_ready(&ready.at))
            .unwrap();
    }
    if let Some(vsock) = &plan.vsock {
        writeln!(text, "cid {} by {}", vsock.cid, vsock.place.path).unwrap();
    }
    for password in &plan.passwords {
        writeln!(text, "{password:?}").unwrap();
    }
    text
}

fn show_input(input: &HelperInput) -> String {
    match input {
        HelperInput::Text(text) => format!("text {text}"),
        HelperInput::File(file) => format!("file {} {}", file.path, file.place.path),
        HelperInput::Credential { name, place } => format!("credential {name} {}", place.path),
    }
}

fn show_ready(at: &ReadyAt) -> String {
    match at {
        ReadyAt::Port { name, socket } => format!("port {name} {socket}"),
        ReadyAt::Vsock { cid, port, place } => {
            format!("host's port {port} for cid {cid} by {}", place.path)
        }
        ReadyAt::VsockProgram { path, place } => format!("socket {path} by {}", place.path),
    }
}

fn show_thread(thread: &TunedThread) -> String {
    let mut text = format!("{:?}", thread.thread);
    if let Some(ThreadCpus { cpus, place }) = &thread.cpus {
        write!(text, " on {cpus} by {}", place.path).unwrap();
    }
    if let Some(ThreadPolicy { policy, priority, place }) = &thread.policy {
        write!(text, " {policy} {priority} by {}", place.path).unwrap();
    }
    text
}

/// A descriptor, with the path of an interface in place of all that the interface has.
fn show_fd(kind: &FdKind) -> String {
    match kind {
        FdKind::Tap { interface, bridge, queue } => {
            format!("Tap {} bridge {bridge:?} queue {queue}", interface.place.path)
        }
        FdKind::MacVtap { interface, queue } => {
            format!("MacVtap {} queue {queue}", interface.place.path)
        }
        FdKind::Vsock { cid, place } => format!("Vsock {} cid {cid}", place.path),
        FdKind::ShimMonitor
        | FdKind::DaemonMonitor
        | FdKind::Listener { .. }
        | FdKind::Output { .. }
        | FdKind::Device { .. }
        | FdKind::Connection { .. }
        | FdKind::Credential { .. } => format!("{kind:?}"),
        FdKind::Inherited { name, index, cache } => {
            let cache = cache.as_ref().map(|cache| (cache.bypassed, &cache.place.path));
            let how = match cache {
                None => String::new(),
                Some((true, image)) => format!(" past the host's cache, for {image}"),
                Some((false, image)) => format!(" by the host's cache, for {image}"),
            };
            format!("Inherited {name} {index}{how}")
        }
    }
}

#[test]
fn plans_and_messages_are_as_accepted() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let xml = std::fs::read_to_string(case.join("domain.xml")).unwrap();
        let (name, got) = translate(&xml, &case);
        if update {
            for old in ["argv.txt", "error.txt"].iter().filter(|old| **old != name) {
                let _ = std::fs::remove_file(case.join(old)); // Mostly there is none.
            }
            std::fs::write(case.join(name), &got).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(case.join(name)).unwrap_or_default();
        if expected != got {
            wrong.push(format!(
                "{}/{name}\n--- expected\n{expected}\n--- got\n{got}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!cases().is_empty());
}

#[test]
fn the_daemon_has_a_monitor_on_a_descriptor_of_its_own() {
    let xml = "<domain type='qemu'><name>web</name><memory unit='MiB'>16</memory>\
               <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";
    let launch = Launch { shim_monitor: true, daemon_monitor: true, ..Launch::default() };
    let faults = Faults::new();
    let mut domain = Domain::parse(xml, &faults).unwrap();
    let facts = host("web");
    qemu::complete(&mut domain, &facts, &faults);
    let plan = qemu::plan(&domain, &facts, &launch, &faults).unwrap();
    let at = plan.fds.iter().find(|fd| fd.kind == FdKind::DaemonMonitor).unwrap().number;
    let expected = [
        "-chardev".to_owned(),
        format!("socket,id=chardaemon,fd={at}"),
        "-mon".to_owned(),
        "chardev=chardaemon,id=daemon,mode=control".to_owned(),
    ];
    assert!(plan.arguments.windows(4).any(|words| words == expected), "{:?}", plan.arguments);
}
