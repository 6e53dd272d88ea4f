//! Names and UUIDs are one guest's at a time, wherever the two shims that want them were started.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::{Definition, Host, Root, definition};

tests::on_root!(
    trixie,
    Trixie,
    of_a_hundred_racing_shims_one_wins,
    a_second_shim_is_told_who_holds_the_name,
);

/// The exit status of glassbox-qemu(1) for a name or UUID that is taken.
const CLAIMED: i32 = 5;

/// The goal is 50 ms, which `cargo bench -p shim` measures; here it may be a machine with other work.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A guest with nothing but a processor, and a QEMU that leaves a line when it is started with
/// a guest, and not when it is asked what it is.
const RACER: &str =
    "<domain type='qemu'><name>race</name><uuid>67626f78-0000-4000-8000-000000000001</uuid>
<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/local/bin/counted-qemu</emulator></devices></domain>";

const COUNTED: &str = "#!/bin/sh
case \"$*\" in *none,accel=*) ;; *) echo $$ >>/tmp/race/started ;; esac
exec qemu-system-x86_64 \"$@\"
";

/// A mount namespace in which nothing of the host's is left below /run/glassbox, and the registry's socket is at
/// another place, as in a pod.
const IN_A_POD: &str = "#!/bin/sh -eu
mount --bind /run/glassbox/registry /tmp/race/registry
mount -t tmpfs tmpfs /run/glassbox
exec glassbox-qemu --registry /tmp/race/registry \"$@\"
";

/// Twenty rounds: a hundred shims, each second one in a pod, of which one must be left; killing that one frees
/// the name for the next round.
const RACE: &str = r#"
cd /tmp/race
for round in $(seq 20); do
    rm -f started status.* says.*; touch started
    for racer in $(seq 100); do
        run="glassbox-qemu"
        [ $((racer % 2)) = 0 ] || run="unshare --mount /tmp/race/in-a-pod"
        ( code=0; $run race.xml >/dev/null 2>says.$racer || code=$?; echo $code >status.$racer ) &
    done
    for _ in $(seq 600); do
        [ "$(ls | grep -c '^status')" -ge 99 ] && [ -s started ] && break
        sleep 0.1
    done
    echo "round $round: ended $(cat status.* | sort | uniq -c | xargs), started $(wc -l <started)"
    grep -L "glassbox-qemu: the name 'race' is held by .*pid [0-9]" $(ls status.* | sed s/status/says/) || :
    kill -KILL "$(ps -o ppid= -p "$(cat started)")"
    wait
done
"#;

fn of_a_hundred_racing_shims_one_wins(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.write("/usr/local/bin/counted-qemu", COUNTED, "0755", "root:root")?;
    host.write("/tmp/race/in-a-pod", IN_A_POD, "0755", "root:root")?;
    host.write_file("/tmp/race/registry", "")?;
    host.write_file("/tmp/race/race.xml", RACER)?;
    host.systemctl(["start", "glassboxd.socket"])?.success()?;
    let run = host.command(["/bin/bash", "-euc", RACE]).limit(Duration::from_secs(400)).output()?;
    let expected: String =
        (1..=20).map(|round| format!("round {round}: ended 99 {CLAIMED}, started 1\n")).collect();
    assert_eq!(run.success()?.stdout, expected);
    Ok(())
}

fn a_second_shim_is_told_who_holds_the_name(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?;
    web.install(&host)?;
    let twin = Definition::new("twin")?;
    twin.clone().replace(&twin.uuid(), &web.uuid())?.install(&host)?;
    host.write("/tmp/race/in-a-pod", IN_A_POD, "0755", "root:root")?;
    host.write_file("/tmp/race/registry", "")?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let (shim, _) = unit.processes()?;
    let holder = format!("pid {shim} (qemu@web.service)");
    let [name, uuid] = [
        format!("the name 'web' is held by {holder}"),
        format!("the UUID {} is held by guest 'web', {holder}", web.uuid()),
    ];
    let refusals = [("web", &name), ("twin", &uuid)];
    let refusals =
        refusals.map(|(file, words)| (format!("{}/{file}.xml", definition::DEFINITIONS), words));
    for (file, words) in &refusals {
        is_refused(&host, &["glassbox-qemu", file], words)?;
    }
    let kept = "/var/cache/glassbox/qemu";
    assert!(!host.exists(kept)?, "QEMU was asked what it is for a guest that is refused");
    // In a pod only the registry knows, which is asked when the guest is planned, and so after QEMU.
    host.run(["glassbox-qemu", "--probe"])?.success()?;
    assert!(host.exists(kept)?, "root's answers of QEMU are elsewhere");
    for (file, words) in &refusals {
        is_refused(&host, &["unshare", "--mount", "/tmp/race/in-a-pod", file], words)?;
    }
    unit.quit()?;
    a_shell_s_guest_keeps_a_unit_out(&host)
}

fn is_refused(host: &Host, words: &[&str], who: &str) -> Result<()> {
    let started = Instant::now();
    let refused = host.run(words.iter().copied())?;
    let took = started.elapsed();
    assert_eq!((refused.status, refused.stderr), (CLAIMED, format!("glassbox-qemu: {who}\n")));
    eprintln!(
        "refused {:.0} ms after {words:?}, the way into the container included",
        took.as_secs_f64() * 1e3
    );
    assert!(took < AT_ONCE, "{words:?} was refused after {took:?}");
    Ok(())
}

/// A guest that root started keeps the unit of its name from starting, and loses nothing by that; killed, it
/// leaves the name to the unit at once.
fn a_shell_s_guest_keeps_a_unit_out(host: &Host) -> Result<()> {
    host.sh("systemd-run --quiet --unit=by-hand glassbox-qemu /etc/glassbox/qemu/web.xml")?;
    let by_hand = host.unit("by-hand.service");
    host.wait_for("the guest to run", tests::PATIENCE, || {
        by_hand.messages().is_ok_and(|said| said.iter().any(|line| line.contains("is running")))
    })?;
    let (shim, _) = by_hand.processes()?;
    assert_ne!(host.systemctl(["start", "qemu@web"])?.status, 0);
    let refused = host.unit("qemu@web.service");
    let words = format!("the name 'web' is held by pid {shim} (by-hand.service)");
    assert_eq!((refused.outcome()?.1, refused.status_line()?), (CLAIMED, words));
    let said = by_hand.messages()?;
    let last = said.last().context("it said that it runs")?;
    let console = last.rsplit(' ').next().unwrap_or_default();
    assert!(host.exists(console)?, "{last}");
    host.sh(&format!("kill -KILL {shim}; systemctl start qemu@web"))?;
    host.unit("qemu@web.service").quit()
}
