//! A guest's own object.

use std::collections::HashMap;
use std::os::fd::OwnedFd as StdFd;
use std::sync::Arc;
use std::time::Duration;

use dbus_api::opening::Port;
use domain::{Amount, DeviceEdit};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, Variant, interface};

use crate::agent::{self, LONGEST_PATIENCE};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::inventory::{Definition, Standing};
use crate::jobs::{JobKind, Outcome};
use crate::monitor::{Face, Figure};
use crate::runner::Begun;
use crate::services::Shared;
use crate::systemd::unit_of;
use crate::work::amounts;
use crate::work::devices::{self, Impact};
use crate::{live, work};

/// How long the service manager may take to tell what it counts.
const SYSTEMD_PATIENCE: Duration = Duration::from_millis(100);

/// A guest's own object, which is there while the guest runs or is defined.
#[derive(Debug)]
pub(crate) struct Domain {
    /// How the guest stands.
    pub(crate) standing: Arc<Standing>,
    /// What it works with.
    pub(crate) services: Shared,
}

#[interface(name = "org.glassbox.Glassbox1.Domain", introspection_docs = false)]
impl Domain {
    /// Starts the guest, by its unit.
    #[zbus(out_args("job"))]
    async fn start(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        work::begin_start(&self.services, &header, self.standing.name()).await
    }

    /// Presses the power button; whether and when the guest obeys is its own affair.
    #[zbus(out_args("job"))]
    async fn shutdown(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        self.command(&header, JobKind::Shutdown, "system_powerdown", Value::Null).await
    }

    /// Presses the power button, and starts the guest anew once it has shut down.
    #[zbus(out_args("job"))]
    async fn reboot(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        let work = work::reboot(self.guest()?, self.services.systemd.clone());
        self.begin(&header, JobKind::Reboot, work).await
    }

    /// Presses the reset button.
    #[zbus(out_args("job"))]
    async fn reset(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        self.command(&header, JobKind::Reset, "system_reset", Value::Null).await
    }

    /// Ends the guest, with its disks flushed if its QEMU manages within ten seconds.
    #[zbus(out_args("job"))]
    async fn destroy(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        let work = work::destroy(self.guest()?, self.services.systemd.clone());
        self.begin(&header, JobKind::Destroy, work).await
    }

    /// Stops the guest's CPUs.
    #[zbus(out_args("job"))]
    async fn suspend(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        self.command(&header, JobKind::Suspend, "stop", Value::Null).await
    }

    /// Lets the guest's CPUs go on.
    #[zbus(out_args("job"))]
    async fn resume(&self, #[zbus(header)] header: Header<'_>) -> Result<Begun, Failure> {
        self.command(&header, JobKind::Resume, "cont", Value::Null).await
    }

    /// Adds CPUs to the guest, its definition or both, by `flags`: 1 and 2; or takes away some that were added.
    #[zbus(name = "SetVCPUs", out_args("job"))]
    async fn set_vcpus(
        &self,
        #[zbus(header)] header: Header<'_>,
        count: u32,
        flags: u32,
    ) -> Result<Begun, Failure> {
        self.change_amount(&header, JobKind::SetVcpus, Amount::Vcpus(count), flags).await
    }

    /// Gives the guest's balloon a size, now, from its next start on, or both.
    #[zbus(out_args("job"))]
    async fn set_memory(
        &self,
        #[zbus(header)] header: Header<'_>,
        bytes: u64,
        flags: u32,
    ) -> Result<Begun, Failure> {
        self.change_amount(&header, JobKind::SetMemory, Amount::Memory(bytes), flags).await
    }

    /// Presses keys together, by the names of QEMU's `QKeyCode`, and lets them go after so many milliseconds.
    #[zbus(out_args("job"))]
    async fn send_key(
        &self,
        #[zbus(header)] header: Header<'_>,
        milliseconds: u32,
        keys: Vec<String>,
    ) -> Result<Begun, Failure> {
        let key = |key: &String| json!({ "type": "qcode", "data": key });
        let keys: Vec<Value> = keys.iter().map(key).collect();
        let arguments = json!({ "keys": keys, "hold-time": milliseconds });
        self.command(&header, JobKind::SendKey, "send-key", arguments).await
    }

    /// Has a picture of the screen written; the file has it, as PNG, when the job is done.
    #[zbus(out_args("job", "image"))]
    async fn screenshot(
        &self,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, OwnedFd), Failure> {
        let guest = self.guest()?;
        self.services.authority.admit(&header, Some(&guest)).await?;
        let (read, write) = picture().map_err(|error| {
            Failure::Failed(format!("there is no memory for a picture: {error}"))
        })?;
        let work = work::screenshot(guest.clone(), write);
        let runner = &self.services.runner;
        let job = runner.begin_plainly(guest.name(), JobKind::Screenshot, work).await?;
        Ok((job, OwnedFd::from(read)))
    }

    /// Adds a device to the guest, its definition or both, by `flags`: 1 and 2.
    #[zbus(out_args("job"))]
    async fn attach_device(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: &str,
        flags: u32,
    ) -> Result<Begun, Failure> {
        self.change_device(&header, JobKind::AttachDevice, DeviceEdit::Attach, xml, flags).await
    }

    /// Takes a device from the guest, its definition or both.
    #[zbus(out_args("job"))]
    async fn detach_device(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: &str,
        flags: u32,
    ) -> Result<Begun, Failure> {
        self.change_device(&header, JobKind::DetachDevice, DeviceEdit::Detach, xml, flags).await
    }

    /// Changes what can be changed of a device: the medium of a drive, the cable of an interface.
    #[zbus(out_args("job"))]
    async fn update_device(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: &str,
        flags: u32,
    ) -> Result<Begun, Failure> {
        self.change_device(&header, JobKind::UpdateDevice, DeviceEdit::Update, xml, flags).await
    }

    /// The guest as it runs, or as its file defines it.
    #[zbus(name = "GetXML", out_args("xml"))]
    async fn get_xml(
        &self,
        #[zbus(header)] header: Header<'_>,
        live: bool,
    ) -> Result<String, Failure> {
        let name = self.standing.name();
        if !live {
            // As GetDefinition, with passwords and all.
            self.services.authority.admit(&header, None).await?;
            let text = self.services.definitions.read(name);
            return text.map_err(|fault| Failure::Failed(fault.to_string()));
        }
        let guest = self.guest()?;
        let text = self.services.live.read(name);
        let text = text.map_err(|error| {
            Failure::Failed(format!("there is no live definition of guest '{name}': {error}"))
        })?;
        let admitted = self.services.authority.admit(&header, Some(&guest)).await;
        // The file may be of a reload that has just been, and what is known from before it.
        guest.monitor().refresh_now().await;
        let shown = live::shown(&text, self.face(), admitted.is_ok());
        shown.ok_or_else(|| {
            Failure::Failed(format!("the live definition of guest '{name}' cannot be read"))
        })
    }

    /// Has QEMU carry out a command of its own; `arguments` is a JSON object or "", and so is the answer a JSON value.
    #[zbus(out_args("answer"))]
    async fn monitor_command(
        &self,
        #[zbus(header)] header: Header<'_>,
        command: &str,
        arguments: &str,
    ) -> Result<String, Failure> {
        let guest = self.guest()?;
        self.services.authority.admit(&header, Some(&guest)).await?;
        let arguments = parsed(arguments)?;
        let answer = guest.monitor().ask(command, arguments).await;
        let answer = answer.map_err(|fault| Failure::of_ask(guest.name(), &fault))?;
        Ok(answer.to_string())
    }

    /// Has the guest's agent carry out a command within so many seconds, 0 being five; `arguments` and the answer are as
    /// those of `MonitorCommand`.
    #[zbus(out_args("answer"))]
    async fn agent_command(
        &self,
        #[zbus(header)] header: Header<'_>,
        command: &str,
        arguments: &str,
        seconds: u32,
    ) -> Result<String, Failure> {
        let guest = self.guest()?;
        self.services.authority.admit(&header, Some(&guest)).await?;
        if seconds > LONGEST_PATIENCE {
            let text = format!("seconds: an agent gets at most {LONGEST_PATIENCE} of them");
            return Err(Failure::InvalidArgs(text));
        }
        let answer = agent::ask(&guest, command, parsed(arguments)?, seconds).await;
        answer.map_err(|fault| Failure::of_agent(guest.name(), &fault))
    }

    /// Opens a console, by its alias, or the first one without; for one client at a time.
    #[zbus(out_args("console"))]
    async fn open_console(
        &self,
        #[zbus(header)] header: Header<'_>,
        alias: &str,
    ) -> Result<OwnedFd, Failure> {
        let guest = self.guest()?;
        self.services.authority.admit(&header, Some(&guest)).await?;
        let console = guest.open(Port::Console, alias).await;
        console.map(OwnedFd::from).map_err(|fault| Failure::of_open(guest.name(), &fault))
    }

    /// Figures by libvirt's names and in its units, and `age`, that of what QEMU said, in microseconds.
    #[zbus(out_args("statistics"))]
    async fn get_statistics(&self) -> Result<HashMap<String, OwnedVariant>, Failure> {
        let guest = self.guest()?;
        let monitor = guest.monitor();
        monitor.refresh().await;
        let mut figures: HashMap<String, OwnedVariant> =
            monitor.statistics().into_iter().map(|(name, figure)| (name, figure.into())).collect();
        figures.insert("responding".to_owned(), monitor.face().responding.into());
        figures.insert("age".to_owned(), self.age().into());
        figures.extend(self.of_control_group(guest.unit()).await);
        Ok(figures)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self) -> &str {
        self.standing.name().as_str()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "UUID")]
    async fn uuid(&self) -> String {
        self.standing.uuid().to_string()
    }

    /// 0 when it does not run.
    #[zbus(property, name = "LeaderPID")]
    async fn leader_pid(&self) -> u32 {
        self.standing.guest().map_or(0, |guest| guest.leader().pid)
    }

    /// The unit that it lives in, or that starts it.
    #[zbus(property)]
    async fn unit(&self) -> String {
        let guest = self.standing.guest();
        guest.map_or_else(|| unit_of(self.standing.name()), |guest| guest.unit().to_owned())
    }

    /// Whether the guest's definition is kept when the guest has ended.
    #[zbus(property)]
    async fn persistent(&self) -> bool {
        self.is_persistent()
    }

    /// The file that defines it, or "".
    #[zbus(property(emits_changed_signal = "false"))]
    async fn file(&self) -> String {
        let defined = self.services.definitions.find(self.standing.name());
        defined.map_or_else(String::new, |defined| defined.file.display().to_string())
    }

    /// Whether the guest starts at boot by an entry of the autostart directory.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn autostart(&self) -> bool {
        self.services.definitions.is_autostart(self.standing.name())
    }

    /// The name in machinectl; "" for a guest that is not registered with machined.
    #[zbus(property)]
    async fn machine_name(&self) -> String {
        let guest = self.standing.guest();
        let machine = guest.as_ref().and_then(|guest| guest.machine());
        machine.map_or_else(String::new, |machine| machine.name.as_str().to_owned())
    }

    /// The state, by libvirt's word for it.
    #[zbus(property)]
    async fn state(&self) -> &str {
        self.face().state.word()
    }

    /// Why it is in that state, by libvirt's word for it.
    #[zbus(property)]
    async fn reason(&self) -> &str {
        self.face().state.reason()
    }

    /// How many CPUs it has.
    #[zbus(property, name = "VCPUs")]
    async fn vcpus(&self) -> u32 {
        self.face().vcpus
    }

    /// How much memory it has, in bytes.
    #[zbus(property)]
    async fn memory(&self) -> u64 {
        self.face().memory
    }

    /// Whether its QEMU answers.
    #[zbus(property)]
    async fn responding(&self) -> bool {
        self.face().responding
    }

    /// How old is what is known of it, in microseconds.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn data_age(&self) -> u64 {
        self.age()
    }
}

impl Domain {
    /// The guest, which must run.
    fn guest(&self) -> Result<Arc<Guest>, Failure> {
        let missing =
            || Failure::NotRunning(format!("guest '{}' does not run", self.standing.name()));
        self.standing.guest().ok_or_else(missing)
    }

    /// What is known of the guest. Who reads it when it is old has it asked for, for the next reader.
    fn face(&self) -> Face {
        let Some(guest) = self.standing.guest() else { return Face::SHUTOFF };
        guest.monitor().refresh_later();
        guest.monitor().face()
    }

    fn is_persistent(&self) -> bool {
        match self.standing.definition() {
            Definition::Kept => true,
            Definition::Gone => false,
            Definition::Elsewhere => {
                let is_transient = self.standing.guest().is_some_and(|it| it.claim().transient);
                !is_transient && !self.services.definitions.is_transient(self.standing.name())
            }
        }
    }

    /// The properties that are others when the guest runs than when it does not.
    pub(crate) async fn of_its_life(&self) -> HashMap<&'static str, Variant<'static>> {
        let face = properties(self.face());
        let others = [
            ("LeaderPID", self.leader_pid().await.into()),
            ("Unit", self.unit().await.into()),
            ("MachineName", self.machine_name().await.into()),
            ("Persistent", self.is_persistent().into()),
        ];
        face.into_iter().chain(others).collect()
    }

    /// Begins a job with this guest, if the caller may.
    async fn begin<F>(&self, header: &Header<'_>, kind: JobKind, work: F) -> Result<Begun, Failure>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let guest = self.guest()?;
        self.services.authority.admit(header, Some(&guest)).await?;
        self.services.runner.begin(guest.name(), kind, |_| work).await
    }

    /// Begins a job that changes an amount. The definition is nobody's to change who may not manage all guests.
    async fn change_amount(
        &self,
        header: &Header<'_>,
        kind: JobKind,
        amount: Amount,
        flags: u32,
    ) -> Result<Begun, Failure> {
        let guest = self.guest()?;
        let impact = Impact::try_from(flags).map_err(|fault| Failure::argument("flags", &fault))?;
        let own = Some(&*guest).filter(|_| !impact.config);
        self.services.authority.admit(header, own).await?;
        let (services, of_job) = (self.services.clone(), guest.clone());
        let work = |reins| amounts::change(services, of_job, amount, impact, reins);
        self.services.runner.begin(guest.name(), kind, work).await
    }

    /// Begins a job that changes a device.
    async fn change_device(
        &self,
        header: &Header<'_>,
        kind: JobKind,
        how: DeviceEdit,
        xml: &str,
        flags: u32,
    ) -> Result<Begun, Failure> {
        let guest = self.guest()?;
        let impact = Impact::try_from(flags).map_err(|fault| Failure::argument("flags", &fault))?;
        // That the guest runs as the caller is not enough: root opens what the device names.
        self.services.authority.admit(header, None).await?;
        let work =
            devices::change(self.services.clone(), guest.clone(), xml.to_owned(), how, impact);
        self.services.runner.begin(guest.name(), kind, |_| work).await
    }

    /// Begins a job that is one command of QEMU's.
    async fn command(
        &self,
        header: &Header<'_>,
        kind: JobKind,
        command: &'static str,
        arguments: Value,
    ) -> Result<Begun, Failure> {
        self.begin(header, kind, work::command(self.guest()?, command, arguments)).await
    }

    /// In microseconds; the greatest number when nothing is known.
    fn age(&self) -> u64 {
        let age = self.standing.guest().and_then(|guest| guest.monitor().age());
        age.and_then(|age| u64::try_from(age.as_micros()).ok()).unwrap_or(u64::MAX)
    }

    /// What systemd counts for the guest's unit, by libvirt's names where it has some.
    async fn of_control_group(&self, unit: &str) -> HashMap<String, OwnedVariant> {
        let systemd = &self.services.systemd;
        let counts = async {
            tokio::join!(systemd.count(unit, "CPUUsageNSec"), systemd.count(unit, "MemoryCurrent"))
        };
        // A service manager that is busy with something else is no reason to wait.
        let counts = tokio::time::timeout(SYSTEMD_PATIENCE, counts).await;
        let (time, memory) = counts.unwrap_or_default();
        let figures = [("cpu.time", time), ("memory.current", memory)];
        let known = |(name, count): (&str, Option<u64>)| Some((name.to_owned(), count?.into()));
        figures.into_iter().filter_map(known).collect()
    }
}

/// The arguments of a command, a JSON value or "".
fn parsed(arguments: &str) -> Result<Value, Failure> {
    match arguments {
        "" => Ok(Value::Null),
        text => serde_json::from_str(text).map_err(|fault| Failure::argument("arguments", &fault)),
    }
}

/// The properties that QEMU tells of.
pub(crate) fn properties(face: Face) -> [(&'static str, Variant<'static>); 5] {
    [
        ("State", face.state.word().into()),
        ("Reason", face.state.reason().into()),
        ("VCPUs", face.vcpus.into()),
        ("Memory", face.memory.into()),
        ("Responding", face.responding.into()),
    ]
}

impl From<Figure> for OwnedVariant {
    fn from(figure: Figure) -> Self {
        match figure {
            Figure::Count(number) => number.into(),
            Figure::Word(word) => zbus::Str::from(word).into(),
        }
    }
}

/// A file in memory, open for reading and, once more, for writing: QEMU takes a file only in the way that it is to use.
fn picture() -> std::io::Result<(StdFd, StdFd)> {
    use std::os::fd::AsRawFd;
    let memory = memfd_create("glassbox-picture", MFdFlags::MFD_CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let read = std::fs::File::open(&path)?;
    let write = std::fs::File::options().write(true).open(&path)?;
    Ok((read.into(), write.into()))
}
