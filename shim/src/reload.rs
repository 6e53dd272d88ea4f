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

mod intent;
mod leavings;
mod monitor;
mod settle;
mod steps;

use monitor::Monitor;
use settle::Settling;
use steps::{Between, Carrier};

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
    /// Whether it is what the management daemon wants. That is a device more or less, with the bound volumes, which only
    /// the daemon knows of; the CPUs and the memory that the daemon read are not asked for: they may have changed since.
    of_daemon: bool,
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
        let of_daemon =
            definition.is_none().then(|| of_daemon(asked, &file)).transpose()?.flatten();
        let is_of_daemon = of_daemon.is_some();
        let definition = match of_daemon.or(definition) {
            Some(definition) => definition,
            None => definition::read(&asked.source)?,
        };
        Ok(Self { instance, place, file, in_sandbox, definition, of_daemon: is_of_daemon })
    }

    fn not_running(&self) -> String {
        let path = self.file.path().display();
        format!(
            "{path}: guest '{}' does not run, or was started by an older glassbox-qemu",
            self.instance.as_str()
        )
    }

    fn reload(&self, asked: &Asked) -> Result<Outcome, Stopped> {
        let live = self.live()?;
        let (wanted, facts) = self.wanted(asked)?;
        let mut monitor = Monitor::connect(&self.place.path).map_err(Stopped::internal)?;
        let mut settling = Settling { monitor: &mut monitor, file: &self.file, facts: &facts };
        let live = settling.settle(live).map_err(Stopped::internal)?;
        let changes = self.compare(&live, wanted, &facts)?;
        let in_file = |fault: &Fault| fault.in_file(&self.definition.file);
        let restart = changes.restart.iter().map(in_file).collect();
        let failed = self.carry_out(&changes, &facts, live, monitor)?;
        Ok(Outcome { failed, restart })
    }

    /// Carries out all steps; the result is what failed.
    fn carry_out(
        &self,
        changes: &Changes,
        facts: &HostFacts,
        mut live: Domain,
        monitor: Monitor,
    ) -> Result<Vec<String>, Stopped> {
        let in_file = |fault: &Fault| fault.in_file(&self.definition.file);
        let (file, instance, in_sandbox) = (&self.file, &self.instance, self.in_sandbox);
        let mut carrier = Carrier { monitor, changes, facts, in_sandbox, instance, file };
        let mut failed = Vec::new();
        for step in &changes.steps {
            let mut after = live.clone();
            changes.carried_out(step, &mut after);
            match carrier.carry_out(step, &Between { live: &live, after: &after }) {
                Ok(()) => {
                    live = after;
                    self.keep(&live)?;
                    log::info(in_file(&told(step)));
                }
                Err(fault) => failed.push(in_file(&fault)),
            }
            // QEMU may do yet what it was told, and the next reload sees to it.
            if carrier.monitor.is_lost() {
                return Ok(failed);
            }
            file.settled().map_err(Stopped::internal)?;
        }
        changes.take_over(&mut live);
        self.keep(&live)?;
        Ok(failed)
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

    /// What the guest is to be.
    fn wanted(&self, asked: &Asked) -> Result<(Domain, HostFacts), Stopped> {
        let faults = Faults::new();
        let wanted = prepare::to_compare(asked, &self.definition, &self.place, &faults);
        wanted.ok_or_else(|| self.refused(faults))
    }

    fn compare(
        &self,
        live: &Domain,
        mut wanted: Domain,
        facts: &HostFacts,
    ) -> Result<Changes, Stopped> {
        if self.of_daemon {
            wanted.vcpus.current = live.vcpus.current;
            wanted.memory.current = live.memory.current;
        } else {
            qemu::keep_bound_volumes(live, &mut wanted);
        }
        let faults = Faults::new();
        // Read once more for the places of its elements: what was filled in has none.
        let root = definition_text(&self.definition.bytes).and_then(tree::parse);
        let changes =
            root.ok().and_then(|root| qemu::changes(live, &wanted, &root, facts, &faults));
        changes.ok_or_else(|| self.refused(faults))
    }

    fn refused(&self, faults: Faults) -> Stopped {
        let mut faults = faults.into_sorted();
        faults.retain(|fault| fault.severity == Severity::Refused);
        let lines = faults.iter().map(|fault| fault.in_file(&self.definition.file)).collect();
        Stopped { lines, status: Status::Definition }
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

/// What the management daemon wants the guest to be, if it wants something.
fn of_daemon(asked: &Asked, file: &LiveFile) -> anyhow::Result<Option<Definition>> {
    let Source::Named(guest) = &asked.source else { return Ok(None) };
    let Some((path, text)) = file.wanted() else { return Ok(None) };
    let file = path.display().to_string();
    let bytes = text.with_context(|| file.clone())?.into_bytes();
    Ok(Some(Definition { file, expected_name: Some(guest.name.clone()), template: false, bytes }))
}
