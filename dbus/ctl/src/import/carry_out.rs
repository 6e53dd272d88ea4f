//! Makes what is planned for a guest. A failure leaves no definition without what belongs to it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use definitions::{Existing, NewFile};

use super::plan::{FileCopy, Plan};

/// `S_ISGID` of inode(7).
const SETGID: u32 = 0o2000;

/// Copies the variables, writes the definition, and makes the entry of autostart.
///
/// # Errors
/// When something cannot be written. Without a definition the guest's copy of its variables is gone again.
pub(crate) fn carry_out(plan: &Plan, force: bool) -> Result<()> {
    let existing = if force { Existing::Replaced } else { Existing::Kept };
    if let Some(variables) = &plan.variables {
        copy_variables(variables, existing)?;
    }
    let defined = define(&plan.definition.to, plan.text.as_bytes(), existing);
    if defined.is_err()
        && existing == Existing::Kept
        && let Some(variables) = &plan.variables
    {
        // It was made a moment ago; if it stays, the next import says that it is there.
        let _ = fs::remove_file(&variables.to);
    }
    defined?;
    plan.autostart.as_deref().map_or(Ok(()), start_at_boot)
}

fn copy_variables(variables: &FileCopy, existing: Existing) -> Result<()> {
    let told = || variables.from.display().to_string();
    let content = fs::read(&variables.from).with_context(told)?;
    make_parent(&variables.to)?;
    put(&variables.to, &content, 0o600, existing)
}

/// Writes the definition. The system's directory gives its group, glassboxd, to what is made in it, and that reads it.
fn define(path: &Path, content: &[u8], existing: Existing) -> Result<()> {
    let parent = make_parent(path)?;
    let is_of_group = fs::metadata(parent)?.mode() & SETGID != 0;
    put(path, content, if is_of_group { 0o640 } else { 0o600 }, existing)
}

/// Definitions may hold passwords and variables keys, so both are for nobody else, as libvirt's are. The system's are
/// root's: what opens them for a guest is root.
fn put(path: &Path, content: &[u8], mode: u32, existing: Existing) -> Result<()> {
    Ok(NewFile { path, content, mode, existing, hidden: None }.put()?)
}

/// Makes a link like libvirt's. Whatever has the name already counts as one, or says that the guest must not start.
fn start_at_boot(entry: &Path) -> Result<()> {
    make_parent(entry)?;
    let name = entry.file_name().unwrap_or_default();
    match symlink(Path::new("..").join(name), entry) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.with_context(|| entry.display().to_string()),
    }
}

fn make_parent(path: &Path) -> Result<&Path> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    Ok(parent)
}
