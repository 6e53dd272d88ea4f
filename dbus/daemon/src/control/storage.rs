//! What `AddStorage` and `RemoveStorage` take, checked: names, and files that their callers have open.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use serde_json::Value;

use super::instance::{INSTANCE, system_error, takes};
use crate::varlink::{Call, CallError};
use crate::work::volumes::{Frontend, Volume};

/// The longest name in bytes. `machinectl` makes it of two file names and a colon.
const LONGEST_NAME: usize = 511;

/// The volume that `AddStorage` asks for.
pub(super) fn added(call: &Call, mut files: Vec<OwnedFd>) -> Result<Volume, CallError> {
    takes(call, &["fileDescriptorIndex", "name", "config"])?;
    let name = name(call)?;
    let frontend = frontend(argument(call, "config"))?;
    let index = argument(call, "fileDescriptorIndex").and_then(Value::as_u64);
    let index = index.and_then(|index| usize::try_from(index).ok());
    let index = index.ok_or_else(|| wrong("fileDescriptorIndex"))?;
    if index >= files.len() {
        let what = format!("{} file descriptors came, and none has index {index}", files.len());
        return Err(system_error(("ENXIO", nix::libc::ENXIO), &what));
    }
    let file = files.swap_remove(index);
    let (block, readonly) = checked(&file)?;
    if frontend == Frontend::Cdrom && !readonly {
        let what =
            "a CD-ROM takes a file that is open for reading only; acquire it with read-only=yes";
        return Err(system_error(("EROFS", nix::libc::EROFS), what));
    }
    Ok(Volume { name, file, block, readonly, frontend })
}

/// The name that `RemoveStorage` is given.
pub(super) fn removed(call: &Call) -> Result<String, CallError> {
    takes(call, &["name"])?;
    name(call)
}

fn argument<'a>(call: &'a Call, name: &str) -> Option<&'a Value> {
    call.parameters.as_ref()?.get(name)
}

fn name(call: &Call) -> Result<String, CallError> {
    let name = argument(call, "name").and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME);
    let name = name.filter(|name| !name.contains(char::is_control));
    Ok(name.ok_or_else(|| wrong("name"))?.to_owned())
}

/// The device that systemd's word for it asks for (vmspawn's `DiskType`).
fn frontend(config: Option<&Value>) -> Result<Frontend, CallError> {
    let word = match config {
        None | Some(Value::Null) => "",
        Some(config) => config.as_str().ok_or_else(|| wrong("config"))?,
    };
    match word {
        "" | "virtio-blk" => Ok(Frontend::Virtio),
        "virtio-scsi" => Ok(Frontend::Scsi),
        "scsi-cd" => Ok(Frontend::Cdrom),
        // QEMU takes none while the guest runs.
        "nvme" => Err(CallError::plain(INSTANCE, "ConfigNotSupported")),
        _ => Err(CallError::plain(INSTANCE, "BadConfig")),
    }
}

/// Whether the file is a block device, and whether it can only be read.
fn checked(file: &OwnedFd) -> Result<(bool, bool), CallError> {
    // The server of a file system in user space, who may be the caller, is not asked, and cannot keep the daemon
    // waiting.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(file.as_fd(), c"", flags, StatxFlags::TYPE).map_err(|error| {
        let what = format!("the file cannot be looked at: {error}");
        system_error(("EBADF", nix::libc::EBADF), &what)
    })?;
    let kind = FileType::from_raw_mode(found.stx_mode.into());
    if !kind.is_file() && !kind.is_block_device() {
        let error = match kind.is_dir() {
            true => ("EISDIR", nix::libc::EISDIR),
            false => ("ENOTBLK", nix::libc::ENOTBLK),
        };
        return Err(system_error(
            error,
            "a volume is a file or a block device, and this is neither",
        ));
    }
    let opened = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let opened = opened.unwrap_or(OFlag::O_PATH);
    let mode = opened & OFlag::O_ACCMODE;
    if opened.intersects(OFlag::O_PATH | OFlag::O_APPEND) || mode == OFlag::O_WRONLY {
        let what = "a volume is open for reading, or for reading and writing, and without O_PATH and O_APPEND";
        return Err(system_error(("EBADF", nix::libc::EBADF), what));
    }
    Ok((kind.is_block_device(), mode == OFlag::O_RDONLY))
}

fn wrong(parameter: &str) -> CallError {
    CallError::of_service("InvalidParameter", "parameter", parameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices_are_called_as_systemd_calls_them() {
        for (config, found) in [
            (None, Ok(Frontend::Virtio)),
            (Some(json!(null)), Ok(Frontend::Virtio)),
            (Some(json!("")), Ok(Frontend::Virtio)),
            (Some(json!("virtio-blk")), Ok(Frontend::Virtio)),
            (Some(json!("virtio-scsi")), Ok(Frontend::Scsi)),
            (Some(json!("scsi-cd")), Ok(Frontend::Cdrom)),
            (Some(json!("nvme")), Err(CallError::plain(INSTANCE, "ConfigNotSupported"))),
            (Some(json!("floppy")), Err(CallError::plain(INSTANCE, "BadConfig"))),
            (Some(json!(7)), Err(wrong("config"))),
        ] {
            assert_eq!(frontend(config.as_ref()), found, "{config:?}");
        }
    }

    #[test]
    fn the_file_is_the_one_at_the_index() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let call = |index: i64| -> Call {
            let parameters = json!({ "fileDescriptorIndex": index, "name": "a" });
            serde_json::from_value(json!({ "method": "a.B", "parameters": parameters })).unwrap()
        };
        let volume = added(&call(1), vec![null(), file(), null()]).unwrap();
        assert_eq!((volume.block, volume.readonly), (false, false));
        assert_eq!((volume.name.as_str(), volume.frontend), ("a", Frontend::Virtio));
        for (index, errno) in [(0, "ENOTBLK"), (2, "ENXIO")] {
            let refused = added(&call(index), vec![null(), file()]).unwrap_err();
            assert_eq!(refused.parameters["errnoName"], errno);
        }
    }
}
