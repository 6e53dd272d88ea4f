//! Layers that have a program of crates.io, for what Debian's releases do not have yet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;
use crate::process::stream;

/// The target is named so that the flags do not count for what runs while the program is built.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Linked whole, so that it runs on every root, whichever C library this machine has.
const FLAGS: &str = "RUSTFLAGS=-C target-feature=+crt-static";

/// The layer that has this version of a program in `/usr/local/bin`; made when the cache lacks it (about a minute, with
/// the network).
///
/// # Errors
///
/// When it has to be made, and cargo cannot fetch or build it.
pub(crate) fn prepare(name: &str, version: &str) -> Result<PathBuf> {
    let recipe = [name, version, TARGET, FLAGS].join("\n");
    let artifact = cache::artifact("crates", name, &recipe, |unfinished| {
        eprintln!("[crates {name}] building version {version} of crates.io, about a minute");
        build(name, version, unfinished)
    })?;
    Ok(artifact.join("layer"))
}

fn build(name: &str, version: &str, unfinished: &Path) -> Result<()> {
    let (built, installed) = (unfinished.join("target"), unfinished.join("installed"));
    let [target, root] =
        [&built, &installed].map(|path| path.to_str().context("the cache's path is UTF-8"));
    let target = format!("CARGO_TARGET_DIR={}", target?);
    let words = ["env", FLAGS, &target, "cargo", "install", "--locked", "--target", TARGET];
    let words = words.into_iter().chain(["--version", version, "--root", root?, name]);
    stream("crates", &unfinished.join("log"), words)?;
    let programs = unfinished.join("layer/usr/local/bin");
    fs::create_dir_all(&programs)?;
    fs::copy(installed.join("bin").join(name), programs.join(name))?;
    cache::remove(&built)?;
    cache::remove(&installed)
}
