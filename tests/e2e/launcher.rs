//! The shim without a unit: each way in which a guest ends, and what is left behind.

use std::time::Duration;

use anyhow::Result;
use tests::{Host, Root, Setup};

use crate::sector::{self, FOLDER, Sector};

tests::on_root!(bookworm, Bookworm, each_end_has_its_exit_status, a_guest_ends_with_its_caller);
tests::on_root!(trixie, Trixie, each_end_has_its_exit_status, a_guest_ends_with_its_caller);

/// What all scripts begin with. `await` waits for a file with something in it, ten seconds at most.
const HEAD: &str = "cd /tmp/guests
await() { n=0; until [ -s \"$1\" ] || [ $n -gt 200 ]; do sleep 0.05; n=$((n + 1)); done; }
said() { n=0; until grep -q \"$2\" \"$1\" || [ $n -gt 200 ]; do sleep 0.05; n=$((n + 1)); done; }
rm -f *.out pid pid2 log state socket status
";

/// One end of a guest.
struct End {
    what: &'static str,
    /// A script whose status is the shim's.
    script: &'static str,
    status: i32,
    /// A line of its standard error has this, and no more than one.
    says: &'static str,
}

const ENDS: [End; 12] = [
    End {
        what: "the guest shuts down",
        script: "exec glassbox-qemu --register=no off.xml",
        status: 0,
        says: "the guest is shut down",
    },
    End {
        what: "the guest is asked to",
        script: "glassbox-qemu --register=no --pidfile pid button.xml & said button.out B
            kill $(cat pid); wait $!",
        status: 0,
        says: "the guest is shut down",
    },
    End {
        what: "the XML is bad",
        script: "sed s/vda/vda0x/ off.xml >bad.xml; exec glassbox-qemu --register=no bad.xml",
        status: 3,
        says: "bad.xml:12:15: /domain/devices/disk/target: ",
    },
    End {
        what: "a file is missing",
        script: "sed s/off.img/none.img/ off.xml | glassbox-qemu --register=no -",
        status: 4,
        says: "/domain/devices/disk/source: '/tmp/guests/none.img' does not exist",
    },
    End {
        what: "the name is held",
        script: "glassbox-qemu --register=no --pidfile pid idle.xml 2>/dev/null & await pid
            glassbox-qemu --register=no idle.xml; status=$?
            kill -QUIT $(cat pid); wait; exit $status",
        status: 5,
        says: "the name 'idle' is held by another glassbox-qemu, which has ",
    },
    End {
        what: "there is no daemon where one is required",
        script: "exec glassbox-qemu --register=required --registry /none off.xml",
        status: 5,
        says: "the guest must be registered, but there is no daemon: /none: ",
    },
    End {
        what: "QEMU does not start",
        script: "sed s/raw/qcow2/ off.xml | glassbox-qemu --register=no -",
        status: 6,
        says: "Image is not in qcow2 format",
    },
    End {
        what: "QEMU refuses a command",
        script: "exec glassbox-qemu --register=no --incoming none:1 off.xml",
        status: 6,
        says: "the guest was not started: QEMU refused",
    },
    End {
        what: "QEMU crashes",
        script: "glassbox-qemu --register=no --pidfile pid idle.xml & await idle.out
            pkill -SEGV -P $(cat pid); wait $!",
        status: 7,
        says: "the guest is lost: QEMU was killed by SIGSEGV",
    },
    End {
        what: "the guest panics, and its memory is kept",
        script: "sed s/destroy/coredump-destroy/ panic.xml | STATE_DIRECTORY=/tmp/state glassbox-qemu --standalone -
            status=$?; head -c 4 /tmp/state/dump/panic-*.core | grep -q ELF || exit 99; exit $status",
        status: 8,
        says: "the guest's memory is written to /tmp/state/dump/panic-",
    },
    End {
        what: "the guest does not shut down in time",
        script: "glassbox-qemu --register=no --pidfile pid --stop-timeout 1 idle.xml & await idle.out
            kill $(cat pid); wait $!",
        status: 9,
        says: "the guest did not power down in time; QEMU was quit",
    },
    End {
        what: "the caller is gone",
        script: "exec glassbox-qemu --register=no --die-with-parent=1 idle.xml",
        status: 10,
        says: "the process that started glassbox-qemu has ended",
    },
];

fn each_end_has_its_exit_status(root: Root) -> Result<()> {
    let host = guests(root)?;
    for End { what, script, status, says } in &ENDS {
        let ended = run(&host, script)?;
        assert_eq!(ended.status, *status, "{what}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches(says).count(), 1, "{what}: {}", ended.stderr);
        nothing_is_left(&host, what)?;
    }
    resets_obey_the_definition(&host)?;
    ctrl_c_asks_and_a_second_one_quits(&host)?;
    the_first_process_leaves_no_zombies(&host)
}

fn resets_obey_the_definition(host: &Host) -> Result<()> {
    let ended = run(
        host,
        "sed 's|<on_crash>|<on_reboot>destroy</on_reboot><on_crash>|' reset.xml |
            glassbox-qemu --register=no -",
    )?;
    assert_eq!((ended.status, ended.stderr.contains("the guest is shut down")), (0, true));
    // It goes on in the same QEMU, again and again.
    let ended = run(
        host,
        "glassbox-qemu --register=no --pidfile pid reset.xml & said reset.out RRR
            kill -QUIT $(cat pid); wait $!",
    )?;
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    nothing_is_left(host, "a reset")
}

/// script(1) gives the shim a terminal of its own, on which Ctrl-C is typed.
fn ctrl_c_asks_and_a_second_one_quits(host: &Host) -> Result<()> {
    for (guest, keys, status) in
        [("button", "\\003", 0), ("idle", "\\003'; sleep 0.5; printf '\\003", 0)]
    {
        let typed = format!(
            "(said {guest}.out R; sleep 0.5; printf '{keys}'; await status) |
                script -qefc 'trap : INT; glassbox-qemu --register=no {guest}.xml; echo $? >status' /dev/null
            exit $(cat status)"
        );
        let ended = run(host, &typed)?;
        assert_eq!(ended.status, status, "{guest}: {}", ended.stdout);
        assert!(ended.stdout.contains("the guest is shut down"), "{guest}: {}", ended.stdout);
    }
    nothing_is_left(host, "Ctrl-C")
}

/// As the first process of a PID namespace the shim is given a child whose parent ended.
fn the_first_process_leaves_no_zombies(host: &Host) -> Result<()> {
    let ended = run(
        host,
        "unshare --pid --fork --mount-proc sh -c '
            (sleep 0.2 & sleep 0.2 &) ; exec glassbox-qemu --standalone --die-with-parent idle.xml' &
        await idle.out; sleep 0.5
        ps -o stat=,comm= --ppid $(pgrep -x glassbox-qemu)
        kill -KILL $!
        n=0; while pgrep -x glassbox-qemu && [ $n -lt 200 ]; do sleep 0.05; n=$((n + 1)); done",
    )?;
    let children: Vec<&str> = ended.stdout.lines().filter(|line| line.contains(' ')).collect();
    assert_eq!(children.len(), 1, "QEMU and nothing else: {}", ended.stdout);
    assert!(children[0].contains("qemu") && !children[0].starts_with('Z'), "{children:?}");
    nothing_is_left(host, "a caller outside of the container that was killed")
}

fn a_guest_ends_with_its_caller(root: Root) -> Result<()> {
    let host = guests(root)?;
    // The caller is a process of its own, and more than its first thread: the shim's parent as a whole.
    let ended = run(
        &host,
        "sh -c 'glassbox-qemu --standalone --die-with-parent=$$ --pidfile pid idle.xml & wait' &
        caller=$!; await idle.out; shim=$(cat pid); qemu=$(pgrep -P $shim)
        kill -KILL $caller; from=$(date +%s%N)
        while kill -0 $qemu 2>/dev/null; do sleep 0.005; done; to=$(date +%s%N)
        while kill -0 $shim 2>/dev/null; do sleep 0.005; done
        echo $(((to - from) / 1000000))",
    )?;
    let milliseconds: u64 = ended.stdout.trim().parse()?;
    // 100 are promised, on a machine that does nothing else.
    assert!(milliseconds < 1000, "QEMU ended {milliseconds} ms after the caller");
    eprintln!("QEMU ended {milliseconds} ms after the caller");
    assert!(ended.stderr.contains("has ended, and the guest with it"), "{}", ended.stderr);
    nothing_is_left(&host, "a killed caller")
}

/// A container with the guests of [`Sector`] in [`FOLDER`].
pub(crate) fn guests(root: Root) -> Result<Host> {
    let host = Setup::new(root).product()?.boot()?;
    for (name, sector) in [
        ("idle", Sector::Idles),
        ("off", Sector::ShutsDown),
        ("button", Sector::ObeysButton),
        ("panic", Sector::Panics),
        ("reset", Sector::Resets),
    ] {
        sector::install(&host, name, sector)?;
    }
    Ok(host)
}

/// Runs a script in [`FOLDER`], after [`HEAD`].
pub(crate) fn run(host: &Host, script: &str) -> Result<tests::Output> {
    let script = format!("{HEAD}{script}");
    host.command(["sh", "-c", &script]).limit(Duration::from_secs(60)).output()
}

/// Neither a process nor a file of a guest.
pub(crate) fn nothing_is_left(host: &Host, what: &str) -> Result<()> {
    let script = format!(
        "pgrep -a glassbox-qemu; pgrep -a qemu-system
        ls -d {FOLDER}/pid* /run/glassbox-* /run/glassbox/spawned/* /tmp/glassbox-* 2>/dev/null"
    );
    let found = host.run(["sh", "-c", &script])?.stdout;
    assert_eq!(found, "", "left behind by: {what}");
    Ok(())
}
