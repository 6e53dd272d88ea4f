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

/// The most bytes that are left in the socket until QEMU has said what channels are called. The socket must have room for
/// its word: it takes 200 KiB by itself, of which each short line is one.
const MOST_HELD: usize = 16 << 10;

/// As much of a QEMU that does not answer, for what is held must not be why.
const MOST_HELD_OF_SILENT: usize = 4 << 10;

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
            () = sleep_until(overdue) => talk.fell_silent(&mut link),
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
    /// Events of channels whose names can be asked for when the session is in step.
    unnamed: Vec<Event>,
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
    Channel(Event),
    /// The negotiation at the beginning.
    Negotiation,
}

impl Talk {
    fn begin(link: &mut Link, monitor: Arc<Monitor>, subject: Subject, told: Arc<Told>) -> Self {
        // The former daemon's commands had smaller numbers, for its host ran less long.
        let session = Session::take_over(LONGEST_LINE, clock::boottime());
        let mut talk = Self {
            unanswered: BTreeMap::new(),
            unnamed: Vec::new(),
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
        let mut handled = link.held() - bytes.len();
        let mut told = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.session.receive(line);
            while let Some(message) = self.session.next_message()? {
                self.message(message, link);
            }
            handled += line.len();
            if !self.is_naming() {
                told = handled;
            }
        }
        self.consume(told, link)?;
        self.subject.changed(&self.monitor);
        Ok(())
    }

    fn message(&mut self, message: Message, link: &mut Link) {
        match message {
            Message::Greeting(_) => {
                self.know(|known| known.on_greeting(std::time::Instant::now()));
            }
            Message::Event(event) => self.event(event, link),
            Message::Reply { id, result } => self.reply(id, result, link),
        }
    }

    /// Takes out of the socket what is told: it is in the ring, and need not be read again, whatever becomes of this
    /// daemon.
    fn consume(&mut self, length: usize, link: &mut Link) -> Result<(), End> {
        let most = if self.silent { MOST_HELD_OF_SILENT } else { MOST_HELD };
        let length = if link.held() - length > most { link.held() } else { length };
        link.consume(length).map_err(End::Broken)?;
        if link.is_past_former() {
            self.told = Arc::default();
        }
        Ok(())
    }

    fn event(&mut self, event: Event, link: &mut Link) {
        self.monitor.feed.said(&event);
        self.know(|known| known.on_event(&event.name, &event.data, std::time::Instant::now()));
        if event.name == "VSERPORT_CHANGE" {
            return self.channel(event, link);
        }
        let state = self.monitor.face().state;
        if let Some(what) = Happening::of(&event.name, &event.data, state) {
            self.tell(&event, what);
        }
    }

    /// Tells of what QEMU said, unless the former daemon did, or there is too much of it.
    fn tell(&mut self, event: &Event, what: Happening) {
        let digest = self.subject.digest(event);
        if !self.told.has(digest) && self.may_tell() {
            self.subject.qemu_said(event, what, digest);
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

    /// QEMU tells of a channel by its alias, which says nothing of what it is for: that is asked. The event stays in the
    /// socket meanwhile, for the next daemon.
    fn channel(&mut self, event: Event, link: &mut Link) {
        // One that opens and closes without pause must not make the list of what is asked grow.
        if self.unanswered.len() + self.unnamed.len() >= MOST_UNANSWERED {
            return self.tell_of_channel(&event, None);
        }
        // Of one that was told there is nothing to ask.
        if !self.told.has(self.subject.digest(&event)) {
            self.unnamed.push(event);
            self.ask_names(link);
        }
    }

    fn ask_names(&mut self, link: &mut Link) {
        if !self.session.is_in_step() {
            return;
        }
        for event in std::mem::take(&mut self.unnamed) {
            let device = format!("/machine/peripheral/{}", event.text("id").unwrap_or_default());
            let id = self.session.execute("qom-get", json!({ "path": device, "property": "name" }));
            self.await_answer(id, Whose::Channel(event));
        }
        self.send(None, link);
    }

    /// Whether the name of a channel is about to be known, of which there is something to tell.
    fn is_naming(&self) -> bool {
        let asked = |one: &Unanswered| matches!(one.whose, Whose::Channel(_));
        !self.unnamed.is_empty() || self.unanswered.values().any(asked)
    }

    fn tell_of_channel(&mut self, event: &Event, name: Option<&str>) {
        let alias = event.text("id").unwrap_or_default();
        let open = event.data.get("open").and_then(Value::as_bool) == Some(true);
        self.tell(event, Happening::of_channel(alias, name, open));
    }

    fn reply(&mut self, id: CommandId, result: Result<Value, CommandError>, link: &mut Link) {
        self.know(|known| known.answered(std::time::Instant::now()));
        (self.silent, self.answered) = (false, Instant::now());
        let Some(Unanswered { whose, .. }) = self.unanswered.remove(&id) else { return };
        match whose {
            // A caller may have given up.
            Whose::Caller(reply) => drop(reply.send(result)),
            Whose::Channel(event) => {
                self.tell_of_channel(&event, result.as_ref().ok().and_then(Value::as_str));
            }
            // An error says that the former daemon negotiated already.
            Whose::Negotiation => {
                self.ask_names(link);
                self.ask_all(link);
            }
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

    fn fell_silent(&mut self, link: &mut Link) -> Result<(), End> {
        self.silent = true;
        tracing::warn!("{} does not answer its monitor", self.subject);
        self.know(Known::fell_silent);
        self.subject.changed(&self.monitor);
        self.consume(0, link)
    }

    fn end(&mut self, end: &End) {
        let asked = std::mem::take(&mut self.unanswered).into_values();
        let events = asked.filter_map(|one| match one.whose {
            Whose::Channel(event) => Some(event),
            Whose::Caller(_) | Whose::Known(_) | Whose::Negotiation => None,
        });
        // Nobody will say what these channels are called.
        for event in events.chain(std::mem::take(&mut self.unnamed)).collect::<Vec<_>>() {
            self.tell_of_channel(&event, None);
        }
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
