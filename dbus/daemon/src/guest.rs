//! One guest, and the task that keeps its claim.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use dbus_api::opening::Port;
use domain::{DomainName, DomainUuid};
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::task::JoinHandle;
use zbus::OwnedObjectPath;

use crate::claims::{Claim, Token};
use crate::keeper::KeeperHandle;
use crate::leader::Leader;
use crate::lifeline::{CurrentLifeline, Lifeline, OpenFault};
use crate::machined::{Machine, Machined};
use crate::monitor::Monitor;

/// How long a guest waits for the former one of its name to leave machined.
const FORMER_PATIENCE: Duration = Duration::from_secs(5);

/// A guest whose claim was granted.
#[derive(Debug)]
pub(crate) struct Guest {
    claim: Claim,
    machine: Option<Machine>,
    pidfd: OwnedFd,
    lifeline: Arc<CurrentLifeline>,
    monitor: Arc<Monitor>,
    /// Whose turn it is to speak with the guest's agent.
    agent: Mutex<()>,
}

impl Guest {
    /// The guest of a granted claim, the machine that it is, its leader's pidfd, its lifeline, and what knows its QEMU.
    pub(crate) fn new(
        claim: Claim,
        machine: Option<Machine>,
        pidfd: OwnedFd,
        lifeline: Arc<CurrentLifeline>,
        monitor: Arc<Monitor>,
    ) -> Self {
        Self { claim, machine, pidfd, lifeline, monitor, agent: Mutex::default() }
    }

    /// Has its leader open a console or a channel, and waits a second for it at most.
    ///
    /// # Errors
    /// [`OpenFault`], in words that follow the guest's name.
    pub(crate) async fn open(&self, port: Port, name: &str) -> Result<OwnedFd, OpenFault> {
        match (self.claim.opens, self.lifeline.get()) {
            (true, Some(lifeline)) => lifeline.open(port, name).await,
            (true, None) => Err(OpenFault::Silent),
            (false, _) => Err(OpenFault::Unable),
        }
    }

    /// Has its leader reboot it, and waits a second at most until that has begun.
    ///
    /// # Errors
    /// [`OpenFault`]; a leader that is older than this daemon may not answer.
    pub(crate) async fn reboot(&self) -> Result<(), OpenFault> {
        match (self.claim.opens, self.lifeline.get()) {
            (true, Some(lifeline)) => lifeline.reboot().await,
            (true, None) => Err(OpenFault::Silent),
            (false, _) => Err(OpenFault::Unable),
        }
    }

    /// Returns when nobody else speaks with the guest's agent.
    pub(crate) async fn agent(&self) -> MutexGuard<'_, ()> {
        self.agent.lock().await
    }

    /// What keeps its claim, now.
    pub(crate) fn lifeline(&self) -> &Arc<CurrentLifeline> {
        &self.lifeline
    }

    /// What knows its QEMU.
    pub(crate) fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Its name.
    pub(crate) fn name(&self) -> &DomainName {
        &self.claim.name
    }

    /// Its UUID.
    pub(crate) fn uuid(&self) -> &DomainUuid {
        &self.claim.uuid
    }

    /// The process that stands for it.
    pub(crate) fn leader(&self) -> &Leader {
        &self.claim.leader
    }

    /// The unit it lives in, or "".
    pub(crate) fn unit(&self) -> &str {
        self.claim.leader.unit.as_deref().unwrap_or_default()
    }

    /// What it claims.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The leader's pidfd.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The machine that it is in machined, if it can be one.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The path of its object on the bus.
    pub(crate) fn path(&self) -> OwnedObjectPath {
        let path = dbus_api::domain_path(self.uuid());
        path.try_into().expect("hexadecimal digits and underscores are an object path")
    }
}

/// What a guest's task works with, beside the guest.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// Ends the claim.
    pub(crate) lifeline: Arc<Lifeline>,
    /// Stands for the claim.
    pub(crate) token: Token,
    /// Is told when the claim ended.
    pub(crate) keeper: KeeperHandle,
    /// Where the guest is registered; there is none for a user's guests.
    pub(crate) machined: Option<Machined>,
    /// The task of the former guest of that name, which must have left machined first.
    pub(crate) former: Option<JoinHandle<()>>,
    /// Is told when machined answered for the first time.
    pub(crate) enrolled: oneshot::Sender<()>,
}

/// Keeps a claim until its lifeline ends, and the guest in machined meanwhile.
pub(crate) async fn keep(guest: Arc<Guest>, upkeep: Upkeep) {
    let Upkeep { lifeline, token, keeper, machined, former, enrolled } = upkeep;
    let (Some(machine), Some(mut machined)) = (guest.machine(), machined) else {
        // The registrant may have gone meanwhile, here and below.
        let _ = enrolled.send(());
        lifeline.ended().await;
        return keeper.ended(token).await;
    };
    tokio::select! {
        biased;
        () = lifeline.ended() => {}
        () = enroll(&guest, machine, &mut machined, former, enrolled) => {}
    }
    keeper.ended(token).await;
    // Also when nothing was answered yet: the call may be on its way.
    if let Err(refusal) = machined.unregister(&guest, machine).await {
        let name = guest.name();
        tracing::warn!("guest '{name}' ended, but machinectl may still show it: {refusal}");
    }
}

/// Registers the guest with each machined that appears, and serves its control socket. Does not return.
async fn enroll(
    guest: &Arc<Guest>,
    machine: &Machine,
    machined: &mut Machined,
    former: Option<JoinHandle<()>>,
    enrolled: oneshot::Sender<()>,
) {
    if let Some(former) = former {
        // However it ended, and if it hangs, machined is about to say what is wrong.
        drop(tokio::time::timeout(FORMER_PATIENCE, former).await);
    }
    let control = machined.control(guest, machine);
    let mut enrolled = Some(enrolled);
    loop {
        match machined.register(guest, machine, control.as_ref()).await {
            Ok(()) => tracing::info!("guest '{}' is machine {}", guest.name(), machine.name),
            Err(refusal) => {
                tracing::warn!(
                    "guest '{}' runs, but machinectl does not show it: {refusal}",
                    guest.name()
                );
            }
        }
        if let Some(enrolled) = enrolled.take() {
            let _ = enrolled.send(());
        }
        machined.arrived().await;
    }
}
