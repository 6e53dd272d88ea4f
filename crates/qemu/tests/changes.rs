//! Each folder of `tests/changes` is a case: a guest that was started with `live.xml`, whose definition is now
//! `wanted.xml`. `changes.txt` has what is done to the running guest, command by command, and what needs a restart.
//! `UPDATE_GOLDEN=1 cargo test -p qemu --test changes` writes what is got.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the cases are files; the crate itself opens none")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use domain::devices::{DeviceKind, DeviceRef};
use domain::{Domain, Faults, tree};
use qemu::{
    Access, Attachment, Changes, FdKind, HostFacts, Inherited, MonitorCommand, Opened, Receipt,
    StepKind,
};

fn folders(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The definition of a guest that runs, as it is kept while it runs: written, and read again.
fn started(xml: &str, facts: &HostFacts) -> Option<Domain> {
    let faults = Faults::new();
    let mut domain = Domain::parse(xml, &faults)?;
    qemu::complete(&mut domain, facts, &faults);
    let running = qemu::running(&domain, facts, &faults);
    if faults.any_refused() {
        return None;
    }
    let kept = Domain::parse_running(&running.write(), &faults).unwrap();
    assert_eq!(kept, running, "what is kept of a running guest is read back");
    Some(kept)
}

/// What a guest that was started with one definition lacks of another, and of the volumes that it has.
fn changes(live: &Domain, wanted: &str, facts: &HostFacts) -> Result<Changes, String> {
    let faults = Faults::new();
    let document = tree::parse(wanted).unwrap();
    let mut wanted = Domain::from_tree(&document, &faults).unwrap();
    qemu::keep_bound_volumes(live, &mut wanted);
    let changes = qemu::changes(live, &wanted, &document, facts, &faults);
    let told = faults.into_sorted();
    let told: Vec<String> = told.iter().map(|fault| fault.in_file("wanted.xml")).collect();
    changes.ok_or_else(|| told.join("\n"))
}

fn facts() -> HostFacts {
    HostFacts::local("web")
}

fn show(live: &Domain, changes: &Changes) -> String {
    let mut shown = String::new();
    for step in &changes.steps {
        writeln!(shown, "{}: {}", step.place.position, step.place.path).unwrap();
        shown.push_str(&show_step(live, changes, &step.kind));
    }
    for fault in &changes.restart {
        writeln!(shown, "restart {}", fault.in_file("wanted.xml")).unwrap();
    }
    let mut after = live.clone();
    changes.steps.iter().for_each(|step| changes.carried_out(step, &mut after));
    changes.take_over(&mut after);
    if changes.restart.is_empty() {
        let faults = Faults::new();
        let wanted = changes.wanted.write();
        let again = self::changes(&after, &wanted, &facts()).unwrap();
        assert!(again.steps.is_empty(), "done once is done: {:?}", again.steps);
        assert!(again.restart.is_empty(), "done once is done: {:?}", again.restart);
        assert!(!faults.any_refused());
    }
    shown
}

fn by_alias(domain: &Domain, kind: DeviceKind, alias: &str) -> DeviceRef {
    domain.devices.all(kind).find(|it| domain.devices.info(*it).alias() == alias).unwrap()
}

fn show_step(live: &Domain, changes: &Changes, kind: &StepKind) -> String {
    let facts = facts();
    match kind {
        StepKind::Detach { kind, alias } => {
            let goes = qemu::detachment(live, by_alias(live, *kind, alias), &facts).unwrap();
            let sets = goes.sets.iter().map(|set| format!("  remove-fd of {set}\n"));
            let first = format!("  device_del {}\n", goes.device);
            let rest = goes.afterwards.iter().map(|(name, what)| format!("  {name} {what}\n"));
            [first].into_iter().chain(rest).chain(sets).collect()
        }
        StepKind::Attach(device) => show_attachment(&attached(changes, *device, |inherited| {
            qemu::attachment(&changes.wanted, *device, &facts, inherited, 7).unwrap()
        })),
        StepKind::Medium(device) => {
            let alias = changes.wanted.devices.info(*device).alias();
            let old = by_alias(live, DeviceKind::Disk, alias);
            let (old, new) = ((live, old), (&changes.wanted, *device));
            let comes = attached(changes, *device, |inherited| {
                qemu::medium(old, new, &facts, inherited, 7).unwrap().0
            });
            let goes = qemu::medium(old, new, &facts, Inherited::default(), 7).unwrap().1;
            let mut shown = show_attachment(&comes);
            writeln!(shown, "  medium of {} is {:?}", goes.device, goes.node).unwrap();
            for (name, what) in &goes.afterwards {
                writeln!(shown, "  {name} {what}").unwrap();
            }
            goes.sets.iter().for_each(|set| shown.push_str(&format!("  remove-fd of {set}\n")));
            shown
        }
        StepKind::Link(device) => {
            let link = changes.wanted.devices.interfaces[device.index].link_up;
            format!("  link of {} {link:?}\n", changes.wanted.devices.info(*device).alias())
        }
        StepKind::Requested(device) => {
            let size = changes.wanted.devices.memories[device.index].target.requested;
            let alias = changes.wanted.devices.info(*device).alias();
            format!("  {alias} is to use {:?} bytes\n", size.map(|size| size.bytes()))
        }
        StepKind::Vcpus(count) => format!("  {count} CPUs\n"),
        StepKind::Balloon(bytes) => format!("  balloon {bytes}\n"),
    }
}

/// An attachment as it is when all its files were opened for it.
fn attached(
    changes: &Changes,
    device: DeviceRef,
    attach: impl Fn(Inherited) -> Attachment,
) -> Attachment {
    assert!(!changes.wanted.devices.info(device).alias().is_empty());
    let files = attach(Inherited::default()).files;
    let opened = files.iter().filter_map(|file| Some((file.descriptor.clone()?, file.access)));
    attach(opened.map(|(name, access)| (name, Opened::File(access))).collect())
}

fn show_attachment(attachment: &Attachment) -> String {
    let mut shown = String::new();
    for file in &attachment.files {
        let access = if file.access == Access::Read { "for reading" } else { "for writing" };
        writeln!(shown, "  file {} {access}", file.path).unwrap();
    }
    for fd in &attachment.fds {
        let kind = if let FdKind::Tap { bridge, queue, .. } = &fd.kind {
            format!("tap {queue} of {bridge:?}")
        } else if let FdKind::Inherited { name, index, .. } = &fd.kind {
            format!("{name} {index}")
        } else {
            format!("{:?}", fd.kind)
        };
        match &fd.receipt {
            Receipt::Name(name) => writeln!(shown, "  getfd {name}: {kind}").unwrap(),
            Receipt::Set { number, purpose } => {
                writeln!(shown, "  add-fd {number} {purpose}: {kind}").unwrap();
            }
        }
    }
    for MonitorCommand { name, arguments, undo } in &attachment.commands {
        writeln!(shown, "  {name} {arguments}").unwrap();
        if let Some((name, arguments)) = undo {
            writeln!(shown, "    else {name} {arguments}").unwrap();
        }
    }
    shown
}

#[test]
fn changes_are_those_of_the_case() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut broken = Vec::new();
    for folder in folders("changes") {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let facts = facts();
        let live = started(&read("live.xml"), &facts).expect("the case starts");
        let got = match changes(&live, &read("wanted.xml"), &facts) {
            Ok(changes) => show(&live, &changes),
            Err(told) => format!("refused {told}\n"),
        };
        if update {
            std::fs::write(folder.join("changes.txt"), &got).unwrap();
        } else if read("changes.txt") != got {
            broken.push(format!("{}:\n{got}", folder.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_guest_lacks_nothing_of_what_it_was_started_with() {
    let mut count = 0;
    for folder in folders("cases") {
        let xml = std::fs::read_to_string(folder.join("domain.xml")).unwrap();
        let facts = facts();
        let Some(live) = started(&xml, &facts) else { continue };
        count += 1;
        for wanted in [xml, live.write()] {
            let changes = changes(&live, &wanted, &facts).unwrap();
            assert_eq!(changes.steps, [], "{}", folder.display());
            assert_eq!(changes.restart, [], "{}", folder.display());
        }
    }
    assert!(count > 20, "only {count} cases start on this host");
}
