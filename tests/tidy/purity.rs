//! The lint that keeps crates/ pure, seen to fail.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a hurried author might add to a crate.
const BREACH: &str = "
/// Reads a definition.
///
/// # Errors
/// When the file cannot be read.
pub fn breach(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}
";

#[test]
fn opening_a_file_in_crates_fails_the_build() {
    let workspace = tempfile::tempdir().unwrap();
    copy_workspace_of_domain(workspace.path());
    let library = workspace.path().join("crates/domain/src/lib.rs");
    let text = fs::read_to_string(&library).unwrap();
    fs::write(&library, text + BREACH).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--offline", "--quiet", "--package", "domain", "--", "-D", "warnings"])
        .current_dir(workspace.path())
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("purity"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "clippy let a file be opened in crates/:\n{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
    let expected = [
        "error: use of a disallowed method `std::fs::read_to_string`",
        "error: could not compile `domain` (lib) due to 1 previous error",
    ];
    assert_eq!(errors, expected, "the breach is the only fault:\n{said}");
    assert!(said.contains("= note: crates/ opens no file; take the content"), "{said}");
}

/// A workspace with the crate `domain` alone, under the settings of this one.
fn copy_workspace_of_domain(to: &Path) {
    let from = tests::install::repository();
    fs::create_dir(to.join("crates")).unwrap();
    for file in ["Cargo.lock", "clippy.toml", "crates/clippy.toml"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    for source in super::files(&from.join("crates/domain")) {
        let target = to.join(source.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&source, &target).unwrap();
    }
    let manifest = fs::read_to_string(from.join("Cargo.toml")).unwrap();
    let (before, rest) = manifest.split_once("members = [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    fs::write(to.join("Cargo.toml"), format!("{before}members = [\"crates/domain\"]{after}"))
        .unwrap();
}
