//! Rules that the text of the sources must keep.

use super::{files, none, texts};

/// A file that is longer holds two subjects. Its tests are not counted.
const LONGEST_FILE: usize = 600;

/// Names that tell nothing of what is inside, so that everything ends up there.
const FORBIDDEN_NAMES: [&str; 5] = ["util", "utils", "common", "helpers", "misc"];

/// The one file of each program that may be `unsafe`, and that of the library for both.
const UNSAFE_FILES: [&str; 3] =
    ["dbus/daemon/src/inherited.rs", "footprint/src/lib.rs", "shim/src/sys.rs"];

/// The files that make processes of other programs: the shim's, which starts QEMU, and one that asks our own programs
/// about definitions.
const STARTS_PROCESSES: [&str; 2] = ["shim/src/sys.rs", "dbus/ctl/src/programs.rs"];

/// Ways to make a process, each the words of one line.
const WAYS: [&[&str]; 4] = [&["process::", "Command"], &["fork("], &["posix_spawn"], &["execv"]];

/// The code of a file without its tests, which stand at its end.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

/// Whether a file has nothing but tests.
fn is_test(name: &str) -> bool {
    name.ends_with("_tests.rs")
        || name.ends_with("/tests.rs")
        || name.contains("/tests/")
        || name.contains("/benches/")
        || (name.starts_with("tests/") && !name.starts_with("tests/src/"))
}

#[test]
fn no_file_is_longer_than_its_subject() {
    let broken: Vec<String> = texts(".rs")
        .iter()
        .filter(|(name, _)| !is_test(name))
        .map(|(name, text)| (name, code(text).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(name, lines)| format!("{name} has {lines} lines without its tests"))
        .collect();
    none(&format!("a file has at most {LONGEST_FILE} lines; split it by subject"), &broken);
}

#[test]
fn no_name_is_a_lumber_room() {
    let root = tests::install::repository();
    let broken: Vec<String> = files(root)
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned())
        .filter(|path| {
            let mut parts = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
            parts.any(|part| FORBIDDEN_NAMES.contains(&part))
        })
        .collect();
    none("a file or folder is named after what it provides", &broken);
}

#[test]
fn unsafe_code_stays_in_one_file_of_each_program() {
    let permission = concat!("unsafe", "_code)");
    let broken: Vec<String> = texts(".rs")
        .into_iter()
        .filter(|(name, text)| text.contains(permission) && !UNSAFE_FILES.contains(&name.as_str()))
        .map(|(name, _)| name)
        .collect();
    none("only these files may allow unsafe code; move it into one of them", &broken);
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let broken: Vec<String> = texts("Cargo.toml")
        .into_iter()
        .filter(|(name, _)| name != "Cargo.toml")
        // A workspace of its own, such as the fuzz targets', has no lints of this one to take.
        .filter(|(_, text)| !text.lines().any(|line| line == "[workspace]"))
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true"))
        .map(|(name, _)| name)
        .collect();
    none("a Cargo.toml has [lints] with workspace = true", &broken);
}

#[test]
fn only_the_shim_starts_processes() {
    let mut broken = Vec::new();
    for (name, text) in texts(".rs") {
        let of_product = !name.starts_with("tests/") && !is_test(&name);
        if !of_product || STARTS_PROCESSES.contains(&name.as_str()) {
            continue;
        }
        let starts =
            |line: &&str| WAYS.iter().any(|way| way.iter().all(|word| line.contains(word)));
        broken.extend(
            code(&text).lines().filter(starts).map(|line| format!("{name}: {}", line.trim())),
        );
    }
    none("guests have one way to start, shim/src/sys.rs; everything else asks systemd", &broken);
}

#[test]
fn documents_name_no_file_that_is_not_there() {
    let root = tests::install::repository();
    let mut broken = Vec::new();
    for (name, text) in texts(".md") {
        for link in links(&text) {
            let folder = root.join(&name).parent().unwrap().to_owned();
            if !folder.join(link).exists() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    none("a link in a document leads to a file of the repository", &broken);
}

/// The targets of a document's links to files, `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}
