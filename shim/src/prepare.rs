//! From the command line to what a start needs: the domain, read and planned.

use std::path::Path;

use domain::{
    Domain, DomainName, DomainUuid, Fault, Faults, Header, NbdkitParts, ReadinessChannel, Severity,
    TemplateInstance, UnitInstance, definition_text, tree,
};
use qemu::{Credential, HelperFacts, HostFacts, Inherited, Launch, LaunchPlan, Opened};

use crate::asked::Asked;
use crate::declare::{self, Undeclared};
use crate::definition::{self, Definition, DefinitionError, Source};
use crate::handed::Handed;
use crate::runtime_dir::Place;
use crate::{companion, credentials, facts, identity, vsock};

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
    /// Whether units start the programs beside it.
    pub(crate) has_companions: bool,
    /// How messages call the definition's file.
    pub(crate) file: String,
    /// The domain as it runs, where this process is to keep it.
    pub(crate) running: Option<Box<Domain>>,
    /// The parts of the file that are left out of the guest, one line each.
    pub(crate) ignored: Vec<String>,
}

/// Why a guest cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// There is no definition to read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The guest's unit lacks the settings that its definition asks for.
    #[error(transparent)]
    Undeclared(#[from] Undeclared),
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
    identify(asked, purpose)?.prepare(asked, purpose)
}

/// Reads and plans the guest, and keeps what is wrong with it.
///
/// # Errors
/// [`PrepareError::Definition`] when there is nothing to read.
pub(crate) fn check(asked: &Asked, purpose: Purpose) -> Result<Checked, PrepareError> {
    Ok(identify(asked, purpose)?.check(asked, purpose))
}

/// The guest as its start is going to plan it; nothing when that will refuse it, and say why.
pub(crate) fn foresee(asked: &Asked, definition: &Definition) -> Option<Prepared> {
    let faults = Faults::new();
    let named = Named::read(asked, definition, &faults)?;
    let planned = plan(asked, named, Purpose::HandOver, &faults)?;
    Some(planned.of_definition(asked, definition, Vec::new()))
}

/// Reads the guest's definition, as far as it tells who the guest is.
///
/// # Errors
/// [`PrepareError::Definition`] when there is nothing to read.
pub(crate) fn identify(asked: &Asked, purpose: Purpose) -> Result<Identified, PrepareError> {
    let definition = definition(asked)?;
    // In a sandbox the unit's account tells.
    if purpose == Purpose::Start && asked.handed.is_none() {
        declare::check(&asked.source, &definition)?;
    }
    let faults = Faults::new();
    let named = Named::read(asked, &definition, &faults);
    Ok(Identified { definition, named, faults })
}

/// A definition that was read and not planned: nothing was asked of the host or of QEMU.
#[derive(Debug)]
pub(crate) struct Identified {
    definition: Definition,
    named: Option<Named>,
    faults: Faults,
}

impl Identified {
    /// Whose definition it is; nobody's when it is refused already.
    pub(crate) fn named(&self) -> Option<&Named> {
        self.named.as_ref().filter(|_| !self.faults.any_refused())
    }

    /// Plans the guest.
    ///
    /// # Errors
    /// [`PrepareError::Faulty`].
    pub(crate) fn prepare(self, asked: &Asked, purpose: Purpose) -> Result<Prepared, PrepareError> {
        let checked = self.check(asked, purpose);
        checked.prepared.ok_or(PrepareError::Faulty(checked.refused))
    }

    fn check(self, asked: &Asked, purpose: Purpose) -> Checked {
        let Self { definition, named, faults } = self;
        let planned = named.and_then(|named| plan(asked, named, purpose, &faults));
        let mut faults = faults.into_sorted();
        // What the unit carries out is left out of no guest that runs in one.
        faults.retain(|fault| !(asked.in_unit() && fault.severity == Severity::Unit));
        let (refused, ignored): (Vec<Fault>, Vec<Fault>) =
            faults.into_iter().partition(|fault| fault.severity == Severity::Refused);
        let lines = |faults: &[Fault]| {
            faults.iter().map(|fault| fault.in_file(&definition.file)).collect::<Vec<_>>()
        };
        let ignored = lines(&ignored);
        let prepared = planned
            .filter(|_| refused.is_empty())
            .map(|planned| planned.of_definition(asked, &definition, ignored.clone()));
        Checked { prepared, refused: lines(&refused), ignored }
    }
}

/// A guest by its name and UUID, with the rest of what its definition says.
#[derive(Debug)]
pub(crate) struct Named {
    domain: Domain,
    /// The domain's name as the name of its unit.
    pub(crate) instance: UnitInstance,
    /// The UUID, derived if the file has none.
    pub(crate) uuid: DomainUuid,
}

impl Named {
    /// The guest's name.
    pub(crate) fn name(&self) -> &DomainName {
        &self.domain.name
    }

    fn read(asked: &Asked, definition: &Definition, faults: &Faults) -> Option<Self> {
        let mut domain = read(asked, definition, faults)?;
        let instance = UnitInstance::from(&domain.name);
        match domain.uuid.map_or_else(|| identity::uuid(&domain.name), Ok) {
            Ok(uuid) => {
                domain.uuid = Some(uuid);
                Some(Self { domain, instance, uuid })
            }
            Err(error) => {
                let what = format!("<uuid> is missing and none can be made: {error}; add one");
                faults.push(domain.place.refused(what));
                None
            }
        }
    }
}

/// The definition: in a sandbox the one that was read outside of it.
fn definition(asked: &Asked) -> Result<Definition, PrepareError> {
    let Some(handed) = &asked.handed else { return Ok(definition::read(&asked.source)?) };
    let definition = handed.definition().map_err(|told| PrepareError::Faulty(vec![told.into()]))?;
    let expected_name = match &asked.source {
        Source::Named(guest) => Some(guest.name.clone()),
        Source::File(_) | Source::Descriptor { .. } => None,
    };
    let template = expected_name
        .as_ref()
        .and_then(TemplateInstance::of)
        .is_some_and(|instance| instance.is_declared_by(Path::new(&definition.file)));
    Ok(Definition { expected_name, template, ..definition })
}

struct Planned {
    domain: Domain,
    running: Option<Box<Domain>>,
    instance: UnitInstance,
    place: Place,
    uuid: DomainUuid,
    plan: LaunchPlan,
}

impl Planned {
    fn of_definition(
        self,
        asked: &Asked,
        definition: &Definition,
        ignored: Vec<String>,
    ) -> Prepared {
        let Self { domain, running, instance, place, uuid, plan } = self;
        let (file, has_companions) = (definition.file.clone(), asked.has_companions());
        Prepared { domain, instance, place, uuid, plan, has_companions, file, running, ignored }
    }
}

fn plan(asked: &Asked, named: Named, purpose: Purpose, faults: &Faults) -> Option<Planned> {
    let Named { mut domain, instance, uuid } = named;
    let place = if asked.standalone { private(purpose) } else { Place::of(&instance) };
    let inherited = asked.inheritance.found();
    let mut facts = facts_of(asked, &domain, &instance, &place, purpose);
    facts.accelerators.kvm |= inherited.has("kvm");
    let handed = asked.handed.as_ref();
    facts.network.vhost_net |= handed.is_some_and(Handed::has_vhost_net);
    facts.network.vhost_vsock = has_vhost_vsock(asked, &inherited);
    let awaited = domain.readiness.as_ref().map(|readiness| readiness.channel);
    if !domain.devices.vsocks.is_empty() || awaited == Some(ReadinessChannel::Vsock) {
        facts.network.vsock_cid = handed.and_then(Handed::vsock_cid).or(Some(match purpose {
            Purpose::Look => vsock::derived(&uuid),
            Purpose::Start | Purpose::HandOver => vsock::free(&uuid),
        }));
    }
    if purpose == Purpose::Start && asked.in_unit() {
        facts.credentials = credentials(&domain, faults);
    }
    qemu::complete(&mut domain, &facts, faults);
    let launch = Launch {
        shim_monitor: true,
        daemon_monitor: !asked.standalone,
        start: asked.start.mode(),
        inherited,
    };
    let plan = qemu::plan(&domain, &facts, &launch, faults)?;
    let keeps_running = match purpose {
        Purpose::Look => false,
        // Where there is a privileged step, that has it.
        Purpose::Start => handed.is_none() && !asked.standalone,
        Purpose::HandOver => true,
    };
    let running = keeps_running.then(|| Box::new(qemu::running(&domain, &facts, faults)));
    Some(Planned { domain, running, instance, place, uuid, plan })
}

/// What a plan of this domain must know of the host.
fn facts_of(
    asked: &Asked,
    domain: &Domain,
    instance: &UnitInstance,
    place: &Place,
    purpose: Purpose,
) -> HostFacts {
    let mut facts = facts::of_host(domain, instance, place, purpose);
    if asked.has_companions() {
        let nbdkit = NbdkitParts::found(|path| Path::new(path).exists());
        facts.helpers = HelperFacts::of_units(&companion::folder(instance), nbdkit);
    }
    facts
}

/// A definition as it is read, and what must be known of the host to compare it with the running guest.
/// Nothing when it is refused.
pub(crate) fn to_compare(
    asked: &Asked,
    definition: &Definition,
    place: &Place,
    faults: &Faults,
) -> Option<(Domain, HostFacts)> {
    let Named { domain, instance, .. } = Named::read(asked, definition, faults)?;
    let facts = facts_of(asked, &domain, &instance, place, Purpose::HandOver);
    Some((domain, facts))
}

/// Whether the kernel serves the guest's vsock: also where nobody would start the program that does in its place, so
/// that the device is what is missed. In a sandbox there is no such device, and the privileged step has looked for it.
fn has_vhost_vsock(asked: &Asked, inherited: &Inherited) -> bool {
    let there = || match &asked.handed {
        Some(handed) => handed.vsock_cid().is_some(),
        None => Path::new(vsock::DEVICE).exists(),
    };
    !asked.has_companions() || inherited.has_any(&Opened::VhostVsock) || there()
}

/// What the unit has for its guest; a guest does not start without what it was to be given.
fn credentials(domain: &Domain, faults: &Faults) -> Vec<Credential> {
    credentials::of_unit().unwrap_or_else(|error| {
        let what = format!("the unit's credentials cannot be read: {error}");
        faults.push(domain.place.refused(what));
        Vec::new()
    })
}

/// A runtime directory of this run's own.
fn private(purpose: Purpose) -> Place {
    match purpose {
        Purpose::Look => Place::of_run("run"),
        Purpose::Start | Purpose::HandOver => Place::of_run(&identity::mark()),
    }
}

/// The domain that a definition's text describes.
pub(crate) fn read(asked: &Asked, definition: &Definition, faults: &Faults) -> Option<Domain> {
    let mut root = match definition_text(&definition.bytes).and_then(tree::parse) {
        Ok(root) => root,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    if let Some(expected) = &definition.expected_name {
        let template = TemplateInstance::of(expected).filter(|_| definition.template);
        if let Some(template) = template {
            template.fill(&mut root, faults);
        }
        // The header's own faults are found again by the whole domain's reader.
        let header = Header::read(&root, &Faults::new());
        header.misfiled(&root, expected).into_iter().for_each(|fault| faults.push(fault));
    }
    asked.overrides.apply(&mut root);
    Domain::from_tree(&root, faults)
}
