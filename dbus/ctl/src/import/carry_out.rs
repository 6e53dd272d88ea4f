//! Makes what is planned for a guest. A failure leaves no definition without what belongs to it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use definitions::{Existing, NewFile};

use super::plan::{FileCopy, Plan};

/// Copies the variables, writes the definition, and makes the entry of autostart.
///
/// # Errors
/// When something cannot be written. Without a definition the guest's copy of its variables is gone again.
pub(crate) fn carry_out(plan: &Plan, force: bool) -> Result<()> {
    let existing = if force { Existing::Replaced } else { Existing::Kept };
    if let Some(variables) = &plan.variables {
        copy_variables(variables, existing)?;
    }
    let defined = put(&plan.definition.to, plan.text.as_bytes(), existing);
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
    put(&variables.to, &content, existing)
}

/// Definitions may hold passwords and variables keys, so both are for their owner alone, as libvirt's are. The system's
/// are root's: what opens them for a guest is root.
fn put(path: &Path, content: &[u8], existing: Existing) -> Result<()> {
    make_parent(path)?;
    Ok(NewFile { path, content, mode: 0o600, existing }.put()?)
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

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}
