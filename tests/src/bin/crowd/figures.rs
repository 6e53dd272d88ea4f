//! How long calls take.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::bus::Client;

/// How many calls overlap on one connection.
const OVERLAPPING: usize = 1000;

/// How often the guests are listed.
const LISTS: usize = 100;

/// Prints the figures of all guests but `left_out`, of whom it prints what is known.
pub(crate) async fn print(left_out: Option<&str>) -> Result<()> {
    let client = Client::connect().await?;
    let guests = client.list().await?;
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        client.list().await?;
        lists.push(began.elapsed());
    }
    show("ListDomains", &mut lists);
    let (mut states, mut statistics) = (Vec::new(), Vec::new());
    for (name, _, _, _, path) in &guests {
        let began = Instant::now();
        client.state(path).await?;
        let state = began.elapsed();
        let began = Instant::now();
        let figures = client.statistics(path).await?;
        if left_out == Some(name.as_str()) {
            let took = began.elapsed().as_micros();
            let responding = bool::try_from(figures["responding"].clone())?;
            let age = u64::try_from(figures["age"].clone())?;
            println!("{name}: {took} us; responding {responding}, age {age} us");
            continue;
        }
        states.push(state);
        statistics.push(began.elapsed());
    }
    show("State", &mut states);
    show("GetStatistics", &mut statistics);
    let mut jobs = Vec::new();
    for (_, _, _, _, path) in guests.iter().filter(|guest| left_out != Some(guest.0.as_str())) {
        let began = Instant::now();
        client.resume(path).await?;
        jobs.push(began.elapsed());
    }
    show("Resume, until it has the path of its job", &mut jobs);
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for turn in 0..OVERLAPPING {
        let (client, path) = (client.clone(), guests[turn % guests.len()].4.clone());
        calls.spawn(async move { client.state(&path).await });
    }
    let mut answered = 0;
    while let Some(answer) = calls.join_next().await {
        match answer? {
            Ok(()) => answered += 1,
            Err(error) => println!("{error}"),
        }
    }
    println!(
        "{answered} of {OVERLAPPING} overlapping calls answered in {} ms",
        began.elapsed().as_millis()
    );
    ensure!(answered == OVERLAPPING, "some have no answer");
    Ok(())
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    let most = times.last().map_or(0, Duration::as_micros);
    println!(
        "{what}: median {} us, 90th percentile {} us, most {most} us, of {}",
        at(50),
        at(90),
        times.len()
    );
}
