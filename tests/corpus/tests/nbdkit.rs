//! Images that nbdkit serves, as libvirt's cases for a host with nbdkit have them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::NbdkitParts;
use qemu::{Launch, NbdkitFacts, SocketPath};
use serde_json::{Value, json};

/// What the list of cases says of those that need nbdkit.
const WITH_NBDKIT: &str = "QEMU_NBDKIT_CAPS_PLUGIN";

#[test]
fn images_behind_nbdkit_are_those_of_libvirt() {
    let cases = corpus::corpus().join("cases");
    let Ok(list) = std::fs::read_to_string(cases.join("CASES.tsv")) else {
        eprintln!(
            "SKIP images_behind_nbdkit_are_those_of_libvirt: {} is not there",
            cases.display()
        );
        return;
    };
    let names = list.lines().filter(|line| line.contains(WITH_NBDKIT));
    let names: Vec<&str> = names.filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let text =
            |ending| std::fs::read_to_string(cases.join(format!("{name}.{ending}"))).unwrap();
        let (xml, expected) = (text("xml"), text("args"));
        let root = domain::tree::parse(&xml).unwrap();
        let outcome = corpus::translate_for(&root, &Launch::default(), |facts| {
            let parts = NbdkitParts { curl: true, ssh: true, readahead: true };
            let folder = &facts.directories.guest;
            let socket = SocketPath::new(format!("{folder}/nbdkit-"), ".socket");
            facts.helpers.nbdkit = Some(NbdkitFacts { parts, socket, supervised: false });
        });
        let plan = outcome.plan.unwrap_or_else(|| panic!("{name}: {:?}", outcome.faults));
        let planned = plan.arguments.iter().filter_map(|argument| node(argument));
        let expected = expected.lines().filter_map(|line| node(line.trim_end_matches(" \\")));
        assert_eq!(planned.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
    }
}

/// A block node of an argument. Sockets have a name of the node's in libvirt and of the disk's here.
fn node(argument: &str) -> Option<Value> {
    let text = argument.trim_start_matches("-blockdev ").trim_matches('\'');
    let mut node: Value = serde_json::from_str(text).ok()?;
    node.get("node-name")?;
    if let Some(path) = node.pointer_mut("/server/path") {
        let (folder, _) = path.as_str()?.rsplit_once("/nbdkit-")?;
        *path = json!(folder);
    }
    Some(node)
}
