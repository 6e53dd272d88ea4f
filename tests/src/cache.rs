//! Things that take minutes to make, kept between runs: made once, under a lock, complete or not at all.
//!
//! An artifact's directory is named after the hash of its recipe, so a changed recipe makes a new directory and
//! two branches with different recipes do not disturb each other. Old directories are left to the user, for a
//! container of another branch may stand on them: `rm -r` the cache when no container runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache's directory: `$GLASSBOX_TEST_CACHE`, or `/var/cache/glassbox-test`.
pub fn directory() -> PathBuf {
    std::env::var_os("GLASSBOX_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/glassbox-test"), PathBuf::from)
}

/// The directory `KIND/NAME-HASH` of the cache, made by `build` when it isn't there yet.
///
/// `recipe` is any text that changes when the result would. `build` gets an empty directory, which takes its
/// final name only when `build` succeeded. Several processes may ask at once: one builds, the others wait.
///
/// # Errors
///
/// When the cache cannot be written, or whatever `build` returns.
pub fn artifact(
    kind: &str,
    name: &str,
    recipe: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = directory().join(kind);
    let path = folder.join(format!("{name}-{:016x}", fingerprint(recipe.as_bytes())));
    if path.is_dir() {
        return Ok(path);
    }
    fs::create_dir_all(&folder)
        .with_context(|| format!("{}: cannot be created", folder.display()))?;
    let _lock = lock(&folder.join(format!("{name}.lock")), &format!("{kind}/{name}"))?;
    if path.is_dir() {
        return Ok(path);
    }
    let unfinished = path.with_extension("unfinished");
    remove(&unfinished)?;
    fs::create_dir(&unfinished)?;
    build(&unfinished)?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

/// An exclusive lock on `path`, held until the returned file is dropped; says so when it has to wait.
///
/// # Errors
///
/// When the file cannot be created or locked.
pub fn lock(path: &Path, what: &str) -> Result<File> {
    let file = File::create(path)
        .with_context(|| format!("{}: cannot be created; run as root", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("[{what}] another process is making it; waiting");
        file.lock().with_context(|| format!("{}: cannot be locked", path.display()))?;
    }
    Ok(file)
}

/// Removes a directory tree that may not exist.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// The 64-bit FNV-1a hash, which (unlike the standard library's hasher) is the same in every Rust release.
///
/// The function is given at <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_fnv_1a() {
        assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fingerprint(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
