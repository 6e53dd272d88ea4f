//! What is written back means the same: read and planned again, each domain of libvirt's cases and of ours
//! gives the same plan and the same text.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

fn xml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(xml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "xml") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What differs when a domain is completed, written, read and planned again; nothing for one that is refused.
fn differences(xml: &str) -> Option<Vec<String>> {
    let first = corpus::translate(xml);
    let (domain, plan) = (first.domain?, first.plan?);
    let written = domain.write();
    let again = corpus::translate(&written);
    let Some(plan_again) = again.plan else {
        return Some(again.faults.iter().map(|fault| fault.in_file("what was written")).collect());
    };
    let mut differences = Vec::new();
    for (before, after) in plan.arguments.iter().zip(&plan_again.arguments) {
        if before != after {
            differences.push(format!("{before}\n  became {after}"));
        }
    }
    if plan.arguments.len() != plan_again.arguments.len() {
        differences.push("another number of arguments".to_owned());
    }
    if again.domain.map(|domain| domain.write()).as_ref() != Some(&written) {
        differences.push("another text".to_owned());
    }
    Some(differences)
}

#[test]
fn what_is_written_plans_the_same() {
    let corpus = corpus::corpus().join("cases");
    if !corpus.is_dir() {
        eprintln!("SKIP what_is_written_plans_the_same: no folder ../shared/corpus");
        return;
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/qemu/tests/cases");
    let (mut wrong, mut planned) = (Vec::new(), 0);
    for path in xml_files(&corpus).into_iter().chain(xml_files(&own)) {
        let Some(differences) = differences(&std::fs::read_to_string(&path).unwrap()) else {
            continue;
        };
        planned += 1;
        wrong.extend(differences.iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(planned > 700, "only {planned} domains were planned");
    eprintln!("{planned} domains plan the same when they are written and read again");
}
