//! `glassboxctl import`: libvirt's definitions become ours, and what libvirt has is never touched.
//!
//! ```text
//! what libvirt has of a guest -> what is to be made of it -> refused, shown, or carried out
//! ```
//!
//! A guest keeps its hardware, for the definition is copied as it is but for the file of its firmware variables: the
//! guest writes to them, so it gets a copy of its own. The definition comes last but for the entry of autostart, so that
//! a guest that is defined has all that belongs to it.

mod carry_out;
mod document;
mod libvirt;
mod plan;
mod target;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use domain::DomainName;

use crate::Verdict;
use crate::cli::Import;

use self::libvirt::Libvirt;
use self::plan::Plan;
use self::target::Target;

/// Takes over the guests that are asked for; one that cannot be taken keeps no other from it.
pub(crate) fn import(wanted: &Import) -> Result<Verdict> {
    let libvirt = Libvirt::of(wanted)?;
    let target = Target::of(wanted.user)?;
    let mut verdict = Verdict::Fine;
    let mut taken = 0;
    for name in names(wanted, &libvirt)? {
        let plan = name.and_then(|name| Plan::make(&libvirt, &target, &name, wanted.force));
        match plan.and_then(|plan| take(wanted, &plan)) {
            Ok(Verdict::Fine) => taken += 1,
            Ok(Verdict::Refused) => {
                taken += 1;
                verdict = Verdict::Refused;
            }
            Err(error) => {
                crate::complain(&format!("{error:#}"));
                verdict = Verdict::Refused;
            }
        }
    }
    tell(&libvirt.hooks());
    match (taken, wanted.dry_run) {
        (0, _) => {}
        (_, true) => crate::complain("nothing was changed"),
        (_, false) => {
            let user = if wanted.user { " --user" } else { "" };
            crate::complain(&format!("now: systemctl{user} daemon-reload"));
        }
    }
    Ok(verdict)
}

/// Carries out a plan, or shows it. Refused is a guest that is defined and cannot be started.
fn take(wanted: &Import, plan: &Plan) -> Result<Verdict> {
    if !wanted.dry_run {
        carry_out::carry_out(plan, wanted.force)?;
    }
    for line in plan.steps() {
        writeln!(io::stdout(), "{line}")?;
    }
    tell(&plan.left);
    tell(&plan.opinion.lines);
    Ok(plan.opinion.verdict)
}

/// Says what is not taken and what is wrong, on standard error.
fn tell(lines: &[String]) {
    for line in lines {
        // When standard error is closed there is nobody left to tell.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The guests that are asked for, each a name or why it is none.
fn names(wanted: &Import, libvirt: &Libvirt) -> Result<Vec<Result<DomainName>>> {
    if !wanted.all {
        let name = |name: &String| {
            DomainName::try_from(name.as_str()).with_context(|| format!("guest '{name}'"))
        };
        return Ok(wanted.names.iter().map(name).collect());
    }
    let mut files: Vec<PathBuf> = listing(&libvirt.definitions)?;
    files.sort();
    let names = files.iter().filter_map(|path| {
        let name = domain::defined::<DomainName>(path.file_name()?)?;
        Some(name.with_context(|| path.display().to_string()))
    });
    Ok(names.collect())
}

fn listing(directory: &Path) -> Result<Vec<PathBuf>> {
    let told = || format!("{}: it must be libvirt's directory of definitions", directory.display());
    let entries = fs::read_dir(directory).with_context(told)?;
    entries.map(|entry| Ok(entry.with_context(told)?.path())).collect()
}
