//! Devices of the host that QEMU opens by path, lent to the guest's account for as long as the guest runs.
//!
//! What can be opened for QEMU is, and keeps its owner. Devices of VFIO, USB and of people's input cannot: QEMU wants
//! their paths. Their files belong to the guest's account meanwhile, as libvirt does it. A note tells whose they were.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use domain::UnitInstance;
use qemu::{Access, LaunchPlan};

use crate::host_files::devices;
use crate::log;
use crate::provide::make_folder;

/// Where it is noted whose the devices of a guest are.
const NOTES: &str = "/run/glassbox/lent";

/// The account of a guest: user and group.
pub(crate) type Account = (u32, u32);

/// Gives the guest's account what its plan has QEMU open by path below `/dev`.
///
/// # Errors
/// When the note cannot be written; nothing is lent then.
pub(crate) fn lend(
    plan: &LaunchPlan,
    instance: &UnitInstance,
    account: Option<Account>,
) -> io::Result<()> {
    let Some(account) = account else { return Ok(()) };
    lend_to(account, wanted(plan), &note(instance))
}

/// Gives back what was lent to the guest.
pub(crate) fn take_back(instance: &UnitInstance) {
    let note = note(instance);
    if let Err(error) = give_back(&note)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warning(format_args!("{}: {error}; devices stay the guest's", note.display()));
    }
}

fn note(instance: &UnitInstance) -> PathBuf {
    Path::new(NOTES).join(instance.directory())
}

/// The devices that QEMU opens itself: files of the plan, and the groups of VFIO (`Documentation/driver-api/vfio.rst`).
fn wanted(plan: &LaunchPlan) -> Vec<PathBuf> {
    let opened: Vec<&str> = plan.fds.iter().flat_map(|passed| devices(&passed.kind)).collect();
    let by_path = plan.files.iter().filter(|file| {
        file.descriptor.is_none()
            && file.access != Access::Read
            && file.path.starts_with("/dev/")
            && !opened.contains(&file.path.as_str())
    });
    let groups = plan.pci_devices.iter().filter_map(|device| {
        let link = format!("/sys/bus/pci/devices/{}/iommu_group", device.address);
        Some(Path::new("/dev/vfio").join(fs::read_link(link).ok()?.file_name()?))
    });
    by_path.map(|file| PathBuf::from(&file.path)).chain(groups).collect()
}

fn lend_to((user, group): Account, paths: Vec<PathBuf>, note: &Path) -> io::Result<()> {
    let others = lent_to_others(note);
    // One that is missing is told by the element that names it.
    let owners = paths
        .into_iter()
        .filter(|path| !others.contains(path))
        .filter_map(|path| Some((fs::metadata(&path).ok()?, path)));
    let lent: Vec<_> = owners
        .filter(|(file, _)| file.file_type().is_char_device() || file.file_type().is_block_device())
        .filter(|(file, _)| file.permissions().mode() & 0o006 != 0o006 && file.uid() != user)
        .collect();
    if lent.is_empty() {
        return Ok(());
    }
    let line = |(file, path): &(fs::Metadata, PathBuf)| {
        format!("{} {} {}\n", file.uid(), file.gid(), path.display())
    };
    make_folder(note, 0o700)?;
    // Before the first changes its owner, so that each is given back whatever comes between.
    fs::write(note, lent.iter().map(line).collect::<String>())?;
    for (_, path) in &lent {
        chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

/// The devices that other guests have, each of which is given back to its true owner when its guest has ended.
fn lent_to_others(note: &Path) -> Vec<PathBuf> {
    let notes = note.parent().and_then(|folder| fs::read_dir(folder).ok());
    let others = notes.into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = others.filter(|other| other != note).filter_map(|it| fs::read_to_string(it).ok());
    let paths = |text: String| {
        let owners = text.lines().filter_map(owner);
        owners.map(|(_, _, path)| PathBuf::from(path)).collect::<Vec<_>>()
    };
    texts.flat_map(paths).collect()
}

fn give_back(note: &Path) -> io::Result<()> {
    for (user, group, path) in fs::read_to_string(note)?.lines().filter_map(owner) {
        match chown(path, Some(user), Some(group)) {
            // A device that was unplugged is nobody's.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::remove_file(note)
}

fn owner(line: &str) -> Option<(u32, u32, &str)> {
    let mut words = line.splitn(3, ' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, mknod};

    /// A device like `/dev/null` with this mode; nothing for an account that may make none.
    fn device(folder: &Path, name: &str, mode: u32) -> Option<PathBuf> {
        let path = folder.join(name);
        let number = nix::sys::stat::makedev(1, 3);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(mode), number).ok()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).ok()?;
        Some(path)
    }

    #[test]
    fn a_device_is_lent_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let devices = ["closed", "open"]
            .map(|name| device(folder.path(), name, if name == "open" { 0o666 } else { 0o600 }));
        let [Some(closed), Some(open)] = devices else {
            eprintln!("SKIP a_device_is_lent_and_given_back: this account may make no devices");
            return;
        };
        let note = folder.path().join("notes/web");
        let missing = folder.path().join("missing");
        let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
        let paths = vec![closed.clone(), open.clone(), file.clone(), missing];
        lend_to((61184, 61185), paths, &note).unwrap();
        let second = folder.path().join("notes/db");
        lend_to((61186, 61186), vec![closed.clone()], &second).unwrap();
        assert!(!second.exists(), "it is another guest's");
        assert_eq!(owner(&closed), (61184, 61185));
        assert_eq!((owner(&open), owner(&file)), ((0, 0), (0, 0)), "nobody needs to lend them");
        give_back(&note).unwrap();
        assert_eq!(owner(&closed), (0, 0));
        assert_eq!(give_back(&note).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
