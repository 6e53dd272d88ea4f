//! What a child inherits, and what it does not.

use super::*;
use nix::sys::wait::{WaitStatus, waitpid};

/// Runs `script` in a shell that has `fds` open, and says what it printed.
fn shell(script: &str, fds: Vec<OwnedFd>) -> String {
    shell_in(script, &[], fds)
}

/// As [`shell`], with these variables.
fn shell_in(script: &str, environment: &[(String, String)], fds: Vec<OwnedFd>) -> String {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let signals = SignalSource::block(&[libc::SIGUSR1]).unwrap();
    let mut fds = fds;
    fds.insert(0, write);
    let arguments = ["-c".to_owned(), script.to_owned()];
    let pid = Spawn {
        program: "/bin/sh",
        arguments: &arguments,
        environment,
        stderr: None,
        fds,
        signals: &signals,
    }
    .start()
    .unwrap();
    let mut printed = String::new();
    File::from(read).read_to_string(&mut printed).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0), "{printed}");
    printed
}

#[test]
fn a_child_has_the_fds_of_the_plan_and_no_other() {
    let junk: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
    let fds =
        vec![File::open("/dev/zero").unwrap().into(), File::open("/dev/full").unwrap().into()];
    let listed =
        shell("exec >&3; readlink /proc/$$/fd/4 /proc/$$/fd/5; exec ls /proc/self/fd", fds);
    drop(junk);
    assert_eq!(listed, "/dev/zero\n/dev/full\n0\n1\n2\n3\n4\n5\n6\n", "6 is what ls reads");
}

#[test]
fn a_child_has_the_variables_of_the_plan_on_top_of_its_parents() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let plan = [pair("GLASSBOX_A", "1"), pair("GLASSBOX_B", ""), pair("GLASSBOX_A", "a=b")];
    let script = r#"echo "$GLASSBOX_A|${GLASSBOX_B-unset}|$PATH" >&3"#;
    let path = std::env::var("PATH").unwrap();
    assert_eq!(shell_in(script, &plan, Vec::new()), format!("a=b||{path}\n"));
}

#[test]
fn a_child_has_only_the_terminals_signals_blocked() {
    let field = |status: &str, field: &str| {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let status = shell("exec cat /proc/self/status >&3", Vec::new());
    let terminal = TERMINAL_SIGNALS.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
    assert_eq!(field(&status, "SigBlk"), field(&own, "SigBlk") | terminal, "{status}");
    assert_eq!(field(&status, "SigIgn") & 1 << (libc::SIGPIPE - 1), 0, "{status}");
}

#[test]
fn a_program_that_is_not_there_is_an_error_of_start() {
    let signals = SignalSource::block(&[libc::SIGUSR1]).unwrap();
    let spawn = Spawn {
        program: "/nonexistent",
        arguments: &[],
        environment: &[],
        stderr: None,
        fds: Vec::new(),
        signals: &signals,
    };
    assert_eq!(spawn.start().unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn only_code_is_released() {
    let line = |permissions| format!("1000-3000 {permissions} 00000000 fe:00 1  /bin/x");
    assert_eq!(code_range(&line("r-xp")), Some((0x1000, 0x3000)));
    for permissions in ["r--p", "rw-p", "rwxp", "---p"] {
        assert_eq!(code_range(&line(permissions)), None, "{permissions}");
    }
    release_code();
}
