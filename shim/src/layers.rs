//! Images that a definition does not name: what an image says itself that it is a layer of.
//!
//! In a sandbox QEMU opens nothing that was not opened for it, and the privileged step goes by the definition alone: what
//! stands in an image may have been written by a guest that broke out of its QEMU. So the definition must name them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use domain::Domain;
use domain::devices::{Backing, Disk, DiskFormat};

use crate::inheritance::Inheritance;
use crate::prepare::{PrepareError, Prepared};

/// The first bytes of a qcow2 image (QEMU's `docs/interop/qcow2.rst`): magic number, version, and where the name of the
/// image below is, and how long.
const HEADER: usize = 20;
const MAGIC: &[u8] = b"QFI\xfb";

/// Longest name of an image below, by the same document.
const LONGEST_NAME: usize = 1023;

/// Refuses disks whose lowest image is a layer of another.
///
/// # Errors
/// [`PrepareError::HostFiles`], a line for each.
pub(crate) fn check(prepared: &Prepared, inheritance: &Inheritance) -> Result<(), PrepareError> {
    let lines: Vec<String> = unnamed(&prepared.domain, inheritance, &prepared.file);
    if lines.is_empty() { Ok(()) } else { Err(PrepareError::HostFiles(lines)) }
}

fn unnamed(domain: &Domain, inheritance: &Inheritance, file: &str) -> Vec<String> {
    let disks = domain.devices.disks.iter();
    let refused = disks.filter_map(|disk| {
        let (name, place) = lowest(disk)?;
        let image = File::from(inheritance.peek(&name)?.try_clone().ok()?);
        let below = below(&image)?;
        let below = below.escape_debug();
        Some(place.refused(format!(
            "the image is a layer of '{below}', which the definition does not name, and nothing else is opened for QEMU; \
             add <backingStore type='file'><format type='qcow2'/><source file='{below}'/></backingStore> with its format"
        )))
    });
    refused.map(|fault| fault.in_file(file)).collect()
}

/// The name under which a disk's lowest image is open, if that may be a layer of one that is not named.
fn lowest(disk: &Disk) -> Option<(String, &domain::Place)> {
    let mut format = disk.driver.format;
    let mut depth = 0;
    let mut source = &disk.source;
    while let Backing::Image(image) = &source.backing {
        (format, source, depth) = (Some(image.format), &image.source, depth + 1);
    }
    if source.backing != Backing::Unknown || format != Some(DiskFormat::Qcow2) {
        return None;
    }
    Some((qemu::image_descriptor(disk, source, depth), &source.place))
}

/// What an image says that it is a layer of.
fn below(image: &File) -> Option<String> {
    let mut header = [0; HEADER];
    image.read_exact_at(&mut header, 0).ok()?;
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let offset = u64::from_be_bytes(rest[4..12].try_into().ok()?);
    let size = usize::try_from(u32::from_be_bytes(rest[12..16].try_into().ok()?)).ok()?;
    if magic != MAGIC || offset == 0 || size > LONGEST_NAME {
        return None;
    }
    let mut name = vec![0; size];
    image.read_exact_at(&mut name, offset).ok()?;
    Some(String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_what_it_is_a_layer_of() {
        let image = |offset: u64, name: &[u8]| {
            let size = u32::try_from(name.len()).unwrap();
            let head = [MAGIC, &3_u32.to_be_bytes(), &offset.to_be_bytes(), &size.to_be_bytes()];
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&[&head.concat(), &[0; 12][..], name].concat(), 0).unwrap();
            file
        };
        assert_eq!(below(&image(32, b"/srv/base")).as_deref(), Some("/srv/base"));
        assert_eq!(below(&image(0, b"")), None, "it stands alone");
        assert_eq!(below(&image(64, b"/srv/base")), None, "it is cut off");
        assert_eq!(below(&tempfile::tempfile().unwrap()), None);
    }
}
