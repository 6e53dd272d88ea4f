//! Makes the files that a plan wants before QEMU is started.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use domain::Fault;
use qemu::{CopiedFile, WrittenFile};

use crate::handed::Handed;
use crate::prepare::{PrepareError, Prepared};

/// Makes the files of the plan.
///
/// # Errors
/// [`PrepareError::HostFiles`] with the element that wants what cannot be had.
pub(crate) fn provide(prepared: &Prepared, handed: Option<&Handed>) -> Result<(), PrepareError> {
    let plan = &prepared.plan;
    // What was copied outside of the sandbox is open already, so this is a copy that failed.
    let told = |copy: &CopiedFile| Some(handed?.fault(&copy.descriptor)?.to_owned());
    let faults: Vec<String> = plan.copies.iter().filter_map(told).collect();
    if !faults.is_empty() {
        return Err(PrepareError::HostFiles(faults));
    }
    let at = |fault: Fault| PrepareError::HostFiles(vec![fault.in_file(&prepared.file)]);
    plan.copies.iter().try_for_each(copy).map_err(at)?;
    plan.written.iter().try_for_each(|wanted| {
        write(wanted).map_err(|error| {
            PrepareError::HostFiles(vec![format!("'{}' cannot be written: {error}", wanted.path)])
        })
    })
}

/// The guest's own copy of a template, made once: what the guest changed in it is kept.
pub(crate) fn copy(wanted: &CopiedFile) -> Result<(), Fault> {
    let path = Path::new(&wanted.path);
    if path.exists() {
        return Ok(());
    }
    copy_whole(Path::new(&wanted.template), path).map_err(|error| {
        wanted.place.refused(format!(
            "'{}' cannot be made from '{}': {error}; both must be open to this account",
            wanted.path, wanted.template
        ))
    })
}

/// Copies beside the target and renames, so that a crash leaves no half of a file to be taken for the whole.
fn copy_whole(template: &Path, path: &Path) -> io::Result<()> {
    make_folder(path, 0o700)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut target =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(new)?;
    io::copy(&mut File::open(template)?, &mut target)?;
    target.sync_all()?;
    fs::rename(new, path)
}

fn write(wanted: &WrittenFile) -> io::Result<()> {
    let path = Path::new(&wanted.path);
    make_folder(path, 0o700)?;
    let mut file =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(wanted.content.as_bytes())
}

/// Makes the folder that this path stands in, with this mode, and those above it.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(mode).create(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Place;

    #[test]
    fn a_copy_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("template"), "first").unwrap();
        let wanted = CopiedFile {
            path: path("a/b/vars"),
            template: path("template"),
            descriptor: "pflash1".to_owned(),
            place: Place::default(),
        };
        copy(&wanted).unwrap();
        fs::write(path("template"), "second").unwrap();
        copy(&wanted).unwrap();
        assert_eq!(fs::read_to_string(path("a/b/vars")).unwrap(), "first");
        assert!(!Path::new(&path("a/b/vars.new")).exists());
    }

    #[test]
    fn a_template_that_is_not_there_is_told_at_its_element() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vars").display().to_string();
        let place = Place { path: "/domain/os/nvram".to_owned(), ..Place::default() };
        let wanted = CopiedFile {
            path: path.clone(),
            template: "/nonexistent".to_owned(),
            descriptor: "pflash1".to_owned(),
            place,
        };
        let told = copy(&wanted).unwrap_err().to_string();
        assert!(told.starts_with("0:0: /domain/os/nvram: "), "{told}");
        assert!(!Path::new(&path).exists());
    }
}
