//! What is to be made of one guest of libvirt's. Nothing is changed yet.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use domain::{DomainName, Fault};

use crate::programs::{self, Opinion, Subject};

use super::document::Document;
use super::libvirt::Libvirt;
use super::target::Target;

/// What is to be done for a guest.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The definition, from and to.
    pub(crate) definition: FileCopy,
    /// Its new text.
    pub(crate) text: String,
    /// The firmware variables, from and to; none where the guest has made none yet.
    pub(crate) variables: Option<FileCopy>,
    /// The entry by which the guest starts at boot.
    pub(crate) autostart: Option<PathBuf>,
    /// What stays behind, one line each.
    pub(crate) left: Vec<String>,
    /// What the translator says of the new definition.
    pub(crate) opinion: Opinion,
}

/// A file to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCopy {
    /// libvirt's.
    pub(crate) from: PathBuf,
    /// Ours.
    pub(crate) to: PathBuf,
}

impl Plan {
    /// The plan for a guest.
    ///
    /// # Errors
    /// When the guest runs, there or here, when it is defined here already and nobody says `force`, when libvirt's file defines no
    /// guest that could be ours.
    pub(crate) fn make(
        libvirt: &Libvirt,
        target: &Target,
        name: &DomainName,
        force: bool,
    ) -> Result<Self> {
        stands_for_a_guest(name)?;
        let (from, text) = libvirt.definition(name)?;
        runs_nowhere(libvirt, target, name)?;
        let place = |path: &Path| target.variables(name, extension(path));
        let document = Document::take(&text, name, place).map_err(|faults| told(&faults, &from))?;
        let variables =
            document.variables.map(|from| variables(from, place)).transpose()?.flatten();
        let to = target.definition(name);
        if !force {
            is_free(name, variables.iter().map(|copy| copy.to.as_path()).chain([to.as_path()]))?;
        }
        let opinion = programs::translator(Subject::Text(&document.text, &to), false)?;
        Ok(Self {
            autostart: libvirt.starts_at_boot(name).then(|| target.autostart(name)),
            left: libvirt.left(name, document.uuid),
            definition: FileCopy { from, to },
            text: document.text,
            variables,
            opinion,
        })
    }

    /// What is done, one line each.
    pub(crate) fn steps(&self) -> Vec<String> {
        let copies = self.variables.iter().chain([&self.definition]);
        let copies = copies.map(|copy| format!("{} -> {}", copy.from.display(), copy.to.display()));
        let autostart = self.autostart.iter().map(|path| {
            format!("{}: the guest starts at boot; virsh autostart --disable keeps libvirt from starting it, too", path.display())
        });
        copies.chain(autostart).collect()
    }
}

/// The name of its file would make a template of it.
fn stands_for_a_guest(name: &DomainName) -> Result<()> {
    if name.is_template() {
        bail!("guest '{name}' would be a template by its name; rename it with virsh domrename");
    }
    Ok(())
}

/// Whoever runs the guest uses what would be copied or replaced.
fn runs_nowhere(libvirt: &Libvirt, target: &Target, name: &DomainName) -> Result<()> {
    if let Some(pid) = libvirt.running(name)? {
        bail!("guest '{name}' runs under libvirt as process {pid}; shut it down with virsh first");
    }
    if target.runs(name) {
        bail!("guest '{name}' runs as a unit; stop it first, for it uses what would be replaced");
    }
    Ok(())
}

/// The copy of the variables, if a start has made them.
fn variables(from: PathBuf, place: impl Fn(&Path) -> PathBuf) -> Result<Option<FileCopy>> {
    let is_there = from.try_exists().with_context(|| from.display().to_string())?;
    Ok(is_there.then(|| FileCopy { to: place(&from), from }))
}

fn is_free<'p>(name: &DomainName, mut paths: impl Iterator<Item = &'p Path>) -> Result<()> {
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => {
            bail!("guest '{name}' is left out: {} exists; replace it with --force", path.display())
        }
        None => Ok(()),
    }
}

/// The format of variables by their file's name: what is not called qcow2 is raw.
fn extension(path: &Path) -> &'static str {
    let is_qcow2 = path.extension().is_some_and(|extension| extension == "qcow2");
    if is_qcow2 { "qcow2" } else { "fd" }
}

/// The faults of libvirt's file as one error.
fn told(faults: &[Fault], file: &Path) -> anyhow::Error {
    let file = file.display().to_string();
    let lines: Vec<String> = faults.iter().map(|fault| fault.in_file(&file)).collect();
    anyhow!(lines.join("\n"))
}
