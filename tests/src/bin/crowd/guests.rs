//! The stand-in guests.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_open, setrlimit};
use serde_json::{Value, json};
use tests::StandInQemu;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, interval_at};
use zbus::{Connection, Fd, OwnedObjectPath, OwnedVariant, Variant};

use crate::Stage;
use crate::bus::ROOT;

/// Where the registry is when nobody says otherwise.
pub(crate) const SOCKET: &str = "/run/glassbox/registry";

/// One guest, as its task and the stage share it.
struct Guest {
    name: String,
    lifeline: OwnedFd,
    /// How many events it told of.
    told: Rc<Cell<u64>>,
}

/// Claims `count` names, and lives until the stage ends; tells of `rate` events a second meanwhile.
pub(crate) async fn run(stage: &Stage, count: u32, rate: u32, socket: &str) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    LocalSet::new().run_until(live(stage, count, rate, socket)).await
}

async fn live(stage: &Stage, count: u32, rate: u32, socket: &str) -> Result<()> {
    let began = Instant::now();
    let stream = StdStream::connect(socket).with_context(|| socket.to_owned())?;
    let connection = zbus::connection::Builder::unix_stream(stream).p2p().build().await?;
    let quiet = Rc::new(Cell::new(rate == 0));
    let pause = Duration::from_secs_f64(f64::from(count) / f64::from(rate.max(1)));
    let mut guests = Vec::new();
    for number in 0..count {
        let (guest, monitor) = register(&connection, number).await?;
        let offset = pause.mul_f64(f64::from(number) / f64::from(count));
        let qemu = Qemu { told: guest.told.clone(), quiet: quiet.clone(), pause, offset };
        spawn_local(async move {
            if let Err(error) = qemu.serve(monitor).await {
                eprintln!("a stand-in's monitor ends: {error}");
            }
        });
        guests.push(guest);
    }
    println!("{count} guests are registered after {} ms", began.elapsed().as_millis());
    stage.tell("ready", "")?;
    stage.wait("quiet").await;
    quiet.set(true);
    let numbers = |guest: &Guest| (1..=guest.told.get()).collect::<Vec<_>>();
    let lines = guests.iter().map(|guest| Stage::told(&guest.name, &numbers(guest)));
    stage.tell("told", &lines.collect::<String>())?;
    stage.wait("end").await;
    let lost = guests.iter().filter(|guest| is_closed(&guest.lifeline)).count();
    println!("{lost} lifelines were closed");
    Ok(())
}

async fn register(connection: &Connection, number: u32) -> Result<(Guest, StdStream)> {
    let name = format!("crowd-{number:04}");
    let uuid = format!("c7a5fdbd-edaf-9455-926a-d65c{number:08x}");
    let (lifeline, handed) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (monitor, daemon) = StdStream::pair()?;
    let leader = pidfd_open(getpid(), PidfdFlags::empty())?;
    let daemon = Variant::from(Fd::from(OwnedFd::from(daemon))).try_into_owned()?;
    let options: HashMap<&str, OwnedVariant> = HashMap::from([("monitor", daemon)]);
    let body = (&name, uuid, Fd::from(leader), Fd::from(handed), options);
    let interface = Some("org.glassbox.Glassbox1.Registry");
    let reply = connection.call_method(None::<&str>, ROOT, interface, "Register", &body).await;
    let path: OwnedObjectPath =
        reply.with_context(|| format!("Register {name}"))?.body().deserialize()?;
    drop(path);
    monitor.set_nonblocking(true)?;
    Ok((Guest { name, lifeline, told: Rc::default() }, monitor))
}

/// One stand-in for QEMU.
struct Qemu {
    told: Rc<Cell<u64>>,
    quiet: Rc<Cell<bool>>,
    /// From one event to the next.
    pause: Duration,
    offset: Duration,
}

impl Qemu {
    async fn serve(self, monitor: StdStream) -> Result<()> {
        let (read, mut write) = UnixStream::from_std(monitor)?.into_split();
        let mut lines = BufReader::new(read).split(b'\n');
        let mut qemu = StandInQemu::default();
        write.write_all(line(&StandInQemu::greeting()).as_bytes()).await?;
        let mut ticks = interval_at(Instant::now() + self.offset, self.pause);
        loop {
            tokio::select! {
                command = lines.next_segment() => {
                    let Some(command) = command? else { return Ok(()) };
                    // Before it is a byte by which a new client has QEMU forget half a command of the former one.
                    let from = command.iter().position(|byte| *byte == b'{').unwrap_or(0);
                    let answer = qemu.answer(&serde_json::from_slice(&command[from..])?);
                    write.write_all(line(&answer).as_bytes()).await?;
                }
                _ = ticks.tick() => {
                    if self.quiet.get() {
                        continue;
                    }
                    let number = self.told.get() + 1;
                    self.told.set(number);
                    write.write_all(line(&event(number)).as_bytes()).await?;
                }
            }
        }
    }
}

/// An event with a number that clients are told.
fn event(number: u64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "event": "BLOCK_JOB_READY",
        "timestamp": { "seconds": now.as_secs(), "microseconds": now.subsec_micros() },
        "data": { "type": "mirror", "device": "drive", "len": 1 << 30, "offset": number, "speed": 0 },
    })
}

fn line(message: &Value) -> String {
    format!("{message}\r\n")
}

fn is_closed(lifeline: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
