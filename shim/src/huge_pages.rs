//! A folder of the guest's own on each mount of large pages, made by root for the guest's account.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::PathBuf;

use domain::{Domain, UnitInstance};

use crate::facts::memory::mounted_huge_pages;

/// Makes the folders of a guest that takes large pages, for the account with this user and group.
///
/// # Errors
/// When a folder cannot be made or given away.
pub(crate) fn grant(
    domain: &Domain,
    instance: &UnitInstance,
    account: Option<(u32, u32)>,
) -> io::Result<()> {
    let Some((user, group)) = account else { return Ok(()) };
    if domain.memory_backing.hugepages.is_none() {
        return Ok(());
    }
    for folder in folders(instance) {
        if let Some(common) = folder.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(common)?;
        }
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => chown(&folder, Some(user), Some(group))?,
        }
    }
    Ok(())
}

/// Removes the folders of a guest that has ended. QEMU keeps no file in them.
pub(crate) fn take_back(instance: &UnitInstance) {
    for folder in folders(instance) {
        // Most guests have none, and what is left of one is there for the next start.
        drop(fs::remove_dir(folder));
    }
}

fn folders(instance: &UnitInstance) -> impl Iterator<Item = PathBuf> {
    let mounts = mounted_huge_pages().into_iter();
    mounts.map(|mount| PathBuf::from(mount.path).join("glassbox").join(instance.directory()))
}
