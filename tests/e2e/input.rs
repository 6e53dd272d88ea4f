//! What a start of the shim is given: definitions, names, guests that wait or come in.

use anyhow::Result;
use tests::{Host, Root};

use crate::launcher::{guests, nothing_is_left, run};

tests::on_root!(bookworm, Bookworm, a_start_is_what_the_command_line_says);
tests::on_root!(trixie, Trixie, a_start_is_what_the_command_line_says);

/// Gives a monitor commands, after its greeting, and prints what it says.
const QMP: &str = "qmp() { monitor=/run/glassbox/spawned/$1/monitor; shift
    { printf '{\"execute\":\"qmp_capabilities\"}'; for command; do printf '%s' \"$command\"; done; sleep 0.3; } |
        socat -t 0.3 STDIO UNIX-CONNECT:$monitor; }
";

fn a_start_is_what_the_command_line_says(root: Root) -> Result<()> {
    let host = guests(root)?;
    definitions_come_from_anywhere(&host)?;
    names_are_overridden(&host)?;
    a_paused_guest_waits_for_somebody(&host)?;
    a_guest_comes_in_as_it_was(&host)?;
    transient_guests_are_told_from_others(&host)?;
    nothing_is_left(&host, "starts")
}

fn definitions_come_from_anywhere(host: &Host) -> Result<()> {
    for words in [
        "off.xml",
        "- <off.xml",
        "--xml-fd 7 7<off.xml",
        // A pipe, and a descriptor with a file of which some is read already.
        "--xml-fd 0 <off.xml",
        "--standalone --xml-fd 9 9<off.xml",
    ] {
        let option = if words.starts_with("--standalone") { "" } else { "--register=no" };
        let ended = run(host, &format!("exec glassbox-qemu {option} {words}"))?;
        assert_eq!(ended.status, 0, "{words}: {}", ended.stderr);
    }
    let closed = run(host, "exec glassbox-qemu --register=no --xml-fd 7")?;
    let line = "--xml-fd 7: Bad file descriptor (os error 9); open it in the caller and let it be inherited";
    assert_eq!((closed.status, closed.stderr.contains(line)), (3, true), "{}", closed.stderr);
    Ok(())
}

fn names_are_overridden(host: &Host) -> Result<()> {
    let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    let printed = run(
        host,
        &format!(
            "sed '/<name>/d' off.xml | glassbox-qemu --name other --uuid {uuid} --print-args -"
        ),
    )?;
    assert!(printed.stdout.contains("guest=other,"), "{}", printed.stdout);
    assert!(printed.stdout.contains(&format!("-uuid\n{uuid}\n")), "{}", printed.stdout);
    let wrong = run(host, "exec glassbox-qemu --name a/b off.xml")?;
    assert_eq!(
        (wrong.status, wrong.stderr.contains("--name a/b: ")),
        (3, true),
        "{}",
        wrong.stderr
    );
    Ok(())
}

fn a_paused_guest_waits_for_somebody(host: &Host) -> Result<()> {
    let script =
        "glassbox-qemu --register=no --paused --pidfile pid button.xml 2>log & said log paused
        sleep 0.5; wc -c <button.out
        qmp button '{\"execute\":\"cont\"}' >/dev/null; said button.out B
        kill $(cat pid); wait $!; echo $?; cat log";
    let ended = run(host, &format!("{QMP}{script}"))?;
    assert!(ended.stdout.starts_with("0\n0\n"), "no byte while it waits: {}", ended.stdout);
    assert!(ended.stdout.contains("the guest is paused until somebody resumes it"));
    let never_let_go =
        "glassbox-qemu --register=no --paused --pidfile pid idle.xml 2>log & said log paused
        kill $(cat pid); wait $!";
    assert_eq!(run(host, never_let_go)?.status, 0, "it has nothing to lose, so it is not asked");
    Ok(())
}

/// Over a socket, over a descriptor of the caller's, and to where the monitor says; running, and paused.
fn a_guest_comes_in_as_it_was(host: &Host) -> Result<()> {
    let ways = [
        ("--incoming unix:/tmp/guests/socket", "", "unix:/tmp/guests/socket"),
        ("--incoming defer", "unix:/tmp/guests/socket", "unix:/tmp/guests/socket"),
    ];
    for (option, told, uri) in ways {
        for (before, after) in [("cont", "running"), ("stop", "paused")] {
            let told = match told {
                "" => String::new(),
                told => format!(
                    "qmp other '{{\"execute\":\"migrate-incoming\",\"arguments\":{{\"uri\":\"{told}\"}}}}' >/dev/null"
                ),
            };
            let script = format!(
                "{QMP}glassbox-qemu --register=no --pidfile pid button.xml 2>/dev/null & said button.out B
                glassbox-qemu --register=no --name other --pidfile pid2 {option} button.xml 2>log & said log incoming
                {told}
                qmp button '{{\"execute\":\"{before}\"}}' '{{\"execute\":\"migrate\",\"arguments\":{{\"uri\":\"{uri}\"}}}}' >/dev/null
                n=0; until qmp other '{{\"execute\":\"query-status\"}}' | tee status | grep -q '\"{after}\"' || [ $n -gt 20 ]; do n=$((n+1)); done
                cat status; kill -QUIT $(cat pid); kill $(cat pid2); wait; cat log"
            );
            let ended = run(host, &script.replace("said log incoming", "said log 'come in'"))?;
            let what = format!("{option} {before}: {} {}", ended.stdout, ended.stderr);
            assert!(ended.stdout.contains(&format!("\"status\": \"{after}\"")), "{what}");
            assert!(ended.stdout.contains("the guest is shut down"), "it saw its button: {what}");
        }
    }
    let stored = "glassbox-qemu --register=no --pidfile pid button.xml 2>/dev/null & said button.out B
        socat -u UNIX-LISTEN:socket CREATE:state & n=0; until [ -S socket ] || [ $n -gt 200 ]; do sleep 0.05; n=$((n+1)); done
        qmp button '{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:/tmp/guests/socket\"}}' >/dev/null
        n=0; until qmp button '{\"execute\":\"query-migrate\"}' | grep -q completed || [ $n -gt 20 ]; do n=$((n+1)); done
        kill -QUIT $(cat pid); wait
        glassbox-qemu --register=no --pidfile pid --incoming fd:8 button.xml 2>log 8<state & said log 'come in'
        n=0; until qmp button '{\"execute\":\"query-status\"}' | grep -q '\"running\"' || [ $n -gt 20 ]; do n=$((n+1)); done
        kill $(cat pid); wait $!; echo $?; cat log";
    let ended = run(host, &format!("{QMP}{stored}"))?;
    assert!(ended.stdout.starts_with("0\n"), "{} {}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("the guest is shut down"), "{}", ended.stdout);
    let torn =
        run(host, "exec glassbox-qemu --register=no --incoming fd:8 button.xml 8</dev/null")?;
    assert_eq!(torn.status, 6, "{}", torn.stderr);
    Ok(())
}

fn transient_guests_are_told_from_others(host: &Host) -> Result<()> {
    for (option, persistent) in [("", "true"), ("--transient", "false")] {
        let script = format!(
            "glassbox-qemu --register=required {option} --pidfile pid idle.xml & await idle.out
            path=$(busctl call org.glassbox.Glassbox1 /org/glassbox/Glassbox1 org.glassbox.Glassbox1.Manager GetDomain s idle |
                cut -d'\"' -f2)
            busctl get-property org.glassbox.Glassbox1 $path org.glassbox.Glassbox1.Domain Persistent
            kill -QUIT $(cat pid); wait"
        );
        let ended = run(host, &script)?;
        assert_eq!(ended.stdout, format!("b {persistent}\n"), "{}", ended.stderr);
    }
    Ok(())
}
