//! The task that talks to one QEMU.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use qmp::{CommandError, CommandId, Event, Message, ProtocolError, Session};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::known::{Known, Question};
use super::link::Link;
use super::{Monitor, lock};
use crate::allowance::Allowance;
use crate::clock;
use crate::happening::{Happening, Kind};
use crate::herald::Subject;
use crate::ring::Told;
use crate::state::{State, WhyRunning};

/// How long QEMU may owe an answer before it counts as not responding.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest line that is taken of a QEMU, in bytes. It is the guest's, and not trusted.
const LONGEST_LINE: usize = 1 << 20;

/// How many commands may be without an answer.
const MOST_UNANSWERED: usize = 64;

/// What the task is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Have QEMU carry out a command.
    Ask {
        command: String,
        arguments: Value,
        fd: Option<OwnedFd>,
        reply: oneshot::Sender<Result<Value, CommandError>>,
    },
    /// Ask everything that is to be known, and say when it is.
    Refresh(oneshot::Sender<()>),
}

/// Talks to QEMU until it closes the monitor, or says what is no QMP.
pub(super) async fn attend(
    mut link: Link,
    mut orders: mpsc::Receiver<Order>,
    monitor: Arc<Monitor>,
    subject: Subject,
    told: Arc<Told>,
) {
    let mut talk = Talk::begin(&mut link, monitor, subject, told);
    loop {
        let overdue = talk.overdue();
        let step = tokio::select! {
            order = orders.recv(), if talk.unanswered.len() < MOST_UNANSWERED => match order {
                Some(order) => { talk.take(order, &mut link); Ok(()) }
                None => return,
            },
            read = link.turn() => match read {
                Ok(bytes) if bytes.is_empty() => Err(End::Closed),
                Ok(bytes) => talk.receive(&bytes, &mut link),
                Err(error) => Err(End::Broken(error)),
            },
            () = sleep_until(overdue) => { talk.fell_silent(); Ok(()) }
        };
        if let Err(end) = step {
            return talk.end(&end);
        }
    }
}

/// Why there is nothing more to say to a QEMU.
#[derive(Debug, thiserror::Error)]
enum End {
    /// It ended, or nearly.
    #[error("QEMU closed it")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Broken(io::Error),
    /// It is no QEMU any more.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// A session with what waits for its answers.
struct Talk {
    session: Session,
    unanswered: BTreeMap<CommandId, Unanswered>,
    /// Who waits until everything asked is known.
    refreshed: Vec<oneshot::Sender<()>>,
    monitor: Arc<Monitor>,
    subject: Subject,
    /// How many events are told of.
    allowance: Allowance,
    /// Whether the log says that there are too many.
    floods: bool,
    /// Whether it was said that QEMU owes an answer for too long.
    silent: bool,
    /// When QEMU last answered.
    answered: Instant,
    /// What the former daemon told, until what it read last is read again.
    told: Arc<Told>,
}

/// A command that QEMU owes the answer to.
struct Unanswered {
    since: Instant,
    whose: Whose,
}

/// Who wants an answer.
enum Whose {
    /// A caller.
    Caller(oneshot::Sender<Result<Value, CommandError>>),
    /// What is known of the guest.
    Known(Question),
    /// Those who follow the guest's channels: the name of the one that was opened or closed.
    Channel { alias: String, open: bool },
    /// The negotiation at the beginning.
    Negotiation,
}

impl Talk {
    fn begin(link: &mut Link, monitor: Arc<Monitor>, subject: Subject, told: Arc<Told>) -> Self {
        // The former daemon's commands had smaller numbers, for its host ran less long.
        let session = Session::take_over(LONGEST_LINE, clock::boottime());
        let mut talk = Self {
            unanswered: BTreeMap::new(),
            refreshed: Vec::new(),
            monitor,
            subject,
            allowance: Allowance::new(std::time::Instant::now()),
            floods: false,
            silent: false,
            answered: Instant::now(),
            told,
            session,
        };
        talk.await_answer(talk.session.last_command(), Whose::Negotiation);
        talk.send(None, link);
        talk
    }

    fn take(&mut self, order: Order, link: &mut Link) {
        match order {
            Order::Ask { command, arguments, fd, reply } => {
                let id = self.session.execute(&command, arguments);
                self.await_answer(id, Whose::Caller(reply));
                self.send(fd, link);
            }
            Order::Refresh(done) => {
                self.refreshed.push(done);
                self.ask_all(link);
            }
        }
    }

    /// Asks what is to be known, unless that is asked already.
    fn ask_all(&mut self, link: &mut Link) {
        if !self.session.is_in_step() || self.is_asking() {
            return;
        }
        for question in Question::ALL {
            let id = self.session.execute(question.command(), Value::Null);
            self.await_answer(id, Whose::Known(question));
        }
        self.send(None, link);
    }

    fn is_asking(&self) -> bool {
        self.unanswered.values().any(|one| matches!(one.whose, Whose::Known(_)))
    }

    fn await_answer(&mut self, id: CommandId, whose: Whose) {
        self.unanswered.insert(id, Unanswered { since: Instant::now(), whose });
    }

    fn send(&mut self, fd: Option<OwnedFd>, link: &mut Link) {
        let bytes = self.session.output().to_vec();
        self.session.sent(bytes.len());
        link.send(bytes, fd);
    }

    fn receive(&mut self, bytes: &[u8], link: &mut Link) -> Result<(), End> {
        self.session.receive(bytes);
        while let Some(message) = self.session.next_message()? {
            match message {
                Message::Greeting(_) => {
                    self.know(|known| known.on_greeting(std::time::Instant::now()));
                }
                Message::Event(event) => self.event(&event, link),
                Message::Reply { id, result } => self.reply(id, result, link),
            }
        }
        // What is told is in the ring, and need not be read again, whatever becomes of this daemon.
        link.consume(bytes.len()).map_err(End::Broken)?;
        self.told = Arc::default();
        self.subject.changed(&self.monitor);
        Ok(())
    }

    fn event(&mut self, event: &Event, link: &mut Link) {
        self.monitor.feed.said(event);
        self.know(|known| known.on_event(&event.name, &event.data, std::time::Instant::now()));
        if event.name == "VSERPORT_CHANGE" {
            return self.channel(event, link);
        }
        let state = self.monitor.face().state;
        if let Some(what) = Happening::of(&event.name, &event.data, state) {
            let digest = self.subject.digest(event);
            if !self.told.has(digest) && self.may_tell() {
                self.subject.qemu_said(event, what, digest);
            }
        }
    }

    /// Whether one more event of QEMU's is told; it is not when there are too many.
    fn may_tell(&mut self) -> bool {
        if self.allowance.take(std::time::Instant::now()) {
            return true;
        }
        if !self.floods {
            tracing::warn!("{} has too many events; some are not told", self.subject);
        }
        self.floods = true;
        self.subject.too_much_happened();
        false
    }

    /// Tells of an event of QEMU's, if there are not too many.
    fn tell(&mut self, what: Happening) {
        if self.may_tell() {
            self.subject.happened(what);
        }
    }

    /// QEMU tells of a channel by its alias, which says nothing of what it is for: that is asked.
    fn channel(&mut self, event: &Event, link: &mut Link) {
        let alias = event.text("id").unwrap_or_default().to_owned();
        let open = event.data.get("open").and_then(Value::as_bool) == Some(true);
        // One that opens and closes without pause must not make the list of what is asked grow.
        if !self.session.is_in_step() || self.unanswered.len() >= MOST_UNANSWERED {
            return self.tell(Happening::of_channel(&alias, None, open));
        }
        let device = format!("/machine/peripheral/{alias}");
        let id = self.session.execute("qom-get", json!({ "path": device, "property": "name" }));
        self.await_answer(id, Whose::Channel { alias, open });
        self.send(None, link);
    }

    fn reply(&mut self, id: CommandId, result: Result<Value, CommandError>, link: &mut Link) {
        self.know(|known| known.answered(std::time::Instant::now()));
        (self.silent, self.answered) = (false, Instant::now());
        let Some(Unanswered { whose, .. }) = self.unanswered.remove(&id) else { return };
        match whose {
            // A caller may have given up.
            Whose::Caller(reply) => drop(reply.send(result)),
            Whose::Channel { alias, open } => {
                let name = result.as_ref().ok().and_then(Value::as_str);
                self.tell(Happening::of_channel(&alias, name, open));
            }
            // An error says that the former daemon negotiated already.
            Whose::Negotiation => self.ask_all(link),
            Whose::Known(question) => {
                // A guest may have no balloon, and an old QEMU not every command.
                if let Ok(answer) = result {
                    self.learn(question, &answer);
                }
                if !self.is_asking() {
                    for waiting in self.refreshed.drain(..) {
                        // Who waited may have given up.
                        let _ = waiting.send(());
                    }
                }
            }
        }
    }

    fn learn(&self, question: Question, answer: &Value) {
        let before = self.monitor.face().state;
        self.know(|known| known.on_answer(question, answer));
        let now = self.monitor.face().state;
        // QEMU tells of its guest's first steps only when it was negotiated with before them.
        if before != now && now == State::Running(WhyRunning::Booted) {
            self.subject.happened(Happening::plain(Kind::Lifecycle, "started"));
        }
    }

    fn know(&self, change: impl FnOnce(&mut Known)) {
        change(&mut lock(&self.monitor.known));
    }

    /// When QEMU owes an answer for too long, unless that is known already.
    fn overdue(&self) -> Option<Instant> {
        let oldest = self.unanswered.values().map(|one| one.since).min()?;
        // One that begins to answer again has a queue to work through.
        (!self.silent).then_some(oldest.max(self.answered) + PATIENCE)
    }

    fn fell_silent(&mut self) {
        self.silent = true;
        tracing::warn!("{} does not answer its monitor", self.subject);
        self.know(Known::fell_silent);
        self.subject.changed(&self.monitor);
    }

    fn end(&mut self, end: &End) {
        match end {
            End::Closed => tracing::debug!("the monitor of {} ends: {end}", self.subject),
            End::Broken(_) | End::Protocol(_) => {
                tracing::warn!("the monitor of {} is given up: {end}", self.subject);
                self.know(Known::fell_silent);
                self.subject.changed(&self.monitor);
            }
        }
    }
}

/// Returns at that moment, or never.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
