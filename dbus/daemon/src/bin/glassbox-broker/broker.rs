//! The methods on the bus: who may call, and what each takes.

use std::os::fd::AsFd;

use dbus_api::{BROKER_INTERFACE, GuestSignal};
use domain::{DomainName, DomainUuid, MachineName, NameError};
use nix::unistd::User;
use tokio::sync::watch;
use zbus::message::Header;
use zbus::{Connection, OwnedFd, OwnedObjectPath, interface};

use crate::machined::{self, Answer, Registration};
use crate::proof::{Leader, ProofFault};
use crate::systemd;

/// The broker, as it is called.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The system bus.
    pub(crate) bus: Connection,
    /// The account whose calls are served.
    pub(crate) account: String,
    /// How many calls are running.
    pub(crate) calls: watch::Sender<usize>,
}

/// Why a call fails; the text is for a log.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.glassbox.Broker1.Error")]
pub(crate) enum Failure {
    /// The bus fails.
    #[zbus(error)]
    Bus(zbus::Error),
    /// That is not done for this caller, or with this guest.
    Refused(String),
    /// There is no machined on this host.
    NoMachined(String),
    /// The service that was asked refuses.
    Failed(String),
}

// The name is BROKER_INTERFACE, which a macro cannot read.
#[interface(name = "org.glassbox.Broker1", introspection_docs = false)]
impl Broker {
    /// Registers a guest that runs with machined: the process that made the lifeline is the leader, and `vsock_cid` 0 is
    /// none. With `control` machined is told of the guest's control socket.
    ///
    /// False when there is a machine of that name.
    // The contract has six arguments, and the dispatcher adds one.
    #[allow(clippy::too_many_arguments)]
    async fn register_machine(
        &self,
        #[zbus(header)] header: Header<'_>,
        lifeline: OwnedFd,
        name: &str,
        uuid: &str,
        interfaces: Vec<i32>,
        vsock_cid: u32,
        control: bool,
    ) -> Result<bool, Failure> {
        let call = self.admit(&header).await?;
        let (name, machine) = names(name)?;
        let uuid = DomainUuid::try_from(uuid)?;
        let leader = Leader::of(lifeline.as_fd())?;
        let unit = leader.unit_for(call.uid)?;
        if !systemd::may_have(&unit, &name) {
            return Err(refused(format!("{unit} is not the unit of guest '{name}'")));
        }
        let vsock_cid = (vsock_cid != 0).then_some(vsock_cid);
        let registration = Registration {
            name: machine,
            uuid,
            leader: leader.pid,
            interfaces,
            vsock_cid,
            control,
        };
        Ok(machined::register(&self.bus, &registration).await? == Answer::Registered)
    }

    /// Takes the machine of a guest out of machined, if it is one of ours.
    async fn unregister_machine(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
    ) -> Result<(), Failure> {
        let _call = self.admit(&header).await?;
        let (_, machine) = names(name)?;
        machined::unregister(&self.bus, &machine).await
    }

    /// Starts the unit of a guest that a file defines; gives the service manager's job.
    #[zbus(out_args("job"))]
    async fn start_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        name: &str,
    ) -> Result<OwnedObjectPath, Failure> {
        let _call = self.admit(&header).await?;
        let (name, _) = names(name)?;
        systemd::start(&self.bus, &name).await
    }

    /// Cancels a job of the service manager's with a guest's unit.
    async fn cancel_job(
        &self,
        #[zbus(header)] header: Header<'_>,
        job: OwnedObjectPath,
    ) -> Result<(), Failure> {
        let _call = self.admit(&header).await?;
        systemd::cancel(&self.bus, &job).await
    }

    /// Begins to stop the unit of the process that made the lifeline.
    async fn stop_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        lifeline: OwnedFd,
    ) -> Result<(), Failure> {
        let call = self.admit(&header).await?;
        let leader = Leader::of(lifeline.as_fd())?;
        systemd::stop(&self.bus, &leader.unit_for(call.uid)?).await
    }

    /// Reloads the unit of the process that made the lifeline, if that is one of `qemu@`; gives the service manager's job.
    #[zbus(out_args("job"))]
    async fn reload_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        lifeline: OwnedFd,
    ) -> Result<OwnedObjectPath, Failure> {
        let call = self.admit(&header).await?;
        let leader = Leader::of(lifeline.as_fd())?;
        systemd::reload_guest(&self.bus, &leader.unit_for(call.uid)?).await
    }

    /// Sends one of the signals of glassbox-qemu(1) to the main process of that unit: `quit` or `reboot`.
    async fn signal_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        lifeline: OwnedFd,
        signal: &str,
    ) -> Result<(), Failure> {
        let call = self.admit(&header).await?;
        let found = GuestSignal::from_word(signal)
            .ok_or_else(|| refused(format!("'{signal}' is no signal that is sent here")))?;
        let leader = Leader::of(lifeline.as_fd())?;
        systemd::signal(&self.bus, &leader.unit_for(call.uid)?, found.number()).await
    }

    /// Has the service manager run its generators and read its units anew; answers when it has.
    async fn reload(&self, #[zbus(header)] header: Header<'_>) -> Result<(), Failure> {
        let _call = self.admit(&header).await?;
        systemd::reload(&self.bus).await
    }
}

/// A call that is being answered.
struct Call<'a> {
    uid: u32,
    calls: &'a watch::Sender<usize>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.send_modify(|calls| *calls -= 1);
    }
}

impl Broker {
    /// Refuses callers of other accounts, by the bus's word. The bus's own policy does as well.
    async fn admit(&self, header: &Header<'_>) -> Result<Call<'_>, Failure> {
        self.calls.send_modify(|calls| *calls += 1);
        let mut call = Call { uid: u32::MAX, calls: &self.calls };
        let sender = header.sender().ok_or_else(|| refused("the call has no sender"))?;
        let bus = Some("org.freedesktop.DBus");
        let path = "/org/freedesktop/DBus";
        let reply = self.bus.call_method(bus, path, bus, "GetConnectionUnixUser", sender).await?;
        call.uid = reply.body().deserialize()?;
        // Looked up each time, for sysusers may make the account while this runs.
        match User::from_name(&self.account) {
            Ok(Some(user)) if user.uid.as_raw() == call.uid => Ok(call),
            Ok(_) | Err(_) => {
                Err(refused(format!("{BROKER_INTERFACE} serves {} only", self.account)))
            }
        }
    }
}

/// What is asked is not done.
pub(crate) fn refused<W: Into<String>>(why: W) -> Failure {
    let why = why.into();
    // Who calls is told, too; the journal has it from this side, which nobody else can leave out.
    eprintln!("<4>refused: {why}");
    Failure::Refused(why)
}

impl From<NameError> for Failure {
    fn from(fault: NameError) -> Self {
        refused(fault.to_string())
    }
}

impl From<ProofFault> for Failure {
    fn from(fault: ProofFault) -> Self {
        refused(fault.to_string())
    }
}

fn names(name: &str) -> Result<(DomainName, MachineName), Failure> {
    let name = DomainName::try_from(name)?;
    let machine = MachineName::try_from(&name)?;
    Ok((name, machine))
}
