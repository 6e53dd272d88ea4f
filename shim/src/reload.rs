//! `--reload`: makes a running guest what its definition says, as far as that goes without a restart.
//!
//! ```text
//!   the live definition (live)  --+
//!                                 +-- qemu::changes --> steps: files opened, QEMU told over its monitor
//!   NAME.xml, or what the    -----+                 \-> what needs a restart: told
//!   management daemon wants
//! ```
//!
//! In a unit it is run as root, outside of the guest's sandbox: what QEMU has no right to open is opened here, by the
//! same functions as for a start, and sent over the monitor. It starts no program. A step that fails is undone, and the
//! live definition has what succeeded.

use anyhow::Context;
use domain::{Domain, Fault, Faults, Severity, UnitInstance, definition_text, tree};
use qemu::{Changes, HostFacts, Step, StepKind};
use serde::Serialize;

use crate::asked::Asked;
use crate::definition::{self, Definition, Source};
use crate::fate::Status;
use crate::live::LiveFile;
use crate::runtime_dir::Place;
use crate::{host, log, prepare};

mod monitor;
mod steps;

use monitor::Monitor;
use steps::Carrier;

/// What became of a reload, as the management daemon reads it.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    /// What failed, one line each.
    failed: Vec<String>,
    /// What needs a restart of the guest, one line each.
    restart: Vec<String>,
}

/// Reloads the guest.
///
/// # Errors
/// When there is nothing to compare.
pub(crate) fn reload(asked: &Asked) -> anyhow::Result<Status> {
    let in_sandbox = asked.has_companions();
    if in_sandbox {
        host::enter().context("the host's namespaces cannot be entered; run this as root")?;
    }
    let reloading = Reloading::of(asked, in_sandbox)?;
    let _lock = reloading.file.lock().with_context(|| reloading.not_running())?;
    reloading.file.leave_word(None).with_context(|| reloading.not_running())?;
    let (outcome, status) = match reloading.reload(asked) {
        Ok(outcome) if outcome.failed.is_empty() => (outcome, Status::Success),
        Ok(outcome) => (outcome, Status::HostFile),
        Err(Stopped { lines, status }) => (Outcome { failed: lines, restart: Vec::new() }, status),
    };
    outcome.restart.iter().for_each(log::warning);
    outcome.failed.iter().for_each(log::error);
    let word = serde_json::to_string(&outcome).context("the outcome")?;
    reloading.file.leave_word(Some(&word)).context("the outcome cannot be left")?;
    Ok(status)
}

/// A guest that is reloaded.
struct Reloading {
    instance: UnitInstance,
    place: Place,
    file: LiveFile,
    in_sandbox: bool,
    definition: Definition,
    /// Whether it has the bound volumes, which only the management daemon knows of.
    has_volumes: bool,
}

/// Why nothing was compared.
struct Stopped {
    lines: Vec<String>,
    status: Status,
}

impl Stopped {
    fn internal(error: impl std::fmt::Display) -> Self {
        Self { lines: vec![format!("{error:#}")], status: Status::Internal }
    }
}

impl Reloading {
    fn of(asked: &Asked, in_sandbox: bool) -> anyhow::Result<Self> {
        let (definition, instance) = match &asked.source {
            Source::Named(guest) => (None, UnitInstance::from(&guest.name)),
            source @ (Source::File(_) | Source::Descriptor { .. }) => {
                let definition = definition::read(source)?;
                let domain = prepare::read(asked, &definition, &Faults::new());
                let file = &definition.file;
                let domain = domain.with_context(|| {
                    format!("{file}: it defines no guest; `glassbox-qemu --check` says why")
                })?;
                (Some(definition), UnitInstance::from(&domain.name))
            }
        };
        let place = Place::of(&instance);
        let file = match in_sandbox {
            true => LiveFile::of_system(&instance),
            false => LiveFile::of_place(&place),
        };
        let of_file = |definition| Ok((definition, false));
        let (definition, has_volumes) = definition.map_or_else(|| wanted(asked, &file), of_file)?;
        Ok(Self { instance, place, file, in_sandbox, definition, has_volumes })
    }

    fn not_running(&self) -> String {
        let path = self.file.path().display();
        format!(
            "{path}: guest '{}' does not run, or was started by an older glassbox-qemu",
            self.instance.as_str()
        )
    }

    fn reload(&self, asked: &Asked) -> Result<Outcome, Stopped> {
        let mut live = self.live()?;
        let (changes, facts) = self.compare(asked, &live)?;
        let in_file = |fault: &Fault| fault.in_file(&self.definition.file);
        let restart = changes.restart.iter().map(in_file).collect();
        let mut failed = Vec::new();
        if !changes.steps.is_empty() {
            let monitor = Monitor::connect(&self.place.path).map_err(Stopped::internal)?;
            let mut carrier =
                Carrier::new(monitor, &changes, &facts, self.in_sandbox, &self.instance);
            for step in &changes.steps {
                match carrier.carry_out(step, &live) {
                    Ok(()) => {
                        changes.carried_out(step, &mut live);
                        self.keep(&live)?;
                        log::info(in_file(&told(step)));
                    }
                    Err(fault) => failed.push(in_file(&fault)),
                }
            }
        }
        changes.take_over(&mut live);
        self.keep(&live)?;
        Ok(Outcome { failed, restart })
    }

    fn live(&self) -> Result<Domain, Stopped> {
        let text = self
            .file
            .read()
            .map_err(|error| Stopped::internal(format!("{}: {error}", self.not_running())))?;
        let faults = Faults::new();
        let live = Domain::parse_running(&text, &faults).filter(|_| !faults.any_refused());
        live.ok_or_else(|| {
            Stopped::internal(format!("{} cannot be read", self.file.path().display()))
        })
    }

    fn keep(&self, live: &Domain) -> Result<(), Stopped> {
        let path = self.file.path().display();
        let kept = self.file.write(&live.write());
        kept.map_err(|error| {
            Stopped::internal(format!("{path}: {error}; the guest has changed, and this has not"))
        })
    }

    fn compare(&self, asked: &Asked, live: &Domain) -> Result<(Changes, HostFacts), Stopped> {
        let faults = Faults::new();
        let found = self.find_changes(asked, live, &faults);
        found.ok_or_else(|| {
            let mut faults = faults.into_sorted();
            faults.retain(|fault| fault.severity == Severity::Refused);
            let lines = faults.iter().map(|fault| fault.in_file(&self.definition.file)).collect();
            Stopped { lines, status: Status::Definition }
        })
    }

    fn find_changes(
        &self,
        asked: &Asked,
        live: &Domain,
        faults: &Faults,
    ) -> Option<(Changes, HostFacts)> {
        let (mut wanted, facts) =
            prepare::to_compare(asked, &self.definition, &self.place, faults)?;
        if !self.has_volumes {
            qemu::keep_bound_volumes(live, &mut wanted);
        }
        // Read once more for the places of its elements: what was filled in has none.
        let text = definition_text(&self.definition.bytes).ok()?;
        let root = tree::parse(text).ok()?;
        Some((qemu::changes(live, &wanted, &root, &facts, faults)?, facts))
    }
}

/// What was done.
fn told(step: &Step) -> Fault {
    let what = match &step.kind {
        StepKind::Attach(_) => "added to the running guest".to_owned(),
        StepKind::Detach { alias, .. } => format!("'{alias}' is gone from the running guest"),
        StepKind::Medium(_)
        | StepKind::Link(_)
        | StepKind::Requested(_)
        | StepKind::Vcpus(_)
        | StepKind::Balloon(_) => "changed in the running guest".to_owned(),
    };
    step.place.ignored(what)
}

/// What the guest is to be: what the management daemon wants, else the definition; and whether it is the former.
fn wanted(asked: &Asked, file: &LiveFile) -> anyhow::Result<(Definition, bool)> {
    let defined = || Ok((definition::read(&asked.source)?, false));
    let Source::Named(guest) = &asked.source else { return defined() };
    let Some((path, text)) = file.wanted() else { return defined() };
    let file = path.display().to_string();
    let bytes = text.with_context(|| file.clone())?.into_bytes();
    let expected_name = Some(guest.name.clone());
    Ok((Definition { file, expected_name, template: false, bytes }, true))
}
