//! The product, installed by its own `make install` so that tests run what a user would have.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::cache;
use crate::process::stream;

/// Where the programs' sources are; a change in them makes the built programs stale.
const SOURCES: &[&str] = &["Cargo.lock", "Cargo.toml", "crates", "dbus", "generator", "shim"];

/// The repository that this library was built from.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds the product with `make build` when it is older than its sources.
///
/// # Errors
///
/// When it doesn't build.
pub fn build() -> Result<()> {
    let target = repository().join("target");
    fs::create_dir_all(&target)?;
    let _lock = cache::lock(&target.join(".glassbox-build.lock"), "build")?;
    if is_fresh()? {
        return Ok(());
    }
    let log = target.join("glassbox-build.log");
    stream("build", &log, make(&["build"])).context("the product does not build")
}

/// Installs the product with `make install` below `destination`.
///
/// # Errors
///
/// When a file of the product is missing.
pub fn stage(destination: &Path) -> Result<()> {
    fs::create_dir_all(destination)?;
    let log = destination.with_extension("log");
    let place = format!("DESTDIR={}", destination.display());
    let words = make(&["install", "PREFIX=/usr"]);
    stream("install", &log, words.into_iter().chain([place]))
        .context("the product cannot be installed")
}

fn make(words: &[&str]) -> Vec<String> {
    let repository = repository().display().to_string();
    let start = ["make", "--no-print-directory", "-C", &repository];
    start.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// Whether `make build` ran after the last change of the sources.
fn is_fresh() -> Result<bool> {
    // `make build` touches this file when it has succeeded.
    let profile = std::env::var("PROFILE").unwrap_or_else(|_| "release".to_owned());
    let stamp = repository().join(format!("target/.glassbox-built-{profile}"));
    let Ok(built) = fs::metadata(stamp) else { return Ok(false) };
    let built = built.modified()?;
    let mut newest = SystemTime::UNIX_EPOCH;
    for source in SOURCES {
        newest = newest.max(newest_below(&repository().join(source))?);
    }
    Ok(newest < built)
}

fn newest_below(path: &Path) -> Result<SystemTime> {
    // Links are not followed: test data has some to devices and to directories above them.
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(SystemTime::UNIX_EPOCH) };
    let mut newest = found.modified()?;
    if found.is_dir() {
        let entries =
            fs::read_dir(path).with_context(|| format!("{}: cannot be listed", path.display()))?;
        for entry in entries {
            newest = newest.max(newest_below(&entry?.path())?);
        }
    }
    Ok(newest)
}
