//! `tests/cases/NN-name`: `root` in, `expected` out, with the messages in `expected/stderr.txt`.
//!
//! A new case needs no Rust: make the folder with `root`, and `environment` with lines KEY=VALUE if it needs
//! one, run with `UPDATE_GOLDEN=1` and read the difference in git.

use std::fs;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::tree::{self, Entry, Tree};

#[test]
fn golden_cases() {
    let mut failures = vec![];
    let cases = cases();
    assert!(cases.len() >= 12, "only {} cases found", cases.len());
    for case in cases {
        let got = run(&case);
        let expected = case.join("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            tree::write(&expected, &got);
            continue;
        }
        let expected = tree::read(&expected);
        if got != expected {
            let [expected, got] = [expected, got].map(|tree| tree::show(&tree));
            failures.push(format!("{}\n-- expected\n{expected}-- got\n{got}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{}\n(UPDATE_GOLDEN=1 accepts what is got)", failures.join("\n"));
}

/// The folders of the cases in order.
pub(crate) fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The lines KEY=VALUE of a case's environment.
pub(crate) fn environment(case: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(case.join("environment")).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    text.lines().map(pair).collect()
}

/// What the program makes of a case.
pub(crate) fn run(case: &Path) -> Tree {
    let mut call = Call::new(&case.join("root"));
    for (key, value) in environment(case) {
        call = call.env(&key, &value);
    }
    let outcome = call.run();
    assert_eq!(outcome.status, 0, "{}: {}", case.display(), outcome.stderr);
    let mut tree = tree::read(&outcome.directory());
    tree.insert("stderr.txt".to_owned(), Entry::File(outcome.stderr));
    tree
}
