//! Guests managed over D-Bus: what is known of them, jobs, events, and a QEMU that hangs.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::host::{
    DOMAIN, Host, MANAGER, NAME, PATIENCE, ROOT, end, error_parts, lifeline, pidfd, register_with,
    run, uuid,
};
use crate::qemu::StandIn;
use crate::registry::property;
use crate::restart::names;

/// How long a call may take that waits for nothing. The goal is 10 ms on a machine with nothing else to do.
const AT_ONCE: Duration = Duration::from_millis(250);

/// A guest that is registered with a monitor.
pub(crate) struct Guest {
    pub(crate) qemu: StandIn,
    path: OwnedObjectPath,
    pub(crate) lifeline: OwnedFd,
}

impl Guest {
    pub(crate) async fn register(host: &Host, name: &str, number: u32) -> Self {
        Self::register_with(host, name, number, StandIn::running()).await
    }

    /// The same guest with a new lifeline.
    pub(crate) async fn again(self, host: &Host, name: &str, number: u32) -> Self {
        Self::register_with(host, name, number, self.qemu).await
    }

    async fn register_with(host: &Host, name: &str, number: u32, qemu: StandIn) -> Self {
        let (kept, handed) = lifeline();
        let options = HashMap::from([("monitor", qemu.handed())]);
        let peer = host.peer().await;
        let path = register_with(&peer, name, &uuid(number), pidfd(), handed, options).await;
        Self { qemu, path: path.unwrap(), lifeline: kept }
    }

    pub(crate) fn path(&self) -> &OwnedObjectPath {
        &self.path
    }

    async fn text(&self, bus: &Connection, name: &str) -> String {
        property(bus, &self.path, name).await.try_into().unwrap()
    }

    /// Waits until a property has this value.
    pub(crate) async fn wait(
        &self,
        bus: &Connection,
        name: &str,
        expected: impl Into<OwnedVariant>,
    ) {
        let expected = expected.into();
        let start = Instant::now();
        loop {
            let value = property(bus, &self.path, name).await;
            if value == expected {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{name} is {value:?} and not {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn call<B>(
        &self,
        bus: &Connection,
        method: &str,
        body: &B,
    ) -> Result<Message, (String, String)>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let reply = bus.call_method(Some(NAME), &self.path, Some(DOMAIN), method, body).await;
        reply.map_err(|error| error_parts(&error))
    }

    /// Begins a job; its path.
    async fn job(
        &self,
        bus: &Connection,
        method: &str,
    ) -> Result<OwnedObjectPath, (String, String)> {
        Ok(self.call(bus, method, &()).await?.body().deserialize().unwrap())
    }
}

fn word(text: &'static str) -> OwnedVariant {
    zbus::Str::from(text).into()
}

/// The signals of the manager from now on.
async fn signals(bus: &Connection, member: &'static str) -> MessageStream {
    let rule = MatchRule::builder().interface(MANAGER).member(member).build().unwrap();
    MessageStream::for_match_rule(rule, bus, None).await.unwrap()
}

async fn next(signals: &mut MessageStream) -> Message {
    let next = std::future::poll_fn(|cx| {
        futures_core::Stream::poll_next(std::pin::Pin::new(&mut *signals), cx)
    });
    tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().unwrap()
}

pub(crate) type Event = (u64, u64, String, String, String, HashMap<String, OwnedVariant>);

pub(crate) async fn events_since(bus: &Connection, number: u64) -> (bool, Vec<Event>) {
    let reply = bus.call_method(Some(NAME), ROOT, Some(MANAGER), "EventsSince", &number).await;
    reply.unwrap().body().deserialize().unwrap()
}

#[test]
fn a_guest_is_known_by_what_its_qemu_says() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        web.wait(&bus, "Memory", 1u64 << 20).await;
        web.qemu.happen("BLOCK_IO_ERROR", &json!({ "action": "stop" }));
        web.qemu.happen("STOP", &Value::Null);
        web.wait(&bus, "State", word("paused")).await;
        assert_eq!(web.text(&bus, "Reason").await, "ioerror");
        let reply = web.call(&bus, "GetStatistics", &()).await.unwrap();
        let figures: HashMap<String, OwnedVariant> = reply.body().deserialize().unwrap();
        assert_eq!(figures["vcpu.current"], OwnedVariant::from(2u64));
        assert_eq!(figures["responding"], OwnedVariant::from(true));
    });
}

#[test]
fn a_job_is_told_from_its_beginning_to_its_end() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        let (mut new, mut removed) =
            (signals(&bus, "JobNew").await, signals(&bus, "JobRemoved").await);
        for (method, kind, result, message) in [
            ("Suspend", "suspend", "done", ""),
            ("Resume", "resume", "done", ""),
            ("Reset", "reset", "done", ""),
            ("Shutdown", "shutdown", "failed", "QEMU: the stand-in does not know it"),
        ] {
            let job = web.job(&bus, method).await.unwrap();
            let begun: (u32, OwnedObjectPath, String, String) =
                next(&mut new).await.body().deserialize().unwrap();
            assert_eq!((begun.1, &*begun.2, &*begun.3), (job.clone(), "web", kind));
            let ended: (u32, OwnedObjectPath, String, String, String) =
                next(&mut removed).await.body().deserialize().unwrap();
            let expected = (begun.0, job, "web".to_owned(), result.to_owned(), message.to_owned());
            assert_eq!(ended, expected);
        }
        let commands = ["qmp_capabilities", "stop", "cont", "system_reset", "system_powerdown"];
        assert_eq!(web.qemu.commands(), commands);
    });
}

#[test]
fn a_qemu_that_hangs_holds_up_nobody() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let mut guests = Vec::new();
        for number in 1..=20 {
            let guest = Guest::register(&host, &format!("guest-{number}"), number).await;
            guest.wait(&bus, "State", word("running")).await;
            guests.push(guest);
        }
        let stuck = &guests[0];
        stuck.qemu.hang(true);
        let start = Instant::now();
        let job = stuck.job(&bus, "Suspend").await.unwrap();
        let busy = stuck.job(&bus, "Resume").await.unwrap_err();
        let number = job.rsplit('/').next().unwrap();
        let text = format!(
            "guest 'guest-1' has the job {number} (suspend) running; wait for its end, or cancel it"
        );
        assert_eq!(busy, ("org.glassbox.Glassbox1.Error.Busy".to_owned(), text));
        eprintln!("a job of a QEMU that hangs, and a second one refused: {:?}", start.elapsed());
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        stuck.wait(&bus, "Responding", false).await;
        let took = start.elapsed();
        assert!(took > Duration::from_secs(2), "it is given time to answer, not {took:?}");
        for guest in &guests {
            let start = Instant::now();
            guest.call(&bus, "GetStatistics", &()).await.unwrap();
            guest.text(&bus, "State").await;
            assert!(start.elapsed() < AT_ONCE, "{}: {:?}", guest.path, start.elapsed());
        }
        let start = Instant::now();
        let silent = stuck.call(&bus, "MonitorCommand", &("query-status", "")).await.unwrap_err();
        let text = "guest 'guest-1': its QEMU does not answer".to_owned();
        assert_eq!(silent, ("org.glassbox.Glassbox1.Error.NotResponding".to_owned(), text));
        assert!(start.elapsed() < AT_ONCE);
        let age: u64 = property(&bus, &stuck.path, "DataAge").await.try_into().unwrap();
        assert!(age > 2_000_000, "{age} us");
        stuck.qemu.hang(false);
        stuck.wait(&bus, "Responding", true).await;
        stuck.wait(&bus, "State", word("paused")).await;
    });
}

/// What begins a job with a running guest.
const JOBS: [&str; 8] =
    ["Shutdown", "Reset", "Suspend", "Resume", "Screenshot", "SetVCPUs", "SetMemory", "SendKey"];

#[test]
fn a_job_s_path_comes_before_anything_of_its_qemu() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let mut guests = Vec::new();
        for (number, method) in (1..).zip(JOBS) {
            let guest = Guest::register(&host, &method.to_lowercase(), number).await;
            guest.wait(&bus, "VCPUs", 2u32).await;
            guest.qemu.hang(true);
            guests.push((method, guest));
        }
        let mut removed = signals(&bus, "JobRemoved").await;
        for (method, guest) in &guests {
            let begun = match *method {
                "SetVCPUs" => guest.call(&bus, method, &(2u32, 1u32)).await,
                "SetMemory" => guest.call(&bus, method, &(1u64 << 19, 1u32)).await,
                "SendKey" => guest.call(&bus, method, &(50u32, vec!["ret"])).await,
                _ => guest.call(&bus, method, &()).await,
            };
            begun.unwrap_or_else(|error| panic!("{method}: {error:?}"));
            assert_eq!(guest.qemu.commands(), ["qmp_capabilities"], "its QEMU has taken nothing");
        }
        let jobs = bus.call_method(Some(NAME), ROOT, Some(MANAGER), "ListJobs", &()).await.unwrap();
        let jobs: Vec<(u32, OwnedObjectPath, String, String)> = jobs.body().deserialize().unwrap();
        assert_eq!(jobs.len(), JOBS.len(), "none of them is over: {jobs:?}");
        guests.iter().for_each(|(_, guest)| guest.qemu.hang(false));
        for _ in JOBS {
            next(&mut removed).await;
        }
    });
}

#[test]
fn a_job_tells_how_far_it_is() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        let rule = MatchRule::builder()
            .interface("org.freedesktop.DBus.Properties")
            .path_namespace(format!("{ROOT}/job"));
        let mut told =
            MessageStream::for_match_rule(rule.build().unwrap(), &bus, None).await.unwrap();
        let mut removed = signals(&bus, "JobRemoved").await;
        let quarter = 1u64 << 18;
        for (method, total) in [("SetVCPUs", 2), ("SetMemory", 3 * quarter)] {
            match method {
                "SetVCPUs" => web.call(&bus, method, &(3u32, 0u32)).await.unwrap(),
                _ => web.call(&bus, method, &(quarter, 0u32)).await.unwrap(),
            };
            let mut last = 0;
            while last < total {
                let message = next(&mut told).await;
                let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
                    message.body().deserialize().unwrap();
                let now: (u64, u64) = changed["Progress"].clone().try_into().unwrap();
                assert!(now.1 == total && now.0 >= last, "{method}: {now:?} after {last}");
                last = now.0;
            }
            let ended: (u32, OwnedObjectPath, String, String, String) =
                next(&mut removed).await.body().deserialize().unwrap();
            assert_eq!((&*ended.3, &*ended.4), ("done", ""), "{method}");
        }
    });
}

#[test]
fn who_was_away_asks_for_what_was_missed() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let mut told = signals(&bus, "Event").await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        web.qemu.happen("STOP", &Value::Null);
        web.qemu.happen("RTC_CHANGE", &json!({ "offset": 1 }));
        web.qemu.happen("RESUME", &Value::Null);
        let started: Event = next(&mut told).await.body().deserialize().unwrap();
        let first: Event = next(&mut told).await.body().deserialize().unwrap();
        let second: Event = next(&mut told).await.body().deserialize().unwrap();
        let words = |event: &Event| (event.2.clone(), event.3.clone(), event.4.clone());
        let expected = |event: &str| ("web".to_owned(), "lifecycle".to_owned(), event.to_owned());
        assert_eq!(words(&started), expected("started"));
        assert_eq!(words(&first), expected("suspended"));
        assert_eq!(words(&second), expected("resumed"));
        assert_eq!(first.5["uuid"], zbus::Str::from(uuid(1)).into());
        assert_eq!(second.0, first.0 + 1, "numbers have no hole");
        assert_eq!(
            events_since(&bus, first.0 - 1).await,
            (false, vec![first.clone(), second.clone()])
        );
        assert_eq!(events_since(&bus, first.0).await, (false, vec![second.clone()]));
        assert_eq!(events_since(&bus, second.0).await, (false, vec![]));
        assert!(events_since(&bus, started.0 - 2).await.0, "what was before is not known");
    });
}

#[test]
fn the_agent_is_known_by_its_channel_s_name() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let mut told = signals(&bus, "Event").await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        web.qemu.happen("VSERPORT_CHANGE", &json!({ "id": "channel0", "open": true }));
        let _started = next(&mut told).await;
        let event: Event = next(&mut told).await.body().deserialize().unwrap();
        assert_eq!((&*event.3, &*event.4), ("agent", "connected"));
        assert_eq!(event.5["id"], zbus::Str::from("channel0").into());
    });
}

/// How many events a guest floods with: more than the ring keeps.
const FLOOD: usize = 20_000;

#[test]
fn a_flood_and_a_stuck_subscriber_cost_nobody_else() {
    let host = Host::start();
    let pid = host.daemon.as_ref().unwrap().id();
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // Its runtime is not driven from then on, so it reads nothing of what it subscribed to.
    let stuck = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _kept = stuck.block_on(async {
        let bus = host.bus().await;
        let events = signals(&bus, "Event").await;
        (bus, events)
    });
    run(async {
        let bus = host.bus().await;
        let (web, db) =
            (Guest::register(&host, "web", 1).await, Guest::register(&host, "db", 2).await);
        web.wait(&bus, "VCPUs", 2u32).await;
        db.wait(&bus, "VCPUs", 2u32).await;
        let before = memory();
        let flood = std::thread::spawn(move || {
            for _ in 0..FLOOD / 2 {
                web.qemu.happen("STOP", &Value::Null);
                web.qemu.happen("RESUME", &Value::Null);
            }
            web
        });
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let start = Instant::now();
            db.text(&bus, "State").await;
            slowest = slowest.max(start.elapsed());
        }
        let web = flood.join().unwrap();
        web.wait(&bus, "Reason", word("unpaused")).await;
        let start = Instant::now();
        let (gap, events) = events_since(&bus, 0).await;
        eprintln!(
            "{FLOOD} events: calls for another guest took at most {slowest:?}, EventsSince {:?}, \
             {before} KiB before and {} KiB after",
            start.elapsed(),
            memory()
        );
        assert!(gap && events.len() < 2048, "{} are kept", events.len());
        // Of the other guest nothing was lost, and the log has one line.
        let of_db = events.iter().filter(|event| event.2 == "db").count();
        assert_eq!(of_db, 1, "it was started: {events:?}");
        let warning = "guest 'web' has too many events; some are not told";
        assert_eq!(host.log().matches(warning).count(), 1);
        // The flood takes all of a CPU, so this is more than a call takes otherwise.
        assert!(slowest < 4 * AT_ONCE, "{slowest:?}");
        assert!(memory() < before + 8 * 1024, "it grew from {before} KiB to {} KiB", memory());
    });
}

#[test]
fn a_killed_daemon_s_monitors_are_taken_over() {
    let mut host = Host::start();
    let (web, last) = run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        web.qemu.send(b"{\"event\": \"ST");
        tokio::time::sleep(Duration::from_millis(50)).await;
        (web, events_since(&bus, 0).await.1.last().map_or(0, |event| event.0))
    });
    host.kill_daemon();
    // The end of a line that the daemon left where it was, and an event that nobody has seen.
    web.qemu.send(b"OP\", \"data\": {}}\r\n");
    web.qemu.happen("WATCHDOG", &json!({ "action": "none" }));
    host.restart_daemon(None);
    run(async {
        let bus = host.bus().await;
        web.wait(&bus, "VCPUs", 2u32).await;
        web.wait(&bus, "Responding", true).await;
        assert_eq!(web.text(&bus, "State").await, "running");
        assert_eq!(words(&events_since(&bus, last).await), (false, vec!["suspended", "expired"]));
        web.job(&bus, "Suspend").await.unwrap();
        web.wait(&bus, "State", word("paused")).await;
    });
    end(&web.lifeline);
    host.manager.wait_for_stored(&names(&[]));
}

/// Whether there is a gap, and what happened.
fn words((gap, events): &(bool, Vec<Event>)) -> (bool, Vec<&str>) {
    (*gap, events.iter().map(|event| &*event.4).collect())
}

#[test]
fn every_event_is_told_once_though_the_daemon_is_killed() {
    let mut host = Host::start();
    let suspended = json!({ "event": "STOP", "timestamp": { "seconds": 7, "microseconds": 9 } });
    let (web, db) = run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        let db = Guest::register(&host, "db", 2).await;
        web.wait(&bus, "State", word("running")).await;
        db.wait(&bus, "State", word("running")).await;
        web.qemu.say(&suspended);
        web.wait(&bus, "State", word("paused")).await;
        (web, db)
    });
    let before = run(async { events_since(&host.bus().await, 0).await.1 });
    assert_eq!(before.iter().map(|event| &*event.4).collect::<Vec<_>>()[..2], ["started"; 2]);
    let last = before.last().unwrap();
    assert_eq!((last.1, &*last.2, &*last.4), (7_000_009, "web", "suspended"), "at QEMU's time");
    host.kill_daemon();
    // As if the daemon had died when this was told and not yet taken out of the socket.
    web.qemu.say(&suspended);
    web.qemu.say(&json!({ "event": "RESUME", "timestamp": { "seconds": 7, "microseconds": 9 } }));
    end(&db.lifeline);
    host.restart_daemon(None);
    run(async {
        let bus = host.bus().await;
        web.wait(&bus, "VCPUs", 2u32).await;
        // From then on it is a guest that was suspended again.
        web.qemu.say(&suspended);
        web.wait(&bus, "State", word("paused")).await;
        wait_for_events(&bus, last.0, 3).await;
        let mut now = events_since(&bus, last.0).await;
        now.1.sort_by(|one, other| one.2.cmp(&other.2).then(one.0.cmp(&other.0)));
        assert_eq!(words(&now), (false, vec!["stopped", "resumed", "suspended"]));
        let all = events_since(&bus, before[0].0).await;
        assert_eq!((all.0, &all.1[..2]), (false, &before[1..]), "what the former daemon told");
    });
}

#[test]
fn an_end_is_told_once_though_the_store_forgets_it_late() {
    let mut host = Host::start();
    let (before, stored) = run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        let before = events_since(&bus, 0).await.1.last().unwrap().0;
        let stored = host.manager.stored();
        end(&web.lifeline);
        wait_for_events(&bus, before, 1).await;
        (before, stored)
    });
    host.manager.wait_for_stored(&names(&[]));
    host.kill_daemon();
    // As if the daemon had died when it had told of the end, before it had the store forget the guest.
    for (name, fd) in stored.into_iter().filter(|(name, _)| name != "events") {
        host.manager.store(&name, fd);
    }
    host.restart_daemon(None);
    host.manager.wait_for_stored(&names(&[]));
    run(async {
        let bus = host.bus().await;
        assert_eq!(words(&events_since(&bus, before).await), (false, vec!["stopped"]));
        let other = Guest::register(&host, "web", 1).await;
        other.wait(&bus, "State", word("running")).await;
        end(&other.lifeline);
        wait_for_events(&bus, before, 3).await;
        let all = words(&events_since(&bus, before).await).1.len();
        assert_eq!(all, 3, "the next guest of that UUID has an end of its own");
    });
}

/// Waits until there are so many events after the one with this number.
async fn wait_for_events(bus: &Connection, number: u64, count: usize) {
    let start = Instant::now();
    while events_since(bus, number).await.1.len() < count {
        assert!(start.elapsed() < PATIENCE, "{:?}", events_since(bus, number).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_monitor_that_is_none_costs_its_guest_the_monitor_only() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        web.qemu.send(b"hello\n");
        web.wait(&bus, "Responding", false).await;
        let refused = web.call(&bus, "MonitorCommand", &("stop", "")).await.unwrap_err();
        assert_eq!(refused.0, "org.glassbox.Glassbox1.Error.NotResponding");
        assert_eq!(web.text(&bus, "Name").await, "web", "the claim holds");
        assert!(host.log().contains("the monitor of guest 'web' is given up: QEMU sent \"hello\""));
    });
}

/// What `Introspect` says of an object, without the interfaces that every object has.
async fn introspect(bus: &Connection, path: &str) -> String {
    let interface = Some("org.freedesktop.DBus.Introspectable");
    let reply = bus.call_method(Some(NAME), path, interface, "Introspect", &()).await.unwrap();
    let text: String = reply.body().deserialize().unwrap();
    // Below the object's own interfaces come those of its children.
    let own = text.split("\n  <node ").next().unwrap();
    let interfaces = own.split("<interface ").skip(1);
    let whole = interfaces.map(|part| part.split("</interface>").next().unwrap());
    whole
        .filter(|part| !part.starts_with("name=\"org.freedesktop.DBus"))
        .map(|part| format!("<interface {part}</interface>\n"))
        .collect()
}

/// The contract is compared whole; `UPDATE_GOLDEN=1` writes it down.
#[test]
fn the_contract_is_what_is_written_down() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "State", word("running")).await;
        web.qemu.hang(true);
        let job = web.job(&bus, "Suspend").await.unwrap();
        for (name, path) in [("manager", ROOT), ("domain", &*web.path), ("job", &*job)] {
            let said = introspect(&bus, path).await;
            let file = format!("tests/it/contract/{name}.xml");
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &said).unwrap();
            }
            let expected = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(said, expected, "{}: UPDATE_GOLDEN=1 writes it anew", file.display());
        }
    });
}
