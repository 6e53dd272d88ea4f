//! Guests with a QEMU, which are stopped and resumed over the monitor in their runtime directory. QEMU says there, too,
//! when that happened, which is what clients must have been told.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Duration, Instant, interval_at};

use crate::Stage;

/// Stops and resumes these guests until the stage is quiet, so often that they tell of `rate` events a second in all.
pub(crate) async fn run(stage: &Stage, rate: u32, names: &[&str]) -> Result<()> {
    LocalSet::new().run_until(live(stage, rate, names)).await
}

async fn live(stage: &Stage, rate: u32, names: &[&str]) -> Result<()> {
    let count = f64::from(u32::try_from(names.len())?);
    let pause = Duration::from_secs_f64(count / f64::from(rate));
    let quiet = Rc::new(Cell::new(false));
    let mut guests = JoinSet::new();
    for (number, name) in (0..).zip(names) {
        let mut guest = Guest::connect(name).await.with_context(|| (*name).to_owned())?;
        let first = Instant::now() + pause.mul_f64(f64::from(number) / count);
        let (name, quiet) = ((*name).to_owned(), quiet.clone());
        guests.spawn_local(async move {
            let mut ticks = interval_at(first, pause);
            while !quiet.get() {
                for command in ["stop", "cont"] {
                    ticks.tick().await;
                    guest.execute(command).await.with_context(|| format!("{command} {name}"))?;
                }
            }
            Ok::<_, anyhow::Error>((name, guest.happened))
        });
    }
    stage.tell("ready", "")?;
    stage.wait("quiet").await;
    quiet.set(true);
    let mut told = String::new();
    while let Some(ended) = guests.join_next().await {
        let (name, times) = ended??;
        told.push_str(&Stage::told(&name, &times));
    }
    stage.tell("told", &told)
}

/// A guest's other monitor.
struct Guest {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    /// When it stopped and ran again, in microseconds.
    happened: Vec<u64>,
}

impl Guest {
    async fn connect(name: &str) -> Result<Self> {
        let path = format!("/run/glassbox/guest/{name}/monitor");
        let (read, write) = UnixStream::connect(path).await?.into_split();
        let lines = BufReader::new(read).lines();
        let mut guest = Self { lines, write, happened: Vec::new() };
        guest.execute("qmp_capabilities").await?;
        Ok(guest)
    }

    /// Has QEMU carry out a command, and notes what it tells of meanwhile.
    async fn execute(&mut self, command: &str) -> Result<()> {
        let command = json!({ "execute": command }).to_string();
        self.write.write_all(command.as_bytes()).await?;
        loop {
            let line = self.lines.next_line().await?.context("QEMU ended")?;
            let said: Value = serde_json::from_str(&line)?;
            if let Some("STOP" | "RESUME") = said["event"].as_str() {
                let time = &said["timestamp"];
                let part = |member: &str| time[member].as_u64().context("a time");
                self.happened.push(part("seconds")? * 1_000_000 + part("microseconds")?);
            }
            anyhow::ensure!(said.get("error").is_none(), "{line}");
            if said.get("return").is_some() {
                return Ok(());
            }
        }
    }
}
