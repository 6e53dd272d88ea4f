//! Many guests at once whose names and definitions are hostile: the program ends well, writes units of theirs and nothing
//! else, and systemd has nothing to say of these.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::call::Call;
use crate::tree;
use crate::verify::{installed_units, units, verify};

#[path = "../../src/hostile/definition.rs"]
mod definition;

/// How many files there are for each kind of directory. One call takes them all, for a call costs more than a file.
const FILES: usize = 80;

/// Parts of names that mean something to systemd, to a shell or to a path.
const PARTS: &str =
    "(\\.\\.|%n|%i|\\$HOME|\\\\x2f|\\\\|\"|'|@|-|:|;|#| |\\n|\u{1b}|\\[Service\\]|ü|a){1,8}";

/// Names of files without `.xml`, none of them twice, with one as long as a directory takes.
fn names(runner: &mut TestRunner) -> Vec<String> {
    let mut names = vec!["a".repeat(251), ".".to_owned(), String::new()];
    names.extend((0..FILES).map(|_| PARTS.new_tree(runner).unwrap().current()));
    names.sort();
    names.dedup();
    names
}

/// A hostile definition that has its file's name.
fn document(runner: &mut TestRunner, name: &str) -> String {
    let text = definition::filled(&definition::values().new_tree(runner).unwrap().current());
    let name: String = name.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    text.replacen("<name>web<", &format!("<name>{name}<"), 1)
}

#[test]
fn no_name_and_no_definition_reaches_beyond_its_own_unit() {
    // The same at each run, so that a failure can be had again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/glassbox/qemu");
    fs::create_dir_all(directory.join("autostart")).unwrap();
    for (index, name) in names(&mut runner).iter().enumerate() {
        let file = format!("{name}.xml");
        fs::write(directory.join(&file), document(&mut runner, name)).unwrap();
        let target = if index % 2 == 0 { "../../../../../../tmp" } else { "/etc/passwd" };
        symlink(target, directory.join("autostart").join(&file)).unwrap();
    }
    let before = tree::read(&directory.join("autostart"));
    let outcome = Call::new(root.path()).run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert_eq!(tree::read(&directory.join("autostart")), before);

    let written = tree::read(&outcome.directory());
    let units = units(&written);
    assert!(units.len() > FILES / 2, "{} of {FILES} names are names of guests", units.len());
    for path in written.keys() {
        let drop_in = units.iter().any(|unit| *path == format!("normal/{unit}.d/50-glassbox.conf"));
        let link =
            units.iter().any(|unit| *path == format!("normal/multi-user.target.wants/{unit}"));
        // There are names of templates among them.
        let all_guests = path == "normal/qemu@.service.d/50-glassbox-templates.conf";
        assert!(drop_in || link || all_guests, "{path}");
    }
    told_by_systemd(&outcome.directory().join("normal"), &units);
}

fn told_by_systemd(generated: &Path, units: &[String]) {
    let installed = installed_units("--system");
    if let Some(messages) = verify("--system", &[generated, installed.path()], units) {
        assert_eq!(messages, "");
    }
}
