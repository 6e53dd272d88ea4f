//! The visible half of libvirt's cases must not be translated worse than it was.
//!
//! The corpus is looked for in `../shared/corpus` beside the repository, or where `GLASSBOX_CORPUS` says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What was reached when it was last written down: cases that are equal, and refusals as they should be.
const FLOOR: &str = include_str!("../floor.txt");

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let path = std::env::var_os("GLASSBOX_CORPUS").map_or(beside, PathBuf::from);
    path.join("libvirt-11.3/cases").is_dir().then_some(path)
}

fn floor(name: &str) -> usize {
    let mut lines = FLOOR.lines().filter_map(|line| line.split_once(' '));
    let number = lines.find(|(key, _)| *key == name).map(|(_, number)| number.parse().unwrap());
    number.unwrap()
}

/// The comparer's last line, such as `120 equal, 18 differ, 222 rejected of 360; 59 of 73 errors rejected`.
fn summary(corpus: &Path, comparer: &str, options: &str) -> String {
    let program = env!("CARGO_BIN_EXE_corpus-plan");
    let output = Command::new(corpus.join(comparer))
        .arg("--cases")
        .arg(corpus.join("libvirt-11.3/cases"))
        .args(["--plain", "--run", &format!("{program} {options}{{xml}}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

fn number_before(summary: &str, words: &str) -> usize {
    let before = summary.split(words).next().unwrap();
    assert_ne!(before, summary, "{summary:?} does not say {words:?}");
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

fn check(summary: &str, words: &str, floor_name: &str) {
    let (got, floor) = (number_before(summary, words), floor(floor_name));
    assert!(got >= floor, "{got} of {floor_name}, which were {floor}: {summary}");
    assert!(!summary.contains("crashed"), "{summary}");
    eprintln!("{floor_name}: {got} (floor {floor})");
}

#[test]
fn arguments_are_as_equal_as_they_were() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIP arguments_are_as_equal_as_they_were: no folder ../shared/corpus");
        return;
    };
    let summary = summary(&corpus, "argsdiff.py", "");
    check(&summary, " equal,", "arguments");
    check(&summary, " of 73 errors rejected", "refusals");
}

#[test]
fn completed_domains_are_as_equal_as_they_were() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIP completed_domains_are_as_equal_as_they_were: no folder ../shared/corpus");
        return;
    };
    check(&summary(&corpus, "xmldiff.py", "--xml "), " equal,", "domains");
}
