//! Many guests at once. Their QEMUs are stand-ins.

use std::time::Instant;

use crate::host::{Host, NAME, PATIENCE, ROOT, run};
use crate::manage::Guest;
use crate::registry::{list, property};

const GUESTS: u32 = 100;

/// How many calls overlap on one connection.
const CALLS: usize = 1000;

/// How much memory a guest may take in the daemon, in KiB.
const OF_A_GUEST: u64 = 20;

/// What the daemon has in memory of its own, in KiB: neither its code nor what it shares.
fn memory(host: &Host) -> u64 {
    let pid = host.daemon.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn many_guests_take_little_memory_and_many_calls_are_answered() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        // What the first guest and the first calls need is there for all.
        let mut guests = vec![Guest::register(&host, "first", GUESTS + 1).await];
        list(&bus).await;
        let before = memory(&host);
        for number in 0..GUESTS {
            guests.push(Guest::register(&host, &format!("guest-{number}"), number).await);
        }
        for guest in &guests {
            guest.wait(&bus, "VCPUs", 2u32).await;
        }
        let taken = memory(&host).saturating_sub(before);
        eprintln!("{taken} KiB for {GUESTS} guests");
        assert!(taken <= OF_A_GUEST * u64::from(GUESTS), "{taken} KiB for {GUESTS} guests");

        let mut calls = tokio::task::JoinSet::new();
        let began = Instant::now();
        for turn in 0..CALLS {
            let (bus, path) = (bus.clone(), guests[turn % guests.len()].path().clone());
            calls.spawn(async move {
                match turn % 10 {
                    0 => drop(list(&bus).await),
                    1 => {
                        let ping = Some("org.freedesktop.DBus.Peer");
                        drop(bus.call_method(Some(NAME), ROOT, ping, "Ping", &()).await.unwrap());
                    }
                    _ => drop(property(&bus, &path, "State").await),
                }
            });
        }
        let mut answered = 0;
        while let Some(answer) = tokio::time::timeout(PATIENCE, calls.join_next()).await.unwrap() {
            answer.unwrap();
            answered += 1;
        }
        eprintln!("{answered} calls in {} ms", began.elapsed().as_millis());
        assert_eq!(answered, CALLS);
    });
}
