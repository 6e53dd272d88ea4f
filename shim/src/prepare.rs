//! From the command line to what a start needs: the domain, read and planned.

use domain::{
    Domain, DomainUuid, Fault, Faults, Header, Severity, UnitInstance, definition_text, tree,
};
use qemu::{Launch, LaunchPlan};

use crate::asked::Asked;
use crate::definition::{self, Definition, DefinitionError, Source};
use crate::handed::Handed;
use crate::runtime_dir::Place;
use crate::{facts, identity, vsock};

/// What a definition is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be looked at: no program is started, and nothing is taken or made.
    Look,
    /// To be started.
    Start,
    /// For what its start is going to need: no program is started.
    HandOver,
}

/// A guest that can be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The domain as the file has it, completed.
    pub(crate) domain: Domain,
    /// The domain's name as the name of its unit.
    pub(crate) instance: UnitInstance,
    /// Where its runtime directory is.
    pub(crate) place: Place,
    /// The UUID, derived if the file has none.
    pub(crate) uuid: DomainUuid,
    /// What to do.
    pub(crate) plan: LaunchPlan,
    /// How messages call the definition's file.
    pub(crate) file: String,
    /// The parts of the file that are left out of the guest, one line each.
    pub(crate) ignored: Vec<String>,
}

/// Why a guest cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// There is no definition to read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The definition has faults, one line each, with the file's name.
    #[error("{}", .0.join("\n"))]
    Faulty(Vec<String>),
    /// Files that the definition names cannot be used, one line each.
    #[error("{}", .0.join("\n"))]
    HostFiles(Vec<String>),
    /// Threads are to run where this process may not, one line for each element.
    #[error("{}", .0.join("\n"))]
    Placement(Vec<String>),
}

/// What a definition says, with everything that is wrong with it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The guest, if nothing was refused.
    pub(crate) prepared: Option<Prepared>,
    /// Refused parts, one line each.
    pub(crate) refused: Vec<String>,
    /// Parts left out, one line each.
    pub(crate) ignored: Vec<String>,
}

/// Reads and plans the guest.
///
/// # Errors
/// [`PrepareError::Definition`] or [`PrepareError::Faulty`].
pub(crate) fn prepare(asked: &Asked, purpose: Purpose) -> Result<Prepared, PrepareError> {
    let checked = check(asked, purpose)?;
    match checked.prepared {
        Some(prepared) => Ok(prepared),
        None => Err(PrepareError::Faulty(checked.refused)),
    }
}

/// Reads and plans the guest, and keeps what is wrong with it.
///
/// # Errors
/// [`PrepareError::Definition`] when there is nothing to read.
pub(crate) fn check(asked: &Asked, purpose: Purpose) -> Result<Checked, PrepareError> {
    let definition = definition(asked)?;
    let faults = Faults::new();
    let planned = plan(asked, &definition, purpose, &faults);
    let mut faults = faults.into_sorted();
    // What the unit carries out is left out of no guest that runs in one.
    let in_unit = purpose == Purpose::Start && matches!(asked.source, Source::Named { .. });
    faults.retain(|fault| !(in_unit && fault.severity == Severity::Unit));
    let (refused, ignored): (Vec<Fault>, Vec<Fault>) =
        faults.into_iter().partition(|fault| fault.severity == Severity::Refused);
    let lines = |faults: &[Fault]| {
        faults.iter().map(|fault| fault.in_file(&definition.file)).collect::<Vec<_>>()
    };
    let ignored = lines(&ignored);
    let prepared = planned
        .filter(|_| refused.is_empty())
        .map(|planned| planned.of_definition(&definition, ignored.clone()));
    Ok(Checked { prepared, refused: lines(&refused), ignored })
}

/// The guest as its start is going to plan it; nothing when that will refuse it, and say why.
pub(crate) fn foresee(asked: &Asked, definition: &Definition) -> Option<Prepared> {
    let planned = plan(asked, definition, Purpose::HandOver, &Faults::new())?;
    Some(planned.of_definition(definition, Vec::new()))
}

/// The definition: in a sandbox the one that was read outside of it.
fn definition(asked: &Asked) -> Result<Definition, PrepareError> {
    let Some(handed) = &asked.handed else { return Ok(definition::read(&asked.source)?) };
    let definition = handed.definition().map_err(|told| PrepareError::Faulty(vec![told.into()]))?;
    let expected_name = match &asked.source {
        Source::Named { name, .. } => Some(name.clone()),
        Source::File(_) | Source::Descriptor { .. } => None,
    };
    Ok(Definition { expected_name, ..definition })
}

struct Planned {
    domain: Domain,
    instance: UnitInstance,
    place: Place,
    uuid: DomainUuid,
    plan: LaunchPlan,
}

impl Planned {
    fn of_definition(self, definition: &Definition, ignored: Vec<String>) -> Prepared {
        let Self { domain, instance, place, uuid, plan } = self;
        Prepared { domain, instance, place, uuid, plan, file: definition.file.clone(), ignored }
    }
}

fn plan(
    asked: &Asked,
    definition: &Definition,
    purpose: Purpose,
    faults: &Faults,
) -> Option<Planned> {
    let mut domain = read(asked, definition, faults)?;
    let instance = UnitInstance::from(&domain.name);
    let uuid = match domain.uuid.map_or_else(|| identity::uuid(&domain.name), Ok) {
        Ok(uuid) => *domain.uuid.insert(uuid),
        Err(error) => {
            faults.push(
                domain
                    .place
                    .refused(format!("<uuid> is missing and none can be made: {error}; add one")),
            );
            return None;
        }
    };
    let place = if asked.standalone { private(purpose) } else { Place::of(&instance) };
    let inherited = asked.inheritance.found();
    let mut facts = facts::of_host(&domain, &instance, &place, purpose);
    facts.accelerators.kvm |= inherited.has("kvm");
    let handed = asked.handed.as_ref();
    facts.network.vhost_net |= handed.is_some_and(Handed::has_vhost_net);
    if !domain.devices.vsocks.is_empty() {
        facts.network.vsock_cid = handed.and_then(Handed::vsock_cid).or(Some(match purpose {
            Purpose::Look => vsock::derived(&uuid),
            Purpose::Start | Purpose::HandOver => vsock::free(&uuid),
        }));
    }
    qemu::complete(&mut domain, &facts, faults);
    let launch = Launch {
        shim_monitor: true,
        daemon_monitor: !asked.standalone,
        start: asked.start.mode(),
        inherited,
    };
    let plan = qemu::plan(&domain, &facts, &launch, faults)?;
    Some(Planned { domain, instance, place, uuid, plan })
}

/// A runtime directory of this run's own.
fn private(purpose: Purpose) -> Place {
    match purpose {
        Purpose::Look => Place::of_run("run"),
        Purpose::Start | Purpose::HandOver => Place::of_run(&identity::mark()),
    }
}

/// The domain that a definition's text describes.
fn read(asked: &Asked, definition: &Definition, faults: &Faults) -> Option<Domain> {
    let mut root = match definition_text(&definition.bytes).and_then(tree::parse) {
        Ok(root) => root,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    if let Some(expected) = &definition.expected_name {
        // The header's own faults are found again by the whole domain's reader.
        let header = Header::read(&root, &Faults::new());
        header.misfiled(&root, expected).into_iter().for_each(|fault| faults.push(fault));
    }
    asked.overrides.apply(&mut root);
    Domain::from_tree(&root, faults)
}
