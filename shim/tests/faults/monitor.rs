//! A QEMU that says the wrong thing, too much, or nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::setup::{End, Setup};

/// The most memory that a shim may need at any time, in KiB, its program's code included. The longest message that
/// is taken from QEMU is a tenth of it.
const MOST_MEMORY: u64 = 24 << 10;

/// A start that fails, in the words of the shim.
fn not_started(words: &str) -> End {
    End { status: 6, said: format!("glassbox-qemu: the guest was not started: {words}") }
}

fn stopped() -> End {
    End { status: 0, said: "glassbox-qemu: the guest is shut down".to_owned() }
}

#[test]
fn a_qemu_that_does_not_answer_is_killed_when_its_time_is_up() {
    for behaviour in ["never-greets", "never-answers-cont"] {
        let started = Instant::now();
        let end = Setup::new(behaviour).options(["--start-timeout", "1"]).start().end();
        assert_eq!(end, not_started("QEMU did not answer its monitor in time"), "{behaviour}");
        assert!(started.elapsed() >= Duration::from_secs(1), "it had its time");
    }
}

#[test]
fn a_qemu_that_ends_before_its_guest_runs_is_told_by_its_status() {
    for behaviour in ["fails", "exits-before-cont"] {
        let end = Setup::new(behaviour).start().end();
        let words = "QEMU ended with status 1 before the guest ran, and said why before this";
        let expected = not_started(words);
        assert_eq!(end, expected, "{behaviour}");
    }
    let words = "glassbox-qemu: the guest is lost: QEMU was killed by SIGKILL";
    let crashed = End { status: 7, said: words.to_owned() };
    assert_eq!(Setup::new("dies-before-cont").start().end(), crashed);
}

#[test]
fn a_greeting_that_is_none_fails_the_start() {
    let words = "QEMU sent \"hello\", which is no QMP message: expected value at line 1 column 1";
    assert_eq!(Setup::new("greets-with-garbage").start().end(), not_started(words));
}

#[test]
fn a_greeting_without_end_is_not_read_to_its_end() {
    let shim = Setup::new("greets-without-end").start();
    // The monitor is closed, so that the 64 MiB are neither read nor kept by QEMU.
    let poured: u64 = shim.wait_for_note("poured").parse().unwrap();
    assert!(poured < 4 << 20, "{poured}");
    assert!(shim.status("VmHWM") < MOST_MEMORY, "{} KiB", shim.status("VmHWM"));
    assert_eq!(shim.end(), not_started("QEMU sent a line of more than 1048576 bytes"));
}

/// The guest has done nothing wrong, so it goes on.
#[test]
fn a_guest_whose_monitor_is_lost_runs_on_and_is_stopped_by_ending_qemu() {
    for (behaviour, why) in [
        ("closes-its-monitor", "QEMU closed its monitor"),
        ("sends-64-mib", "QEMU sent a line of more than 1048576 bytes"),
    ] {
        let shim = Setup::new(behaviour).start();
        let line = format!(
            "glassbox-qemu: {why}; the guest runs on and can only be stopped by ending QEMU"
        );
        shim.wait_for("warning", || shim.read("log").contains(&line));
        assert!(shim.status("VmHWM") < MOST_MEMORY, "{} KiB", shim.status("VmHWM"));
        assert!(!shim.path("terminated").exists(), "the guest runs");
        // A reset cannot be asked for any more, and is no reason to end.
        shim.signal(Signal::SIGINT);
        let told = "glassbox-qemu: QEMU cannot be told system_reset: its monitor is lost";
        shim.wait_for("second warning", || shim.read("log").contains(told));
        shim.signal(Signal::SIGTERM);
        shim.wait_for_note("terminated");
        let said = format!("{line}\n{told}\n{}", stopped().said);
        assert_eq!(shim.end(), End { status: 0, said }, "{behaviour}");
    }
}

#[test]
fn a_flood_of_events_neither_fills_memory_nor_keeps_a_stop_waiting() {
    let shim = Setup::new("floods").start();
    shim.wait_until_running();
    let before = shim.status("VmHWM");
    std::thread::sleep(Duration::from_secs(1));
    let grown = shim.status("VmHWM") - before;
    let asked = Instant::now();
    shim.signal(Signal::SIGTERM);
    let events = shim.wait_for_note("events");
    shim.wait_for_note("asked");
    assert!(asked.elapsed() < Duration::from_secs(5), "after {:?}", asked.elapsed());
    eprintln!("{events} events in about a second");
    assert!(events.parse::<u64>().unwrap() > 1000, "no flood");
    assert!(grown < 2 << 10, "by {grown} KiB");
    assert_eq!(shim.end(), stopped());
}
