//! Clients that call and follow events, as one that must miss none does.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use crate::Stage;
use crate::bus::{Client, Event};

/// Runs so many clients until the guests have told what they told; an error when one of them missed something.
pub(crate) async fn run(stage: &Stage, count: usize) -> Result<()> {
    let mut clients = JoinSet::new();
    for number in 0..count {
        let follower = Follower::begin().await?;
        let told = stage.path("told");
        clients.spawn(async move { (number, follower.live(|| told.exists()).await) });
    }
    stage.tell("followed", "")?;
    let mut missed = 0;
    while let Some(ended) = clients.join_next().await {
        let (number, follower) = ended?;
        missed += follower?.report(number, &stage.read("told")?)?;
    }
    ensure!(missed == 0, "{missed} faults");
    Ok(())
}

/// Follows events for ever.
pub(crate) async fn follow() -> Result<()> {
    let mut events = Client::connect().await?.follow().await?;
    loop {
        events.next().await?;
    }
}

/// A client, and what it saw.
struct Follower {
    client: Client,
    signals: mpsc::UnboundedReceiver<Event>,
    /// The number of the last event that it has.
    last: u64,
    events: u64,
    replayed: u64,
    gaps: u64,
    answered: u64,
    /// Calls without an answer, by the error's name.
    failed: BTreeMap<String, u64>,
    /// The numbers that each guest gave its events, or when it stopped and ran again, by the guest's name, in the order in
    /// which they came.
    told: HashMap<String, Vec<u64>>,
}

impl Follower {
    async fn begin() -> Result<Self> {
        let client = Client::connect().await?;
        let mut events = client.follow().await?;
        let (sender, signals) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.next().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let last = client.last_event().await?;
        Ok(Self {
            client,
            signals,
            last,
            events: 0,
            replayed: 0,
            gaps: 0,
            answered: 0,
            failed: BTreeMap::new(),
            told: HashMap::new(),
        })
    }

    /// Calls and follows until the end, and then asks for what is missing.
    async fn live(mut self, ends: impl Fn() -> bool) -> Result<Self> {
        let mut turn = 0;
        while !ends() {
            turn += 1;
            let client = self.client.clone();
            let listed = client.list().await;
            let Some(rows) = self.answer(listed) else { continue };
            let row = rows.get(turn % rows.len().max(1)).context("there are guests")?;
            let figures = client.statistics(&row.4).await;
            self.answer(figures.map(drop));
            while let Ok(event) = self.signals.try_recv() {
                if event.0 > self.last + 1 {
                    self.replay().await?;
                }
                self.take(event);
            }
            sleep(Duration::from_millis(5)).await;
        }
        // Of what was told last, the daemon may not have read all.
        sleep(Duration::from_secs(1)).await;
        self.replay().await?;
        Ok(self)
    }

    /// Asks for what was missed, of a daemon that may be killed meanwhile.
    async fn replay(&mut self) -> Result<()> {
        for _ in 0..100 {
            let client = self.client.clone();
            let since = client.events_since(self.last).await;
            if let Some((gap, events)) = self.answer(since) {
                self.gaps += u64::from(gap);
                for event in events {
                    self.replayed += 1;
                    self.take(event);
                }
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("there is no daemon: {:?}", self.failed)
    }

    fn take(&mut self, event: Event) {
        let (sequence, time, domain, _, what, details) = event;
        // A replay had it already.
        if sequence <= self.last {
            return;
        }
        self.last = sequence;
        self.events += 1;
        if let Some(Ok(number)) = details.get("offset").map(|offset| i64::try_from(offset.clone()))
        {
            self.told.entry(domain).or_default().push(number.unsigned_abs());
        } else if ["suspended", "resumed"].contains(&what.as_str()) {
            self.told.entry(domain).or_default().push(time);
        }
    }

    fn answer<T>(&mut self, answer: zbus::Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.answered += 1;
                Some(answer)
            }
            Err(error) => {
                let name = if let zbus::Error::MethodError(name, ..) = &error {
                    name.to_string()
                } else {
                    error.to_string()
                };
                *self.failed.entry(name).or_default() += 1;
                None
            }
        }
    }

    /// Prints what it saw; the number of faults, by what the guests say they told.
    fn report(&self, number: usize, told: &str) -> Result<u64> {
        ensure!(self.events > 0, "client {number} saw no event");
        let (mut missing, mut doubled) = (0, 0);
        for line in told.lines() {
            let mut words = line.split(' ');
            let name = words.next().context("a name")?;
            let mut seen = self.told.get(name).cloned().unwrap_or_default();
            let all = seen.len();
            seen.sort_unstable();
            seen.dedup();
            doubled += u64::try_from(all - seen.len())?;
            // The first that it could see is the one after it began to follow.
            let first = seen.first().copied().unwrap_or_default();
            for number in words {
                let number: u64 = number.parse()?;
                missing += u64::from(number >= first && seen.binary_search(&number).is_err());
            }
        }
        println!(
            "client {number}: {} events, {} of them replayed, {} gaps, {missing} missing, {doubled} doubled; \
             {} calls answered, without answer {:?}",
            self.events, self.replayed, self.gaps, self.answered, self.failed
        );
        Ok(self.gaps + missing + doubled)
    }
}
