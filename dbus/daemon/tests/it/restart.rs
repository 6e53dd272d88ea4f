//! A daemon that dies loses no claim, for the service manager keeps what makes one.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use zbus::Connection;

use crate::host::{Host, PATIENCE, end, lifeline, pidfd, register, register_with, run, uuid};
use crate::manage::{Guest, events_since};
use crate::registry::{CLAIMED, list, property, wait_until_empty};

/// The names in the store with claims on these UUIDs.
pub(crate) fn names(numbers: &[u32]) -> Vec<String> {
    let parts = ["leader", "lifeline", "record"];
    let name = |number| parts.map(|part| format!("claim-{}-{part}", uuid(number)));
    numbers.iter().copied().flat_map(name).chain(["events".to_owned()]).collect()
}

/// Whether a guest would see its lifeline closed.
fn is_closed(kept: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(kept), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

#[test]
fn a_killed_daemon_loses_no_claim() {
    let mut host = Host::start();
    let (web, db, mail) = run(async {
        let peer = host.peer().await;
        let claim = async |name, number| register(&peer, name, &uuid(number)).await.unwrap();
        (claim("web", 1).await, claim("my vm", 2).await, claim("mail", 3).await)
    });
    let before = run(async { list(&host.bus().await).await });
    assert_eq!(before.len(), 3);
    host.manager.wait_for_stored(&names(&[1, 2, 3]));
    host.kill_daemon();
    assert!(!is_closed(&web.0) && !is_closed(&db.0), "the store holds the lifelines");
    // This guest ends while there is no daemon.
    end(&mail.0);
    host.restart_daemon(None);
    run(async {
        let bus = host.bus().await;
        host.manager.wait_for_stored(&names(&[1, 2]));
        let after: Vec<_> = before.into_iter().filter(|row| row.0 != "mail").collect();
        assert_eq!(list(&bus).await, after);
        let name: String = property(&bus, &db.1, "Name").await.try_into().unwrap();
        assert_eq!(name, "my vm");
        let refused = register(&bus, "web", &uuid(4)).await.unwrap_err();
        assert_eq!(refused.0, CLAIMED);
        end(&web.0);
        register(&bus, "web", &uuid(4)).await.unwrap();
        end(&db.0);
        wait_until_empty(&bus).await;
    });
    host.manager.wait_for_stored(&names(&[]));
}

#[test]
fn what_is_kept_of_a_guest_is_told_by_the_next_daemon_too() {
    let mut host = Host::start();
    let mut lifelines = Vec::new();
    let mut paths = Vec::new();
    for (number, persistent) in [(1, true), (2, false)] {
        let (kept, handed) = lifeline();
        lifelines.push(kept);
        let options = HashMap::from([("transient", (!persistent).into())]);
        let (name, uuid) = (format!("guest-{number}"), uuid(number));
        let path = run(async {
            let peer = host.peer().await;
            register_with(&peer, &name, &uuid, pidfd(), handed, options).await.unwrap()
        });
        paths.push((path, persistent));
    }
    host.manager.wait_for_stored(&names(&[1, 2]));
    for _ in 0..2 {
        run(async {
            let bus = host.bus().await;
            for (path, persistent) in &paths {
                let told = bool::try_from(property(&bus, path, "Persistent").await).unwrap();
                assert_eq!(told, *persistent, "{path}");
            }
        });
        host.kill_daemon();
        host.restart_daemon(None);
    }
}

#[test]
fn a_daemon_may_die_again_and_again() {
    let mut host = Host::start();
    let (kept, _) = run(async { register(&host.peer().await, "web", &uuid(1)).await.unwrap() });
    for _ in 0..5 {
        host.manager.wait_for_stored(&names(&[1]));
        host.kill_daemon();
        host.restart_daemon(None);
        assert_eq!(run(async { list(&host.bus().await).await.len() }), 1);
    }
    assert!(!is_closed(&kept));
}

#[test]
fn a_renewed_claim_is_stored_once() {
    let mut host = Host::start();
    let (first, second) = run(async {
        let peer = host.peer().await;
        let first = register(&peer, "web", &uuid(1)).await.unwrap();
        (first, register(&peer, "web", &uuid(1)).await.unwrap())
    });
    // The names in the store are the same before and after; it is the lifelines that tell.
    let start = Instant::now();
    while !is_closed(&first.0) {
        assert!(start.elapsed() < PATIENCE, "the store keeps the former lifeline");
        std::thread::sleep(Duration::from_millis(5));
    }
    host.manager.wait_for_stored(&names(&[1]));
    host.kill_daemon();
    host.restart_daemon(None);
    assert!(!is_closed(&second.0), "the lifeline in the store is the second one");
    run(async {
        let bus = host.bus().await;
        assert_eq!(list(&bus).await.len(), 1);
        end(&second.0);
        wait_until_empty(&bus).await;
    });
}

#[test]
fn what_is_not_known_in_the_store_is_dropped() {
    let mut host = Host::without_daemon();
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let (kept, handed) = lifeline();
    host.manager.store(&format!("claim-{}-lifeline", uuid(1)), handed);
    for part in ["record", "leader", "lifeline"] {
        host.manager.store(&format!("claim-{}-{part}", uuid(2)), file());
    }
    host.restart_daemon(None);
    host.manager.wait_for_stored(&names(&[]));
    assert_eq!(run(async { list(&host.bus().await).await.len() }), 0);
    assert!(is_closed(&kept), "the shim learns that it has to register again");
    for why in ["it has no record", "the record is malformed"] {
        assert!(host.log().contains(why), "{}", host.log());
    }
}

/// What the store had of guests when these versions were the last.
const KEPT: [&[u8]; 4] = [
    include_bytes!("kept/record-1.json"),
    include_bytes!("kept/record-2.json"),
    include_bytes!("kept/record-3.json"),
    include_bytes!("kept/record-4.json"),
];

#[test]
fn what_older_daemons_kept_is_read() {
    let mut host = Host::without_daemon();
    let mut lifelines = Vec::new();
    let file = |content: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        OwnedFd::from(file)
    };
    for (number, record) in (1..).zip(KEPT) {
        let (kept, handed) = lifeline();
        let claim = |part| format!("claim-{}-{part}", uuid(number));
        host.manager.store(&claim("lifeline"), handed);
        host.manager.store(&claim("leader"), pidfd());
        host.manager.store(&claim("record"), file(record));
        lifelines.push(kept);
    }
    host.manager.store("events", file(include_bytes!("kept/events-1")));
    host.restart_daemon(None);
    run(async {
        let bus = host.bus().await;
        let mut names: Vec<_> = list(&bus).await.into_iter().map(|row| row.0).collect();
        names.sort_unstable();
        assert_eq!(names, ["open", "passing", "web", "wired"]);
        let (gap, events) = events_since(&bus, FIRST_EVENT - 1).await;
        let words: Vec<_> = events.iter().map(|event| (event.0, &*event.4)).collect();
        let expected = [(0, "started"), (1, "suspended"), (2, "resumed")];
        assert_eq!(
            (gap, words),
            (false, expected.map(|(at, word)| (FIRST_EVENT + at, word)).to_vec())
        );
    });
    // They are in the store as they were, for the next one.
    host.manager.wait_for_stored(&names(&[1, 2, 3, 4]));
}

/// The number of the first event in kept/events-1.
const FIRST_EVENT: u64 = 2048 * 1_000_000_000;

#[test]
fn what_a_newer_daemon_kept_is_not_lost() {
    let mut host = Host::start();
    let (web, last) = run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "Responding", true).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        (web, events_since(&bus, 0).await.1.last().unwrap().0)
    });
    host.manager.wait_for_stored(&names_with_monitor(1));
    host.kill_daemon();
    // Its record and its events are written anew, as a version that is still to come would.
    for (name, content) in [
        (format!("claim-{}-record", uuid(1)), &br#"{"version":5,"hostname":"web"}"#[..]),
        ("events".to_owned(), b"glassbox events, version 2, after 7\n"),
    ] {
        host.manager.replace(&name, content);
    }
    host.restart_daemon(None);
    for line in [
        "the record has version 5, this daemon knows 1 to 4",
        "begin with \"glassbox events, version 2",
    ] {
        assert!(host.log().contains(line), "{}", host.log());
    }
    assert!(is_closed(&web.lifeline), "the shim learns that it has to register again");
    run(async {
        let bus = host.bus().await;
        assert!(events_since(&bus, last).await.0, "a gap is said");
        // As the shim does, which keeps the monitor for that.
        let web = web.again(&host, "web", 1).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        assert_eq!(list(&bus).await.len(), 1);
        host.manager.wait_for_stored(&names_with_monitor(1));
    });
}

/// QEMU tells of a channel by its alias, and the daemon asks what it is called before it tells anyone.
#[test]
fn an_agent_that_comes_is_told_though_the_daemon_dies_before_it_knows_it_for_one() {
    let mut host = Host::start();
    let (web, last) = run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, "web", 1).await;
        web.wait(&bus, "VCPUs", 2u32).await;
        (web, events_since(&bus, 0).await.1.last().unwrap().0)
    });
    host.manager.wait_for_stored(&names_with_monitor(1));
    let happen = |event: &str, second: u64, data: Value| {
        let time = json!({ "seconds": second, "microseconds": 0 });
        web.qemu.say(&json!({ "event": event, "timestamp": time, "data": data }));
    };
    // A stand-in for a QEMU that takes its time to answer.
    web.qemu.hang(true);
    happen("STOP", 1, Value::Null);
    happen("VSERPORT_CHANGE", 2, json!({ "id": "channel0", "open": true }));
    happen("RESUME", 3, Value::Null);
    let told = |since| run(async { told_since(&host.bus().await, since).await });
    let others = ["1 suspended", "3 resumed"].map(str::to_owned);
    wait_until("it asks and tells the rest", || {
        web.qemu.last() == "qom-get" && told(last) == others
    });
    host.kill_daemon();
    host.restart_daemon(None);
    let told = |since| run(async { told_since(&host.bus().await, since).await });
    web.qemu.hang(false);
    wait_until("the agent is told of", || told(last).len() > 2);
    host.kill_daemon();
    host.restart_daemon(None);
    run(async { web.wait(&host.bus().await, "VCPUs", 2u32).await });
    let told = run(async { told_since(&host.bus().await, last).await });
    assert_eq!(told, ["1 suspended", "3 resumed", "2 connected"], "once, and nothing twice");
}

/// When, in seconds, and what happened since.
async fn told_since(bus: &Connection, last: u64) -> Vec<String> {
    let (gap, events) = events_since(bus, last).await;
    assert!(!gap);
    events.iter().map(|event| format!("{} {}", event.1 / 1_000_000, event.4)).collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn names_with_monitor(number: u32) -> Vec<String> {
    let mut names = names(&[number]);
    names.push(format!("claim-{}-monitor", uuid(number)));
    names.sort_unstable();
    names
}

#[test]
fn the_registry_is_served_on_a_passed_socket() {
    let mut host = Host::without_daemon();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // A client that comes before the daemon does is served when it is there.
    let early = UnixStream::connect(&path).unwrap();
    host.restart_daemon(Some(listener.into()));
    run(async {
        let builder = zbus::connection::Builder::unix_stream(early).p2p();
        register(&builder.build().await.unwrap(), "web", &uuid(1)).await.unwrap();
    });
    assert!(!host.socket().exists(), "it binds no other socket");
}
