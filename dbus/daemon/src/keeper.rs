//! The keeper: the one task that owns the claims and what keeps each of them.
//!
//! Everything else asks the keeper by messages through a [`KeeperHandle`]. The keeper handles one message at a
//! time and waits for nothing in between, so of any number of racing claims exactly one is granted.
//!
//! ```text
//!   Register --claim--> keeper --spawn--> guest task: register with machined, wait for the lifeline's end
//!                         ^  |                |
//!                         |  +--> publisher   | ended(token)
//!                         +-------------------+
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use domain::{DomainName, DomainUuid};
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::claims::{Claim, Claims, Conflict, Grant, Token};
use crate::definitions::Definitions;
use crate::event;
use crate::failure::Failure;
use crate::fdstore;
use crate::guest::{self, Guest, Upkeep};
use crate::happening::{Happening, Kind};
use crate::herald::Herald;
use crate::inventory::{Definition, Inventory, Standing};
use crate::lifeline::{CurrentLifeline, Lifeline};
use crate::machined::{Machine, Machined};
use crate::monitor::Monitor;
use crate::publisher::Publication;
use crate::registry::Request;
use crate::ring::Told;
use crate::sparing::{LeftOut, Sparing};

/// How many messages wait for the keeper before their senders do.
const QUEUE: usize = 64;

/// What a claimant gets.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The guest that it now leads.
    pub(crate) guest: Arc<Guest>,
    /// Resolves when the guest's object is on the bus; an error means the daemon has no bus.
    pub(crate) published: oneshot::Receiver<()>,
    /// Resolves when machined answered, or when there is nothing to ask it.
    pub(crate) enrolled: oneshot::Receiver<()>,
}

/// Talks to the keeper.
#[derive(Debug, Clone)]
pub(crate) struct KeeperHandle(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Claim { request: Box<Request>, reply: oneshot::Sender<Result<Admitted, Failure>> },
    Ended(Token),
    List(oneshot::Sender<Vec<Arc<Guest>>>),
    Find { by: Key, reply: oneshot::Sender<Option<Arc<Guest>>> },
}

/// By what a guest is looked for.
#[derive(Debug)]
pub(crate) enum Key {
    /// By its name.
    Name(DomainName),
    /// By its UUID.
    Uuid(DomainUuid),
}

impl KeeperHandle {
    /// Asks for a claim.
    ///
    /// # Errors
    /// [`Failure::Claimed`] names who holds it, [`Failure::Refused`] tells why a user may not have it.
    pub(crate) async fn claim(&self, request: Request) -> Result<Admitted, Failure> {
        self.ask(|reply| Message::Claim { request: Box::new(request), reply }).await?
    }

    /// All guests, by name.
    pub(crate) async fn list(&self) -> Result<Vec<Arc<Guest>>, Failure> {
        self.ask(Message::List).await
    }

    /// The guest with a name or UUID.
    pub(crate) async fn find(&self, by: Key) -> Result<Option<Arc<Guest>>, Failure> {
        self.ask(|reply| Message::Find { by, reply }).await
    }

    /// Says that the lifeline of a claim ended.
    pub(crate) async fn ended(&self, token: Token) {
        if self.0.send(Message::Ended(token)).await.is_err() {
            tracing::debug!("a lifeline ended while the daemon does");
        }
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.0.send(message(reply)).await.map_err(|_| Failure::Ending)?;
        answer.await.map_err(|_| Failure::Ending)
    }
}

/// Owns the claims.
#[derive(Debug)]
pub(crate) struct Keeper {
    claims: Claims,
    kept: HashMap<Token, Kept>,
    /// The tasks of guests that ended and may not yet have left machined, by name.
    leaving: HashMap<DomainName, JoinHandle<()>>,
    handle: KeeperHandle,
    inbox: mpsc::Receiver<Message>,
    publisher: mpsc::UnboundedSender<Publication>,
    machined: Option<Machined>,
    herald: Herald,
    definitions: Arc<Definitions>,
    inventory: Inventory,
    /// What the former daemon told, while its claims are taken over.
    told: Arc<Told>,
    /// The guests whose end it told.
    ended: HashSet<DomainUuid>,
    refusals: Sparing,
    /// Of users' guests that come and go.
    comings: Sparing,
}

/// What keeps one claim, beside its entry in the table.
#[derive(Debug)]
struct Kept {
    guest: Arc<Guest>,
    lifeline: Arc<Lifeline>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// A keeper without claims, which tells `publisher` and `machined` of each that comes and goes.
    pub(crate) fn new(
        publisher: mpsc::UnboundedSender<Publication>,
        machined: Option<Machined>,
        herald: Herald,
        (definitions, inventory): (Arc<Definitions>, Inventory),
    ) -> Self {
        let (sender, inbox) = mpsc::channel(QUEUE);
        Self {
            claims: Claims::default(),
            kept: HashMap::new(),
            leaving: HashMap::new(),
            handle: KeeperHandle(sender),
            inbox,
            publisher,
            machined,
            herald,
            definitions,
            inventory,
            told: Arc::default(),
            ended: HashSet::new(),
            refusals: Sparing::default(),
            comings: Sparing::default(),
        }
    }

    /// A way to talk to this keeper.
    pub(crate) fn handle(&self) -> KeeperHandle {
        self.handle.clone()
    }

    /// Handles messages for as long as the daemon runs.
    pub(crate) async fn run(mut self) {
        while let Some(message) = self.inbox.recv().await {
            self.handle_message(message);
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            // A caller that went away meanwhile needs no answer; its lifeline ends its claim.
            Message::Claim { request, reply } => drop(reply.send(self.claim(*request))),
            Message::Ended(token) => self.release(token),
            Message::List(reply) => {
                let guests = self.claims.tokens().map(|token| self.kept[&token].guest.clone());
                drop(reply.send(guests.collect()));
            }
            Message::Find { by, reply } => {
                let token = match by {
                    Key::Name(name) => self.claims.named(&name),
                    Key::Uuid(uuid) => self.claims.numbered(&uuid),
                };
                drop(reply.send(token.map(|token| self.kept[&token].guest.clone())));
            }
        }
    }

    /// Takes over the claims of the former daemon, before anybody can ask for one.
    ///
    /// Gives what resolves when the objects of the guests are on the bus.
    pub(crate) fn restore(
        &mut self,
        requests: Vec<Request>,
        told: Told,
    ) -> Vec<oneshot::Receiver<()>> {
        self.told = Arc::new(told);
        let mut published = Vec::new();
        for request in requests {
            let name = request.claim.name.clone();
            if request.lifeline.has_ended() && self.told.has_ended(&request.claim.uuid) {
                self.ended.insert(request.claim.uuid);
            }
            match self.admit(request) {
                Ok(admitted) => published.push(admitted.published),
                Err(conflict) => {
                    // What one daemon wrote never excludes each other.
                    tracing::error!("guest '{name}' lost its stored claim: {conflict}");
                }
            }
        }
        self.told = Arc::default();
        self.tell_status();
        published
    }

    /// Grants a claim, and stores it.
    fn claim(&mut self, request: Request) -> Result<Admitted, Failure> {
        let (name, leader) = (request.claim.name.clone(), request.claim.leader.clone());
        let fit = self.is_fit(&request.claim).map_err(Failure::Refused);
        let admitted = fit.and_then(|()| {
            self.admit(request).map_err(|conflict| Failure::Claimed(conflict.to_string()))
        });
        let admitted = admitted.inspect_err(|failure| {
            if let Some(left_out) = self.refusals.line() {
                tracing::info!("refused {name} to {leader}: {}{left_out}", failure.text());
            }
        })?;
        let guest = &admitted.guest;
        if let Some(kept) = self.claims.named(guest.name()).and_then(|token| self.kept.get(&token))
        {
            // Before the claimant learns of its claim, so that it need not fear for it from then on.
            fdstore::keep(guest, &kept.lifeline);
        }
        self.tell_status();
        Ok(admitted)
    }

    /// Refuses a user's guest the names of the system's, and more guests than there is room for.
    fn is_fit(&self, claim: &Claim) -> Result<(), String> {
        self.claims.has_room(claim.user)?;
        if claim.user.is_none() {
            return Ok(());
        }
        let name = &claim.name;
        if let Some(file) = self.definitions.naming(name) {
            let file = file.display();
            return Err(format!(
                "the name '{name}' is that of a guest of the system, {file}; give your guest another"
            ));
        }
        let standing = self.inventory.numbered(&claim.uuid);
        let is_defined = |standing: &Arc<Standing>| standing.definition() == Definition::Kept;
        if let Some(standing) = standing.filter(is_defined) {
            let (uuid, theirs) = (claim.uuid, standing.name());
            return Err(format!(
                "the UUID {uuid} is that of a guest of the system, '{theirs}'; give your guest another"
            ));
        }
        Ok(())
    }

    /// Grants a claim and starts to keep it.
    fn admit(&mut self, request: Request) -> Result<Admitted, Conflict> {
        let Request { claim, pidfd, lifeline, monitor } = request;
        let grant = self.grant(&claim)?;
        let machine = self.machine(&claim);
        let (current, monitor_of_it) = self.lasting(grant);
        let lifeline = Arc::new(lifeline);
        current.is_now(&lifeline);
        let guest = Arc::new(Guest::new(claim, machine, pidfd, current, monitor_of_it));
        let subject = self.herald.of(guest.name(), guest.uuid());
        if let Some(link) = monitor {
            guest.monitor().attach(link, subject, self.told.clone());
        }
        let (done, published) = oneshot::channel();
        self.publish(Publication::Runs { guest: guest.clone(), done });
        let former = match grant {
            Grant::New(_) => {
                let (name, uuid) = (guest.name(), guest.uuid());
                if let Some(left_out) = self.line_about(guest.claim()) {
                    tracing::info!(
                        "guest '{name}' ({uuid}) claimed by {}{left_out}",
                        guest.leader()
                    );
                }
                self.leaving.remove(name)
            }
            Grant::Renewed { former, .. } => {
                if let Some(left_out) = self.line_about(guest.claim()) {
                    let (name, leader) = (guest.name(), guest.leader());
                    tracing::info!("guest '{name}': {leader} renewed its claim{left_out}");
                }
                fdstore::forget(guest.uuid());
                self.kept.remove(&former).map(|kept| kept.task).inspect(JoinHandle::abort)
            }
        };
        let enrolled = self.keep(grant.token(), guest.clone(), lifeline, former);
        Ok(Admitted { guest, published, enrolled })
    }

    /// What a guest keeps when its claim is renewed, for the object on the bus has it: what tells its lifeline, and its
    /// monitor.
    fn lasting(&self, grant: Grant) -> (Arc<CurrentLifeline>, Arc<Monitor>) {
        match grant {
            Grant::New(_) => (Arc::default(), Arc::default()),
            Grant::Renewed { former, .. } => {
                let guest = &self.kept[&former].guest;
                (guest.lifeline().clone(), guest.monitor().clone())
            }
        }
    }

    /// Starts the task of a guest; the answer resolves when machined answered.
    fn keep(
        &mut self,
        token: Token,
        guest: Arc<Guest>,
        lifeline: Arc<Lifeline>,
        former: Option<JoinHandle<()>>,
    ) -> oneshot::Receiver<()> {
        let (enrolled, answer) = oneshot::channel();
        let upkeep = Upkeep {
            lifeline: lifeline.clone(),
            token,
            keeper: self.handle.clone(),
            machined: self.machined.clone(),
            former,
            enrolled,
        };
        let task = tokio::spawn(guest::keep(guest.clone(), upkeep));
        self.kept.insert(token, Kept { guest, lifeline, task });
        answer
    }

    /// The machine for a claim, if there is a machined and the guest can be one.
    fn machine(&self, claim: &Claim) -> Option<Machine> {
        self.machined.as_ref()?;
        Machine::of(claim)
            .inspect_err(|why| {
                let mut text = why.to_string();
                if let Some(source) = std::error::Error::source(why) {
                    text.push_str(&format!(": {source}"));
                }
                tracing::info!("guest '{}' is not registered with machined: {text}", claim.name);
            })
            .ok()
    }

    /// Grants the claim unless a live guest is in the way.
    fn grant(&mut self, claim: &Claim) -> Result<Grant, Conflict> {
        loop {
            let conflict = match self.claims.claim(claim.clone()) {
                Ok(grant) => return Ok(grant),
                Err(conflict) => conflict,
            };
            // The kernel may know that a guest ended before its task got to say so. A name is free the
            // moment its lifeline is closed, or a restarted unit would now and then find its own name taken.
            let holder = &self.kept[&conflict.token];
            // A user could keep the system's guests from starting otherwise.
            if claim.user.is_none()
                && let Some(user) = holder.guest.claim().user
            {
                let theirs = holder.guest.name();
                tracing::warn!(
                    "guest '{theirs}' of uid {user} is listed no more: {} takes its name or UUID",
                    claim.leader
                );
                holder.lifeline.hang_up();
            }
            if !holder.lifeline.has_ended() {
                return Err(conflict);
            }
            self.release(conflict.token);
        }
    }

    /// Frees name and UUID. Knows nothing of the token when the claim was released before.
    fn release(&mut self, token: Token) {
        let Some(claim) = self.claims.release(token) else { return };
        if let Some(left_out) = self.line_about(&claim) {
            tracing::info!("guest '{}' ended, its name and UUID are free{left_out}", claim.name);
        }
        if !self.ended.remove(&claim.uuid) {
            // Before the store forgets the guest, or a daemon that is killed in between would never tell.
            let stopped = Happening::plain(Kind::Lifecycle, event::ENDED);
            self.herald.of(&claim.name, &claim.uuid).happened(stopped);
        }
        fdstore::forget(&claim.uuid);
        self.tell_status();
        let Some(kept) = self.kept.remove(&token) else { return };
        kept.guest.monitor().detach();
        if let Err(fault) = self.definitions.forget(&claim.name) {
            tracing::warn!("the definition of transient guest '{}' stays: {fault}", claim.name);
        }
        self.publish(Publication::Ended(kept.guest));
        self.leaving.retain(|_, task| !task.is_finished());
        self.leaving.insert(claim.name, kept.task);
    }

    /// The end of a line about a guest that comes or goes; none for one too many of a user's.
    fn line_about(&self, claim: &Claim) -> Option<LeftOut> {
        match claim.user {
            Some(_) => self.comings.line(),
            None => Some(LeftOut::NONE),
        }
    }

    /// Shows in `systemctl status` how many guests there are.
    fn tell_status(&self) {
        let guests = match self.claims.tokens().count() {
            1 => "1 guest".to_owned(),
            count => format!("{count} guests"),
        };
        if let Err(error) = sd_notify::notify(&[NotifyState::Status(&guests)]) {
            tracing::debug!("the service manager is not told of {guests}: {error}");
        }
    }

    fn publish(&self, publication: Publication) {
        if self.publisher.send(publication).is_err() {
            tracing::debug!("the bus is gone, nothing is published");
        }
    }
}
