//! Who may depend on whom. The arrows of ARCHITECTURE.md, as a table.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::none;

/// Each package of the workspace with the packages of the workspace that it may link.
///
/// A new arrow is a change of the design: a commit of its own that says why, with a line here.
const ARROWS: [(&str, &[&str]); 12] = [
    ("domain", &[]),
    ("qemu", &["domain"]),
    ("qmp", &[]),
    ("dbus-api", &["domain"]),
    ("definitions", &[]),
    ("footprint", &[]),
    ("glassbox-generator", &["domain"]),
    ("shim", &["dbus-api", "domain", "footprint", "qemu", "qmp"]),
    ("glassboxctl", &["definitions", "domain"]),
    ("glassboxd", &["dbus-api", "definitions", "domain", "footprint", "qmp"]),
    ("corpus", &["domain", "qemu"]),
    // The end-to-end tests use the programs as they are installed.
    ("tests", &[]),
];

/// What the generator must not link, directly or not: it runs before everything else at each boot.
const NOT_IN_THE_GENERATOR: [&str; 5] = ["clap", "clap_builder", "tokio", "tracing", "zbus"];

/// What a crate below crates/ must not link, directly or not: it neither waits nor reaches outside.
const NOT_IN_CRATES: [&str; 8] =
    ["clap", "libc", "nix", "rand", "rustix", "tokio", "tracing", "zbus"];

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output =
        command.args(arguments).current_dir(tests::install::repository()).output().unwrap();
    let words = arguments.join(" ");
    assert!(output.status.success(), "cargo {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace with their dependencies in it, those of tests left out.
fn workspace() -> BTreeMap<String, Vec<String>> {
    let text = cargo(&["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (word(&package["name"]), local_dependencies(package))).collect()
}

fn local_dependencies(package: &Value) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    let linked = dependencies.filter(|dependency| dependency["kind"] != "dev");
    linked.filter(|it| it["path"].is_string()).map(|it| word(&it["name"])).collect()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// All that a package links, by `cargo tree`.
fn linked(package: &str) -> Vec<String> {
    let words = ["tree", "--offline", "--edges=normal", "--prefix=none", "--package", package];
    let tree = cargo(&words);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn arrows_point_inward() {
    let allowed = BTreeMap::from(ARROWS);
    let mut broken = Vec::new();
    for (package, dependencies) in workspace() {
        let Some(allowed) = allowed.get(package.as_str()) else {
            broken.push(format!("{package} is not in the table"));
            continue;
        };
        let new = dependencies.iter().filter(|name| !allowed.contains(&name.as_str()));
        broken.extend(new.map(|name| format!("{package} -> {name}")));
    }
    none("each arrow between packages is in the table of tests/tidy/arrows.rs", &broken);
}

#[test]
fn the_generator_links_no_runtime_and_no_bus() {
    let broken: Vec<String> = linked("glassbox-generator")
        .into_iter()
        .filter(|name| NOT_IN_THE_GENERATOR.contains(&name.as_str()))
        .collect();
    none("glassbox-generator must stay small and quick, and does not link", &broken);
}

#[test]
fn the_pure_crates_link_nothing_that_reaches_outside() {
    let mut broken = Vec::new();
    for package in ["domain", "qemu", "qmp"] {
        let outside =
            linked(package).into_iter().filter(|name| NOT_IN_CRATES.contains(&name.as_str()));
        broken.extend(outside.map(|name| format!("{package} -> {name}")));
    }
    none("crates/ is pure: values in, values out, and does not link", &broken);
}
