//! What an administrator or the kernel does to the shim while its guest runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::setup::{End, Setup, Shim, may_unshare};

fn running(behaviour: &'static str) -> Shim {
    let shim = Setup::new(behaviour).options(["--stop-timeout", "1"]).start();
    shim.wait_until_running();
    shim
}

fn stopped() -> End {
    End { status: 0, said: "glassbox-qemu: the guest is shut down".to_owned() }
}

#[test]
fn a_shim_that_is_halted_goes_on_where_it_was() {
    let shim = running("behaves");
    halt(&shim);
    shim.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(Path::new(&format!("/proc/{}", shim.qemu())).exists(), "QEMU runs on");
    assert!(!shim.path("asked").exists(), "nobody is there to ask");
    shim.signal(Signal::SIGCONT);
    shim.wait_for_note("asked");
    assert_eq!(shim.end(), stopped());
}

/// To the shim this is the same as a clock that jumps.
#[test]
fn a_deadline_that_passes_while_the_shim_is_halted_is_kept_when_it_goes_on() {
    let shim = running("ignores-its-button");
    shim.signal(Signal::SIGTERM);
    shim.wait_for_note("asked");
    halt(&shim);
    std::thread::sleep(Duration::from_millis(1500));
    let resumed = Instant::now();
    shim.signal(Signal::SIGCONT);
    let said = "glassbox-qemu: the guest did not power down in time; quitting QEMU, disks flushed
glassbox-qemu: the guest did not power down in time; QEMU was quit";
    assert_eq!(shim.end(), End { status: 9, said: said.to_owned() });
    assert!(resumed.elapsed() < Duration::from_secs(5), "its time does not begin anew");
}

fn halt(shim: &Shim) {
    shim.signal(Signal::SIGSTOP);
    let status = format!("/proc/{}/status", shim.pid());
    shim.wait_for("halt", || fs::read_to_string(&status).unwrap().contains("State:\tT"));
}

#[test]
fn a_killed_shim_leaves_no_qemu() {
    for behaviour in ["never-greets", "never-answers-cont", "behaves", "floods"] {
        let shim = Setup::new(behaviour).start();
        shim.qemu();
        shim.signal(Signal::SIGKILL);
        assert_eq!(shim.end(), End { status: 128 + 9, said: String::new() }, "{behaviour}");
    }
}

#[test]
fn a_guest_whose_runtime_directory_is_removed_runs_on_and_stops() {
    let shim = running("behaves");
    fs::remove_dir_all(shim.path("run")).unwrap();
    shim.signal(Signal::SIGTERM);
    assert_eq!(shim.end(), stopped());
}

#[test]
fn a_runtime_directory_that_is_somebody_elses_by_now_is_left_alone() {
    let shim = running("behaves");
    let (run, other) = (shim.path("run"), shim.path("other"));
    fs::rename(&run, shim.path("moved")).unwrap();
    fs::create_dir(&run).unwrap();
    fs::write(run.join("lock"), "").unwrap();
    shim.signal(Signal::SIGTERM);
    shim.wait_for("end", || shim.has_ended());
    assert!(run.join("lock").exists());
    fs::rename(&run, &other).unwrap();
    assert_eq!(shim.end(), stopped());
}

/// A monotonic clock may begin anywhere. The time of day is never looked at: `shim/clippy.toml` forbids it.
#[test]
fn what_the_clock_shows_makes_no_difference() {
    if !may_unshare("what_the_clock_shows_makes_no_difference", ["--time", "true"]) {
        return;
    }
    for offset in ["0", "1000000000"] {
        let words = ["unshare", "--map-root-user", "--time", "--monotonic", offset];
        let started = Instant::now();
        let shim = Setup::new("never-greets").options(["--start-timeout", "1"]).launcher(words);
        let shim = shim.launcher(["--boottime", offset, "--"]).start();
        assert_eq!(shim.end().status, 6, "{offset}");
        assert!(started.elapsed() >= Duration::from_secs(1), "{offset}");
    }
}
