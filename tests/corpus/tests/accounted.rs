//! Every element and attribute of all inputs is implemented, or refused, or reported, or stands in
//! `no-effect.txt` with the reason why a guest is the same without it.
//!
//! The reader reports what nobody asked for, but asking is not implementing. So each attribute and element is
//! taken out or changed, one at a time, and what comes of the domain must change: QEMU's arguments, what else
//! the plan has, or the parts reported; or the domain is refused for a reason other than that the
//! value is no word or number at all. That the completed XML changes is not enough: what is only written back
//! again changes no guest.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use corpus::Outcome;
use domain::tree::{Element, Node};
use domain::{Fault, Severity};

/// What has no effect on a guest: a path, and why.
const NO_EFFECT: &str = include_str!("../no-effect.txt");

/// Words for attributes whose own message does not list them, and other forms of a text.
const WORDS: [&str; 12] =
    ["yes", "no", "on", "off", "1", "2", "0x10", "4096", "/other", "GiB", "bytes", "9.9.9.9"];

/// What messages say of values that are no word or number at all.
const SENSELESS: [&str; 3] = [" is not known", "' is no ", " is missing"];

/// The domains of libvirt's cases and of our own.
fn inputs() -> Option<Vec<PathBuf>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = corpus::corpus().join("cases");
    if !corpus.is_dir() {
        return None;
    }
    let entries = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let is_input = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".xml") && !name.ends_with(".out.xml")
    };
    let mut inputs: Vec<PathBuf> = entries(corpus).filter(is_input).collect();
    let own = entries(here.join("../../crates/qemu/tests/cases"));
    inputs.extend(own.map(|case| case.join("domain.xml")));
    inputs.push(here.join("../tidy/elements.xml"));
    inputs.sort();
    Some(inputs)
}

/// A place in a tree: which child at each step, counted among elements.
type Steps = Vec<usize>;

/// A part of a document: an element, or one of its attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// `/domain/devices/disk`, or `/domain/devices/disk@type`: the same for all disks, and for all images of
    /// a chain.
    name: String,
    steps: Steps,
    attribute: Option<usize>,
}

fn parts(element: &Element<'_>, path: &str, steps: &Steps, found: &mut Vec<Part>) {
    let again = element.qualified == "backingStore" && path.ends_with("/backingStore");
    let path = if again { path.to_owned() } else { format!("{path}/{}", element.qualified) };
    found.push(Part { name: path.clone(), steps: steps.clone(), attribute: None });
    for (index, attribute) in element.attributes.iter().enumerate() {
        if !attribute.name.starts_with("xmlns") {
            let name = format!("{path}@{}", attribute.name);
            found.push(Part { name, steps: steps.clone(), attribute: Some(index) });
        }
    }
    if element.qualified == "metadata" {
        return; // What is below belongs to others.
    }
    for (index, child) in element.elements().enumerate() {
        parts(child, &path, &[steps.as_slice(), &[index]].concat(), found);
    }
}

/// The element at `steps`.
fn at<'e, 'x>(root: &'e mut Element<'x>, steps: &[usize]) -> &'e mut Element<'x> {
    let Some((first, rest)) = steps.split_first() else { return root };
    let mut children = root.children.iter_mut().filter_map(|node| match node {
        Node::Element(element) => Some(element),
        Node::Text(_) => None,
    });
    at(children.nth(*first).unwrap(), rest)
}

/// The document without a part; nothing for the root.
fn without<'x>(root: &Element<'x>, part: &Part) -> Option<Element<'x>> {
    let mut root = root.clone();
    if let Some(index) = part.attribute {
        at(&mut root, &part.steps).attributes.remove(index);
        return Some(root);
    }
    let (last, parents) = part.steps.split_last()?;
    let parent = at(&mut root, parents);
    let mut elements =
        (0..).zip(&parent.children).filter(|(_, node)| matches!(node, Node::Element(_)));
    let (place, _) = elements.nth(*last).unwrap();
    parent.children.remove(place);
    Some(root)
}

/// The document with another value of an attribute, or another text of an element.
fn with<'x>(root: &Element<'x>, part: &Part, value: &str) -> Element<'x> {
    let mut root = root.clone();
    let element = at(&mut root, &part.steps);
    let value = Cow::Owned(value.to_owned());
    match part.attribute {
        Some(index) => element.attributes[index].value = value,
        None => {
            element.children.retain(|node| matches!(node, Node::Element(_)));
            element.children.push(Node::Text(value));
        }
    }
    root
}

/// What a part says now; nothing for an element that is not of text.
fn value(root: &Element<'_>, part: &Part) -> Option<String> {
    let mut root = root.clone();
    let element = at(&mut root, &part.steps);
    match part.attribute {
        Some(index) => Some(element.attributes[index].value.to_string()),
        None => Some(element.text().into_owned()).filter(|text| !text.is_empty()),
    }
}

/// What can be seen of a domain: in the plan, and in reports.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    plan: Vec<String>,
    reported: BTreeSet<String>,
}

/// Nothing when the domain is refused.
fn seen(outcome: &Outcome) -> Option<Seen> {
    let plan = outcome.plan.as_ref()?;
    let mut all = plan.arguments.clone();
    all.push(plan.emulator.clone());
    all.extend(plan.files.iter().map(|it| format!("{} {:?}", it.path, it.access)));
    all.extend(plan.copies.iter().map(|it| format!("{} {}", it.path, it.template)));
    all.extend(plan.written.iter().map(|it| format!("{it:?}")));
    all.extend(plan.consoles.iter().map(|it| format!("{it:?}")));
    all.extend(plan.environment.iter().map(|it| format!("{it:?}")));
    all.extend(plan.passwords.iter().map(|it| format!("{it:?}")));
    all.extend(
        plan.helpers.iter().map(|it| format!("{:?} {:?} {:?}", it.before, it.program, it.files)),
    );
    let pci = plan.pci_devices.iter();
    all.extend(pci.map(|it| format!("{} {:?}", it.address, it.driver)));
    all.extend(plan.unplugged.iter().map(|it| it.device.clone()));
    all.extend(plan.balloon.map(|bytes| bytes.to_string()));
    all.extend(plan.fds.iter().map(|it| format!("{:?}", it.kind)));
    all.extend(plan.threads.iter().map(|it| format!("{it:?}")));
    all.extend(plan.ready.iter().map(|it| format!("{it:?}")));
    let reported = outcome.faults.iter().filter(|fault| is_report(fault));
    Some(Seen { plan: all, reported: reported.map(|fault| fault.what.clone()).collect() })
}

/// Whether it says of a part that QEMU is not told of it, and who is, if anybody.
fn is_report(fault: &Fault) -> bool {
    match fault.severity {
        Severity::Ignored | Severity::Unit => true,
        Severity::Refused => false,
    }
}

/// The words that a refusal of `word` names instead.
fn words_for(outcome: &Outcome, word: &str) -> Vec<String> {
    let of_word = format!("'{word}' is not known; use ");
    let lists = outcome.faults.iter().filter_map(|fault| fault.what.split_once(&of_word));
    let words = lists.flat_map(|(_, words)| words.trim_start_matches("one of ").split(", "));
    words.flat_map(|words| words.split(" or ")).map(str::to_owned).collect()
}

/// Whether a change of the document is seen, or refused with good reason.
fn is_noticed(outcome: &Outcome, before: &Seen) -> bool {
    if let Some(after) = seen(outcome) {
        return after != *before;
    }
    let mut refusals = outcome.faults.iter().filter(|fault| fault.severity == Severity::Refused);
    refusals.any(|fault| !SENSELESS.iter().any(|words| fault.what.contains(words)))
}

/// Whether anything that is done to the part is noticed.
fn has_effect(root: &Element<'_>, before: &Seen, part: &Part) -> bool {
    let noticed = |root: &Element<'_>| is_noticed(&corpus::translate_tree(root), before);
    if without(root, part).is_some_and(|root| noticed(&root)) {
        return true;
    }
    let Some(value) = value(root, part) else { return false };
    let senseless = corpus::translate_tree(&with(root, part, "no-such-word"));
    if is_noticed(&senseless, before) {
        return true;
    }
    let words = words_for(&senseless, "no-such-word");
    // A word that is the only one says nothing, and one of the others that is refused says something.
    if words.iter().all(|word| *word == value) && !words.is_empty() {
        return true;
    }
    let counts = |word: &String| {
        let outcome = corpus::translate_tree(&with(root, part, word));
        seen(&outcome).is_none_or(|after| after != *before)
    };
    words.iter().any(counts) || others(&value).iter().any(|other| noticed(&with(root, part, other)))
}

/// Other values that an attribute or text may have instead of this one.
fn others(value: &str) -> Vec<String> {
    let mut others: Vec<String> = WORDS.map(str::to_owned).to_vec();
    others.push(format!("{value}1"));
    others.extend(value.parse::<u64>().map(|number| number.saturating_add(1).to_string()));
    // A name or identifier of the same form: vda becomes vdb.
    let mut letters: Vec<char> = value.chars().collect();
    if let Some(last) = letters.last_mut() {
        *last = if *last == 'b' || *last == '2' {
            'a'
        } else if last.is_ascii_digit() {
            '2'
        } else {
            'b'
        };
    }
    others.push(letters.into_iter().collect());
    others
}

/// Whether the part, or an element around it, is reported as a whole.
fn is_reported(outcome: &Outcome, part: &Part) -> bool {
    let reported = outcome.faults.iter().filter(|fault| is_report(fault));
    let mut paths = reported.filter(|it| !it.what.contains("attribute '")).map(|it| {
        let steps = it.path.split('/').map(|step| step.split('[').next().unwrap_or(step));
        let mut steps: Vec<&str> = steps.collect();
        steps.dedup_by(|a, b| a == b && *a == "backingStore"); // As in `parts`.
        steps.join("/")
    });
    paths.any(|path| {
        let below = part.name.strip_prefix(path.as_str());
        path != "/domain"
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    })
}

/// The rows of the table.
fn table() -> BTreeMap<&'static str, &'static str> {
    let rows = NO_EFFECT.lines().filter(|line| line.starts_with('/'));
    rows.map(|row| row.split_once(' ').unwrap_or((row, ""))).collect()
}

/// The parts of all inputs that make no difference anywhere, each with a file that has it.
fn without_effect(inputs: &[PathBuf]) -> BTreeMap<String, String> {
    let (mut proven, mut idle) = (BTreeSet::new(), BTreeMap::new());
    let mut refused = 0;
    for path in inputs {
        let text = std::fs::read_to_string(path).unwrap();
        let Ok(root) = domain::tree::parse(&text) else { continue };
        let outcome = corpus::translate_tree(&root);
        let Some(before) = seen(&outcome) else {
            refused += 1; // Whatever is in it, the guest does not start without.
            continue;
        };
        let mut found = Vec::new();
        parts(&root, "", &Vec::new(), &mut found);
        for part in found {
            if proven.contains(&part.name) {
                continue;
            }
            if is_reported(&outcome, &part) || has_effect(&root, &before, &part) {
                idle.remove(&part.name);
                proven.insert(part.name);
            } else {
                idle.entry(part.name).or_insert_with(|| path.display().to_string());
            }
        }
    }
    // An element says what its attributes and children say.
    let says = |name: &String| {
        proven
            .iter()
            .any(|it| it.starts_with(&format!("{name}@")) || it.starts_with(&format!("{name}/")))
    };
    idle.retain(|name, _| !says(name));
    eprintln!(
        "{} parts have an effect, {} have none; {refused} domains are refused",
        proven.len(),
        idle.len()
    );
    idle
}

#[test]
fn every_part_has_an_effect_or_a_reason_for_none() {
    let Some(inputs) = inputs() else {
        eprintln!("SKIP every_part_has_an_effect_or_a_reason_for_none: no folder ../shared/corpus");
        return;
    };
    let (idle, table) = (without_effect(&inputs), table());
    let unexplained: Vec<String> = idle
        .iter()
        .filter(|(name, _)| !table.contains_key(name.as_str()))
        .map(|(name, file)| format!("{name}: makes no difference, see {file}"))
        .collect();
    assert!(
        unexplained.is_empty(),
        "implement, refuse, report, or explain in no-effect.txt:\n{}",
        unexplained.join("\n")
    );
    let stale: Vec<&str> = table.keys().copied().filter(|name| !idle.contains_key(*name)).collect();
    assert!(stale.is_empty(), "these do make a difference; take them off no-effect.txt: {stale:?}");
    assert!(table.values().all(|reason| !reason.is_empty()), "each row gives its reason");
}
