//! The rules of the house as tests: what CONTRIBUTING.md and ARCHITECTURE.md promise of the sources.
//!
//! Each test lists all that breaks its rule, with what to do about it. None of them needs root or the network.

// Clippy's own exception for tests does not reach the functions that several tests share.
#![allow(clippy::unwrap_used)]

mod arrows;
mod elements;
mod man;
mod purity;
mod sources;

use std::path::{Path, PathBuf};

/// The files of the repository below `directory`, in order: neither what is built nor what git keeps, and no links.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let name = entry.file_name();
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir()
            && ![".git", "target", "dist"].iter().any(|skipped| name == *skipped)
        {
            files.extend(self::files(&entry.path()));
        }
    }
    files.sort();
    files
}

/// The files of the repository whose names end in `suffix`, each with its path from the root and its text.
fn texts(suffix: &str) -> Vec<(String, String)> {
    let root = tests::install::repository();
    let wanted = files(root).into_iter().filter(|path| path.to_string_lossy().ends_with(suffix));
    wanted
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Fails with all lines of `broken`, if there are any.
#[track_caller]
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}
