//! The guests of templates: which there are, and the drop-ins that all of a template have in common.
//!
//! A template `worker@.xml` is no guest. Its guests are those that something names: a link `worker@3.xml` to it,
//! an autostart entry, or a link that `systemctl enable qemu@worker@3` made. Each gets a drop-in of its own as if
//! it had a file of its own. For one that nothing names glassbox-instance@.service makes such a link when it is
//! started, and has the manager reload.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use domain::{DomainName, TemplateInstance, UnitInstance};

use crate::autostart::Autostart;
use crate::environment::Environment;
use crate::log::Log;
use crate::output::Unit;
use crate::scan::{Listing, State};

/// Directories beside a unit's file whose links ask for other units, systemd.unit(5).
const DEPENDENCIES: [&str; 3] = [".wants", ".requires", ".upholds"];

/// Whether there is a template that is not masked.
pub(crate) fn any(listing: &Listing<DomainName>) -> bool {
    listing.values().any(|state| matches!(state, State::TemplateIn(_)))
}

/// Adds the guests that only an autostart entry or a link to a unit names, and finds the template of each guest
/// that has no file of its own.
pub(crate) fn resolve(
    listing: &mut Listing<DomainName>,
    environment: &Environment,
    autostart: &[Autostart<DomainName>],
    log: &mut Log,
) {
    for (name, directory) in declared(listing) {
        let state = of_template(listing, &name);
        if state.is_none() {
            let directory = &environment.search.directories()[directory];
            let what = "the link stands for a guest of a template that is not there; restore the template or \
                        remove the link";
            log.error(&directory.join(format!("{name}.xml")), what);
        }
        match state {
            Some(state) => listing.insert(name, state),
            None => listing.remove(&name),
        };
    }
    if !any(listing) {
        return;
    }
    let by_autostart = autostart.iter().map(|entry| entry.name.clone());
    for name in by_autostart.chain(asked_for(environment)) {
        if let Some(state) = of_template(listing, &name) {
            listing.entry(name).or_insert(state);
        }
    }
}

fn declared(listing: &Listing<DomainName>) -> Vec<(DomainName, usize)> {
    let declared = |(name, state): (&DomainName, &State)| match state {
        State::DeclaredIn(directory) => Some((name.clone(), *directory)),
        State::DefinedIn(_) | State::Masked | State::OfTemplateIn(_) | State::TemplateIn(_) => None,
    };
    listing.iter().filter_map(declared).collect()
}

/// What a guest without a file is by its template; `None` when there is no such template.
fn of_template(listing: &Listing<DomainName>, name: &DomainName) -> Option<State> {
    match listing.get(&TemplateInstance::of(name)?.template())? {
        State::TemplateIn(directory) => Some(State::OfTemplateIn(*directory)),
        State::Masked => Some(State::Masked),
        // No template has one of these.
        State::DefinedIn(_) | State::DeclaredIn(_) | State::OfTemplateIn(_) => None,
    }
}

/// The guests whose units others ask for, as `systemctl enable` has them do.
fn asked_for(environment: &Environment) -> BTreeSet<DomainName> {
    let mut names = BTreeSet::new();
    for directory in environment.unit_directories() {
        for entry in entries(environment, &directory) {
            let folder = entry.file_name();
            if DEPENDENCIES.iter().any(|end| folder.as_encoded_bytes().ends_with(end.as_bytes())) {
                let links = entries(environment, &directory.join(folder));
                names.extend(links.iter().filter_map(|link| guest(&link.file_name())));
            }
        }
    }
    names
}

/// The guest whose unit has this file name.
fn guest(unit: &OsStr) -> Option<DomainName> {
    let instance = unit.to_str()?.strip_prefix("qemu@")?.strip_suffix(".service")?;
    UnitInstance::try_from(instance).ok()?.domain_name().ok()
}

/// What a directory of units holds; one that cannot be read is systemd's to report.
fn entries(environment: &Environment, directory: &Path) -> Vec<DirEntry> {
    let found = fs::read_dir(environment.rooted(directory));
    found.into_iter().flatten().flatten().collect()
}

/// The administrator's drop-ins for the guests of each template: those of `qemu@worker@.service.d`, which is not
/// among the directories where systemd looks for drop-ins of `qemu@worker@3.service`.
#[derive(Debug, Default)]
pub(crate) struct PrefixDropIns(BTreeMap<DomainName, BTreeMap<OsString, PathBuf>>);

impl PrefixDropIns {
    /// Names of links and where they lead, for one guest. As with units whose names have hyphens, a file in the
    /// guest's own directory takes the place of one of the same name here.
    pub(crate) fn of(
        &mut self,
        environment: &Environment,
        instance: &TemplateInstance<'_>,
        unit: &Unit,
    ) -> Vec<(OsString, PathBuf)> {
        let template = instance.template();
        let prefix = UnitInstance::from(&template);
        let shared = Unit::of_guest(&template);
        let found = self.0.entry(template).or_insert_with(|| drop_ins(environment, &shared));
        let own = drop_in_directories(environment, unit);
        let replaced = |file: &OsString| {
            own.iter().any(|directory| environment.rooted(&directory.join(file)).exists())
        };
        found
            .iter()
            .filter(|(file, _)| !replaced(file))
            .map(|(file, path)| {
                // It sorts right after a file of that name that is for all guests, and does not hide it.
                let mut link = file.clone();
                link.push(format!("@{prefix}.conf"));
                (link, path.clone())
            })
            .collect()
    }
}

/// The files *.conf for these units, by their names; the first directory that has one counts.
fn drop_ins(environment: &Environment, unit: &Unit) -> BTreeMap<OsString, PathBuf> {
    let mut found = BTreeMap::new();
    for directory in drop_in_directories(environment, unit) {
        for file in entries(environment, &directory).iter().map(DirEntry::file_name) {
            if file.as_encoded_bytes().ends_with(b".conf") {
                let path = directory.join(&file);
                found.entry(file).or_insert(path);
            }
        }
    }
    found
}

fn drop_in_directories(environment: &Environment, unit: &Unit) -> Vec<PathBuf> {
    let directories = environment.unit_directories();
    directories.iter().map(|directory| directory.join(unit.drop_ins())).collect()
}
