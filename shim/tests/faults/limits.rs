//! A system that has nothing left to give.

use std::fs;

use nix::sys::signal::Signal;

use crate::setup::{End, Setup, Shim, may_unshare};

/// What a start that the system refused something may end with: the definition could not be read (3), the shim
/// was refused something (1), or QEMU was (6).
const REFUSED: [i32; 3] = [1, 3, 6];

/// Waits for the start or for its failure; a guest that started is quit.
fn outcome(shim: Shim) -> Option<End> {
    shim.wait_for("start or end", || shim.path("running").exists() || shim.has_ended());
    if !shim.path("running").exists() {
        return Some(shim.end());
    }
    shim.signal(Signal::SIGQUIT);
    assert_eq!(shim.end().status, 0);
    None
}

/// They run out at one place of the start after the other.
#[test]
fn without_file_descriptors_a_start_fails_with_the_systems_words() {
    let mut failed = 0;
    for limit in 4..16 {
        let nofile = format!("--nofile={limit}");
        let shim = Setup::new("behaves").launcher(["prlimit", &nofile, "--"]).start();
        let Some(End { status, said }) = outcome(shim) else { continue };
        failed += 1;
        assert!(REFUSED.contains(&status), "with {limit} descriptors: {status}\n{said}");
        assert!(said.contains("Too many open files"), "with {limit} descriptors:\n{said}");
    }
    assert!((4..12).contains(&failed), "the limits go from too few to enough: {failed} failed");
}

/// QEMU has no memory, and ends in its own way; the shim has what it needs and tells.
#[test]
fn without_memory_for_qemu_a_start_fails() {
    for limit in [768, 1024, 1536] {
        let End { status, said } = with_memory(limit, Setup::new("behaves"));
        assert!([6, 7].contains(&status), "with {limit} KiB: {status}\n{said}");
        let line = said.lines().last().unwrap_or_default();
        assert!(line.starts_with("glassbox-qemu: the guest "), "with {limit} KiB: {said}");
    }
}

/// Rust's allocator ends a program that gets no memory by SIGABRT.
#[test]
fn without_memory_for_the_shim_nothing_is_started() {
    let aborted = 128 + Signal::SIGABRT as i32;
    for (limit, status, words) in
        [(4, 3, ": out of memory; "), (7, aborted, "memory allocation of ")]
    {
        let setup = Setup::new("behaves");
        let text = fs::read_to_string(setup.definition()).unwrap();
        let title = format!("<title>{}</title></domain>", "x".repeat(3 << 20));
        fs::write(setup.definition(), text.replace("</domain>", &title)).unwrap();
        let end = with_memory(limit << 10, setup);
        assert_eq!(end.status, status, "with {limit} MiB: {}", end.said);
        assert!(end.said.contains(words), "with {limit} MiB: {}", end.said);
    }
}

/// The end of a shim with so many KiB for data, QEMU included. Its program's code and libraries are not counted.
fn with_memory(limit: u64, setup: Setup) -> End {
    let data = format!("--data={}", limit << 10);
    outcome(setup.launcher(["prlimit", &data, "--core=0", "--"]).start()).expect("too much memory")
}

#[test]
fn without_a_process_for_qemu_a_start_fails() {
    let shim = Setup::new("behaves").launcher(["prlimit", "--nproc=0", "--"]);
    let qemu = shim.directory().join("qemu").display().to_string();
    let words = "Resource temporarily unavailable (os error 11)";
    let said = format!("glassbox-qemu: {qemu} cannot be run: {words}");
    assert_eq!(shim.start().end(), End { status: 6, said });
}

/// A root of its own is enough for a mount, where the system lets users have one.
const IN_A_FULL_DIRECTORY: &str =
    "mount -t tmpfs -o size=4k,nr_inodes=$1 none \"$RUNTIME_DIRECTORY\"
    shift; exec \"$@\"";

#[test]
fn without_room_for_the_runtime_directory_a_start_fails() {
    let try_it = ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"];
    if !may_unshare("without_room_for_the_runtime_directory_a_start_fails", try_it) {
        return;
    }
    let start = |inodes| {
        let words = ["unshare", "--map-root-user", "--mount", "sh", "-ec", IN_A_FULL_DIRECTORY];
        Setup::new("behaves").launcher(words).launcher(["sh", inodes]).start()
    };
    // The directory itself is the first.
    for (inodes, what) in [("1", "run: "), ("2", "run/live.xml: "), ("3", "run/monitor: ")] {
        let End { status, said } = outcome(start(inodes)).expect("it has not started");
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(what) && said.contains("No space left on device"), "{said}");
    }
    assert_eq!(outcome(start("4")), None);
}

#[test]
fn a_log_that_takes_nothing_is_no_reason_to_end() {
    let shim = Setup::new("behaves").log_to("/dev/full").start();
    shim.wait_for_note("running");
    shim.signal(Signal::SIGTERM);
    shim.wait_for_note("asked");
    assert_eq!(shim.end().status, 0);
}
