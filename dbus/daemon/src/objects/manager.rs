//! The manager: which guests, jobs and events there are, and what begins without a guest.

use std::collections::HashMap;

use domain::{DomainName, DomainUuid};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant, interface};

use crate::definitions::{self, Defined, Definitions, DefinitionsFault};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::host::HostInformation;
use crate::jobs::JobKind;
use crate::keeper::Key;
use crate::leader;
use crate::publisher::{EventRow, row as event_row};
use crate::runner::{self, Begun};
use crate::services::Shared;
use crate::work;

/// The manager.
#[derive(Debug)]
pub(crate) struct Manager(pub(crate) Shared);

#[interface(name = "org.glassbox.Glassbox1.Manager", introspection_docs = false)]
impl Manager {
    /// Name, UUID, leader's pid, unit or "", and path of each guest that runs, by name.
    #[zbus(out_args("domains"))]
    async fn list_domains(
        &self,
    ) -> Result<Vec<(String, String, u32, String, OwnedObjectPath)>, Failure> {
        let guests = self.0.keeper.list().await?;
        Ok(guests.iter().map(|guest| row(guest)).collect())
    }

    /// The path of the guest with this name.
    #[zbus(out_args("domain_path"))]
    async fn get_domain(&self, name: &str) -> Result<OwnedObjectPath, Failure> {
        let key = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        if let Some(guest) = self.0.keeper.find(Key::Name(key.clone())).await? {
            return Ok(guest.path());
        }
        let missing = || Failure::NoSuchDomain(format!("no guest has the name '{name}'"));
        Ok(self.0.inventory.named(&key).ok_or_else(missing)?.path())
    }

    /// The path of the guest with this UUID.
    #[zbus(name = "GetDomainByUUID", out_args("domain_path"))]
    async fn get_domain_by_uuid(&self, uuid: &str) -> Result<OwnedObjectPath, Failure> {
        let key = DomainUuid::try_from(uuid).map_err(|fault| Failure::argument("uuid", &fault))?;
        if let Some(guest) = self.0.keeper.find(Key::Uuid(key)).await? {
            return Ok(guest.path());
        }
        let missing = || Failure::NoSuchDomain(format!("no guest has the UUID {key}"));
        Ok(self.0.inventory.numbered(&key).ok_or_else(missing)?.path())
    }

    /// The path of the guest whose leader or QEMU has this process id.
    #[zbus(name = "GetDomainByPID", out_args("domain_path"))]
    async fn get_domain_by_pid(&self, pid: u32) -> Result<OwnedObjectPath, Failure> {
        let parent = leader::parent_of(pid);
        let guests = self.0.keeper.list().await?;
        let is_its = |guest: &Guest| {
            let leader = guest.leader().pid;
            leader == pid || Some(leader) == parent
        };
        let guest = guests.iter().find(|guest| is_its(guest));
        let missing = || Failure::NoSuchDomain(format!("no running guest has process {pid}"));
        Ok(guest.ok_or_else(missing)?.path())
    }

    /// Starts the guest that a file defines, by its unit.
    #[zbus(out_args("job"))]
    async fn start_domain(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
    ) -> Result<Begun, Failure> {
        let name = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        work::begin_start(&self.0, &header, &name).await
    }

    /// Defines a guest for as long as it runs, and starts it; what its reader refuses is refused at once.
    #[zbus(out_args("job"))]
    async fn create(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: &str,
    ) -> Result<Begun, Failure> {
        self.0.authority.admit(&header, None).await?;
        let name = definitions::check(xml).map_err(Failure::InvalidArgs)?;
        work::is_not_running(&self.0, &name).await?;
        let (services, key, xml) = (self.0.clone(), name.clone(), xml.to_owned());
        let work = |reins| work::create(services, key, xml, reins);
        self.0.runner.begin(&name, JobKind::Create, work).await
    }

    /// Writes the definition of a guest; what its reader refuses is refused at once.
    #[zbus(out_args("job"))]
    async fn define(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: &str,
    ) -> Result<Begun, Failure> {
        self.0.authority.admit(&header, None).await?;
        let name = definitions::check(xml).map_err(Failure::InvalidArgs)?;
        let (key, xml) = (name.clone(), xml.to_owned());
        self.redefine(&name, JobKind::Define, move |files| files.define(&key, &xml)).await
    }

    /// Removes the definition of a guest; one that runs runs on.
    #[zbus(out_args("job"))]
    async fn undefine(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
    ) -> Result<Begun, Failure> {
        let name = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        self.0.authority.admit(&header, None).await?;
        let key = name.clone();
        self.redefine(&name, JobKind::Undefine, move |files| files.undefine(&key)).await
    }

    /// Has a guest start at boot, or not.
    #[zbus(out_args("job"))]
    async fn set_autostart(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
        autostart: bool,
    ) -> Result<Begun, Failure> {
        let name = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        self.0.authority.admit(&header, None).await?;
        let key = name.clone();
        let change = move |files: &Definitions| files.set_autostart(&key, autostart);
        self.redefine(&name, JobKind::SetAutostart, change).await
    }

    /// Name and file of each guest that is defined, by name, and whether it starts at boot.
    #[zbus(out_args("definitions"))]
    async fn list_defined(&self) -> Vec<(String, String, bool)> {
        let row = |(name, defined): (DomainName, Defined)| {
            (name.to_string(), defined.file.display().to_string(), defined.autostart)
        };
        self.0.definitions.list().into_iter().map(row).collect()
    }

    /// The definition of a guest, as it is in its file.
    #[zbus(out_args("xml"))]
    async fn get_definition(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
    ) -> Result<String, Failure> {
        let name = DomainName::try_from(name).map_err(|fault| Failure::argument("name", &fault))?;
        // It may have passwords.
        self.0.authority.admit(&header, None).await?;
        self.0.definitions.read(&name).map_err(|fault| match fault {
            DefinitionsFault::NotDefined(_) => Failure::NoSuchDomain(fault.to_string()),
            DefinitionsFault::NoDirectory
            | DefinitionsFault::Masked { .. }
            | DefinitionsFault::Defined { .. }
            | DefinitionsFault::Elsewhere { .. }
            | DefinitionsFault::Unreadable(_)
            | DefinitionsFault::Write(_)
            | DefinitionsFault::File { .. } => Failure::Failed(fault.to_string()),
        })
    }

    /// Number, path, guest's name and kind of each job, the oldest first.
    #[zbus(out_args("jobs"))]
    async fn list_jobs(&self) -> Vec<(u32, OwnedObjectPath, String, String)> {
        let jobs = self.0.runner.running();
        let row = |job: &crate::jobs::Job| {
            let (domain, kind) = (job.domain.to_string(), job.kind.word().to_owned());
            (job.id.number(), runner::path(job), domain, kind)
        };
        jobs.iter().map(row).collect()
    }

    /// The events after the one with this number, and whether others are lost between.
    #[zbus(out_args("gap", "events"))]
    async fn events_since(&self, sequence: u64) -> (bool, Vec<EventRow>) {
        let since = self.0.herald.ring().since(sequence);
        (since.gap, since.events.into_iter().map(event_row).collect())
    }

    /// What the host is.
    #[zbus(out_args("information"))]
    async fn get_host_information(&self) -> HashMap<&'static str, OwnedVariant> {
        let HostInformation { name, architecture, kernel, cpus, memory, uptime } =
            HostInformation::now();
        let text = |text: String| OwnedVariant::from(zbus::Str::from(text));
        HashMap::from([
            ("name", text(name)),
            ("architecture", text(architecture)),
            ("kernel", text(kernel)),
            ("cpus", cpus.into()),
            ("memory", memory.into()),
            ("uptime", uptime.into()),
        ])
    }

    /// A guest has an object: it runs, or is defined.
    #[zbus(signal)]
    pub(crate) async fn domain_added(
        emitter: &SignalEmitter<'_>,
        name: &str,
        path: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    /// A guest has no object any more: it neither runs nor is defined.
    #[zbus(signal)]
    pub(crate) async fn domain_removed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        path: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    /// A job began.
    #[zbus(signal)]
    pub(crate) async fn job_new(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        domain: &str,
        kind: &str,
    ) -> zbus::Result<()>;

    /// A job ended.
    #[zbus(signal)]
    pub(crate) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        domain: &str,
        result: &str,
        message: &str,
    ) -> zbus::Result<()>;

    /// Something happened to a guest; `details` has at least its `uuid`.
    #[zbus(signal)]
    pub(crate) async fn event(
        emitter: &SignalEmitter<'_>,
        sequence: u64,
        time: u64,
        domain: &str,
        kind: &str,
        event: &str,
        details: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    /// The version of the daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The number of the last event.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_event(&self) -> u64 {
        self.0.herald.ring().last()
    }
}

impl Manager {
    /// Begins a job that changes the files that define guests.
    async fn redefine<F>(
        &self,
        name: &DomainName,
        kind: JobKind,
        change: F,
    ) -> Result<Begun, Failure>
    where
        F: FnOnce(&Definitions) -> Result<(), DefinitionsFault> + Send + 'static,
    {
        let services = self.0.clone();
        self.0.runner.begin(name, kind, |reins| work::redefine(services, change, reins)).await
    }
}

fn row(guest: &Guest) -> (String, String, u32, String, OwnedObjectPath) {
    let name = guest.name().to_string();
    (name, guest.uuid().to_string(), guest.leader().pid, guest.unit().to_owned(), guest.path())
}
