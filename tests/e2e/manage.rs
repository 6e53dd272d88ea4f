//! Guests managed over D-Bus by a stock client, busctl, as root and as another user.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Definition, Host, Output, PATIENCE, Root, guest};

tests::on_root!(trixie, Trixie, guests_are_managed_over_d_bus, a_hung_guest_and_a_killed_daemon);

const NAME: &str = "org.glassbox.Glassbox1";
pub(crate) const ROOT: &str = "/org/glassbox/Glassbox1";
pub(crate) const MANAGER: &str = "org.glassbox.Glassbox1.Manager";
pub(crate) const DOMAIN: &str = "org.glassbox.Glassbox1.Domain";

/// How long a call may take, busctl's own start and the way into the container included.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Where the signals of the daemon are written.
const SIGNALS: &str = "/tmp/signals";

fn guests_are_managed_over_d_bus(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?.replace("<vcpu>1</vcpu>", "<vcpu current=\"1\">2</vcpu>")?;
    web.install(&host)?;
    host.reload()?;
    follow_signals(&host)?;
    let start = || call(&host, ROOT, MANAGER, "StartDomain", &["s", "web"]);
    ends(&host, &start()?, "done")?;
    let again = start().err().context("it is refused")?.to_string();
    ensure!(again.contains("guest 'web' runs already"), again);
    let path = text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", "web"])?)?;
    let (_, qemu) = host.unit("qemu@web.service").processes()?;
    let by_pid = call(&host, ROOT, MANAGER, "GetDomainByPID", &["u", &qemu.to_string()])?;
    assert_eq!(text(&by_pid)?, path);
    host.wait_for_console("web", guest::READY, 1)?;
    assert_eq!(property(&host, &path, "Reason")?, "booted");
    // While it has one CPU: QEMU's emulation of several may fail an assertion when they are reset (its issue 1921).
    ends(&host, &call(&host, &path, DOMAIN, "Reboot", &[])?, "done")?;
    host.wait_for_console("web", guest::READY, 2)?;
    assert!(host.console("web").contains(guest::POWERDOWN), "it saw its power button");
    assert_eq!(host.unit("qemu@web.service").processes()?.1, qemu, "in the same QEMU");

    for (method, words, name, value) in [
        ("Suspend", &[][..], "State", Value::from("paused")),
        ("Resume", &[], "State", Value::from("running")),
        ("SetVCPUs", &["uu", "2", "1"], "VCPUs", Value::from(2)),
        ("SetMemory", &["tu", "201326592", "1"], "Memory", Value::from(201_326_592)),
        ("SendKey", &["uas", "50", "1", "ret"], "State", Value::from("running")),
        ("Screenshot", &[], "State", Value::from("running")),
    ] {
        ends(&host, &call(&host, &path, DOMAIN, method, words)?, "done")?;
        host.wait_for(&format!("{name} after {method}"), PATIENCE, || {
            property(&host, &path, name).is_ok_and(|now| now == value)
        })?;
    }
    let figures = &call(&host, &path, DOMAIN, "GetStatistics", &[])?[0];
    assert_eq!(figures["vcpu.current"]["data"], 2, "{figures}");
    amounts_are_for_the_next_start_as_well(&host, &path)?;
    assert_eq!(figures["block.0.name"]["data"], "virtio-disk0", "{figures}");
    let answer = call(&host, &path, DOMAIN, "MonitorCommand", &["ss", "query-name", ""])?;
    assert_eq!(text(&answer)?, "{\"name\":\"web\"}");
    another_user_reads_and_does_not_manage(&host, &path)?;

    ends(&host, &call(&host, &path, DOMAIN, "Shutdown", &[])?, "done")?;
    let unit = host.unit("qemu@web.service");
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    let events = events_since(&host, 0)?;
    for event in [
        "lifecycle started",
        "lifecycle suspended",
        "balloon changed",
        "agent connected",
        "lifecycle shutdown",
        "lifecycle stopped",
    ] {
        assert!(events.1.iter().any(|told| told == event), "{event}: {events:?}");
    }
    definitions_are_written(&host)?;
    a_transient_guest_leaves_nothing(&host)?;
    a_guest_that_does_not_start_is_told(&host)
}

fn a_transient_guest_leaves_nothing(host: &Host) -> Result<()> {
    let passing = Definition::new("passing")?;
    passing.make_disk(host)?;
    ends(host, &call(host, ROOT, MANAGER, "Create", &["s", passing.xml()])?, "done")?;
    let path = text(&call(host, ROOT, MANAGER, "GetDomain", &["s", "passing"])?)?;
    assert_eq!(property(host, &path, "Persistent")?, false);
    ends(host, &call(host, &path, DOMAIN, "Destroy", &[])?, "done")?;
    host.unit("qemu@passing.service").wait("inactive")?;
    host.wait_for("its definition to go", PATIENCE, || {
        let left = host.sh("ls /run/glassbox/qemu /run/glassbox/transient | grep passing || :");
        left.is_ok_and(|left| left.stdout.is_empty())
    })
}

/// Twenty guests are defined at once with a reload or two, and one of them is chosen for the start at boot and undefined.
fn definitions_are_written(host: &Host) -> Result<()> {
    let reloads = || -> Result<usize> {
        let journal = host.run(["journalctl", "--boot", "--no-pager", "_PID=1"])?.stdout;
        Ok(journal.lines().filter(|line| line.ends_with("Reloading...")).count())
    };
    let before = reloads()?;
    let template = Definition::new("burst")?;
    host.write_file("/tmp/burst.xml", template.xml())?;
    let uuid = template.uuid();
    let define = format!("busctl call {NAME} {ROOT} {MANAGER} Define s");
    host.sh(&format!(
        "for n in $(seq 10 29); do
            xml=$(sed \"s/<name>burst</<name>burst-$n</; s/{uuid}/${{n}}{tail}/\" /tmp/burst.xml)
            {define} \"$xml\" & done; wait",
        tail = &uuid[2..]
    ))?;
    host.wait_for("the last unit to be known", PATIENCE, || {
        (10..30).all(|n| {
            let unit = host.unit(&format!("qemu@burst-{n}.service"));
            unit.show(["SourcePath"]).is_ok_and(|[path]| path.ends_with(&format!("burst-{n}.xml")))
        })
    })?;
    let count = reloads()? - before;
    eprintln!("20 definitions: {count} reloads");
    ensure!(count <= 8, "{count} reloads for 20 definitions");

    let autostart = call(host, ROOT, MANAGER, "SetAutostart", &["sb", "burst-10", "true"])?;
    ends(host, &autostart, "done")?;
    let listed = call(host, ROOT, MANAGER, "ListDefined", &[])?;
    let row = serde_json::json!(["burst-10", "/etc/glassbox/qemu/burst-10.xml", true]);
    ensure!(listed[0].as_array().is_some_and(|rows| rows.contains(&row)), "{listed}");
    ends(host, &call(host, ROOT, MANAGER, "Undefine", &["s", "burst-10"])?, "done")?;
    assert!(!host.exists("/etc/glassbox/qemu/burst-10.xml")?);
    assert!(!host.exists("/etc/glassbox/qemu/autostart/burst-10.xml")?);
    let broken = call(host, ROOT, MANAGER, "Define", &["s", "<domain type='qemu'/>"]).err();
    let broken = broken.context("it is refused")?.to_string();
    ensure!(broken.contains("xml:1:1: /domain: <name> is missing"), broken);
    Ok(())
}

/// Each method that manages, with arguments for busctl.
pub(crate) const METHODS: [(&str, &[&str]); 17] = [
    ("Shutdown", &[]),
    ("Reboot", &[]),
    ("Reset", &[]),
    ("Destroy", &[]),
    ("Suspend", &[]),
    ("Resume", &[]),
    ("SetVCPUs", &["uu", "1", "0"]),
    ("SetMemory", &["tu", "134217728", "0"]),
    ("SendKey", &["uas", "50", "1", "ret"]),
    ("Screenshot", &[]),
    ("AttachDevice", &["su", "<disk/>", "1"]),
    ("DetachDevice", &["su", "<disk/>", "1"]),
    ("UpdateDevice", &["su", "<disk/>", "1"]),
    ("GetXML", &["b", "false"]),
    ("OpenConsole", &["s", ""]),
    ("AgentCommand", &["ssu", "guest-ping", "", "5"]),
    ("MonitorCommand", &["ss", "quit", ""]),
];

/// What polkit is told of a user who may.
const GRANT: &str = "polkit.addRule(function(action, subject) {
    if (action.id == 'org.glassbox.manage' && subject.user == 'alice') return polkit.Result.YES;
});";

fn amounts_are_for_the_next_start_as_well(host: &Host, path: &str) -> Result<()> {
    let (definition, memory) = ("/etc/glassbox/qemu/web.xml", 160 << 20);
    ensure!(
        host.read(definition)?.contains("<vcpu current=\"1\">2</vcpu>"),
        "it is changed already"
    );
    ends(host, &call(host, path, DOMAIN, "SetVCPUs", &["uu", "2", "2"])?, "done")?;
    ends(host, &call(host, path, DOMAIN, "SetMemory", &["tu", &memory.to_string(), "3"])?, "done")?;
    let changed = host.read(definition)?;
    for part in ["<vcpu current=\"2\">2</vcpu>", "<currentMemory unit='KiB'>163840</currentMemory>"]
    {
        ensure!(changed.contains(part), changed);
    }
    assert_eq!(property(host, path, "Memory")?, memory, "and of the running guest");
    // What the running guest has no room for is not in its definition, either.
    host.write_file(definition, changed.replace(">2</vcpu>", ">4</vcpu>"))?;
    let told = ends(host, &call(host, path, DOMAIN, "SetVCPUs", &["uu", "3", "3"])?, "failed")?;
    ensure!(told.contains("2"), told);
    ensure!(host.read(definition)?.contains("<vcpu current=\"2\">4</vcpu>"), "it is put back");
    Ok(())
}

fn another_user_reads_and_does_not_manage(host: &Host, path: &str) -> Result<()> {
    host.sh("useradd alice")?;
    let listed = as_user(host, "alice", ROOT, MANAGER, "ListDomains", &[])?.success()?.stdout;
    ensure!(listed.contains("\"web\""), listed);
    let shown = as_user(host, "alice", path, DOMAIN, "GetStatistics", &[])?.success()?.stdout;
    ensure!(shown.contains("state.state"), shown);
    let refused = |path: &str, interface: &str, method: &str, words: &[&str]| -> Result<()> {
        let answer = as_user(host, "alice", path, interface, method, words)?;
        let denied = answer.status != 0 && answer.stderr.contains("may not manage guest");
        ensure!(denied, "{method}: {}{}", answer.stdout, answer.stderr);
        Ok(())
    };
    for (method, words) in METHODS {
        refused(path, DOMAIN, method, words)?;
    }
    for (method, words) in [
        ("StartDomain", &["s", "db"][..]),
        ("Create", &["s", "<domain/>"]),
        ("Define", &["s", "<domain/>"]),
        ("Undefine", &["s", "web"]),
        ("SetAutostart", &["sb", "web", "true"]),
        ("GetDefinition", &["s", "web"]),
    ] {
        refused(ROOT, MANAGER, method, words)?;
    }
    // polkitd reads a file the moment that it appears, and not again when it is whole.
    host.write_file("/tmp/50-alice.rules", GRANT)?;
    host.sh("mv /tmp/50-alice.rules /etc/polkit-1/rules.d/")?;
    host.wait_for("polkit to grant", PATIENCE, || {
        as_user(host, "alice", path, DOMAIN, "SetVCPUs", &["uu", "2", "0"])
            .is_ok_and(|granted| granted.status == 0)
    })
}

fn a_guest_that_does_not_start_is_told(host: &Host) -> Result<()> {
    host.sh(&format!("rm {}/web.qcow2", guest::IMAGES))?;
    let job = call(host, ROOT, MANAGER, "StartDomain", &["s", "web"])?;
    let line = ends(host, &job, "failed")?;
    ensure!(line.contains("web.qcow2"), "it names the file that is missing: {line}");
    let nobody = call(host, ROOT, MANAGER, "StartDomain", &["s", "nobody"])?;
    ends(host, &nobody, "failed").map(drop)
}

fn a_hung_guest_and_a_killed_daemon(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let names = ["web", "db", "mail"];
    for name in names {
        Definition::new(name)?.install(&host)?;
    }
    host.reload()?;
    follow_signals(&host)?;
    let mut paths = Vec::new();
    for name in names {
        host.start_guest(name)?;
        paths.push(text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", name])?)?);
    }
    let (_, stuck) = host.unit("qemu@web.service").processes()?;
    host.sh(&format!("kill -STOP {stuck}"))?;
    let first = timed("Suspend", || call(&host, &paths[0], DOMAIN, "Suspend", &[]))?;
    let busy = timed("Resume", || Ok(call(&host, &paths[0], DOMAIN, "Resume", &[])))?;
    let busy = busy.err().context("it is refused")?.to_string();
    ensure!(busy.contains("(suspend) running"), busy);
    host.wait_for("QEMU to count as not responding", PATIENCE, || {
        property(&host, &paths[0], "Responding").is_ok_and(|now| now == false)
    })?;
    for path in &paths {
        timed("GetStatistics", || call(&host, path, DOMAIN, "GetStatistics", &[]))?;
        timed("State", || property(&host, path, "State"))?;
    }
    timed("ListDomains", || call(&host, ROOT, MANAGER, "ListDomains", &[]))?;
    assert_eq!(property(&host, &paths[1], "Responding")?, true);
    let age = property(&host, &paths[0], "DataAge")?;
    ensure!(age.as_u64().is_some_and(|age| age > 2_000_000), "{age} us");
    ends(&host, &first, "failed")?;
    the_daemon_sleeps(&host)?;
    ends(&host, &call(&host, &paths[0], DOMAIN, "Destroy", &[])?, "done")?;
    let unit = host.unit("qemu@web.service");
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    nothing_is_lost_by_a_kill(&host, &paths[1])
}

/// Beside idle guests, one of which hangs, the daemon does not wake up.
fn the_daemon_sleeps(host: &Host) -> Result<()> {
    let [pid] = host.unit("glassboxd.service").show(["MainPID"])?;
    let woke = || -> Result<u64> {
        let status = host.process(pid.parse()?)?;
        let counts = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        counts.iter().map(|name| Ok(status[*name].parse::<u64>()?)).sum()
    };
    // Guests that still boot have their QEMUs tell of it.
    let quiet = || -> Result<bool> {
        let before = woke()?;
        std::thread::sleep(Duration::from_secs(5));
        Ok(woke()? == before)
    };
    host.wait_for("five seconds in which glassboxd does not run", PATIENCE, || {
        quiet().is_ok_and(|quiet| quiet)
    })?;
    let status = host.process(pid.parse()?)?;
    eprintln!("glassboxd with three guests: VmRSS {}", status["VmRSS"]);
    Ok(())
}

/// The daemon's monitors and what QEMU says meanwhile outlive it.
fn nothing_is_lost_by_a_kill(host: &Host, path: &str) -> Result<()> {
    let processes = host.unit("qemu@db.service").processes()?;
    for round in 0..5 {
        let before = property_of(host, ROOT, MANAGER, "LastEvent")?;
        let [former] = host.unit("glassboxd.service").show(["MainPID"])?;
        host.sh(&format!("kill -KILL {former}"))?;
        // Over the monitor for everybody, while nobody reads the daemon's.
        host.qmp("db", if round % 2 == 0 { "stop" } else { "cont" })?;
        let state = if round % 2 == 0 { "paused" } else { "running" };
        host.wait_for("the next daemon to know the state", PATIENCE, || {
            property(host, path, "State").is_ok_and(|now| now == state)
        })?;
        let (gap, events) = events_since(host, before.as_u64().context("a number")?)?;
        ensure!(!gap, "what the former daemon knew is kept: {events:?}");
        let event = if round % 2 == 0 { "lifecycle suspended" } else { "lifecycle resumed" };
        ensure!(events.iter().any(|told| told == event), "{round}: {events:?}");
    }
    assert_eq!(host.unit("qemu@db.service").processes()?, processes);
    ends(host, &call(host, path, DOMAIN, "Resume", &[])?, "done")?;
    assert_eq!(property(host, path, "State")?, "running");
    Ok(())
}

fn timed<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let answer = call()?;
    let took = start.elapsed();
    eprintln!("{what}: {} ms, busctl's own start included", took.as_millis());
    ensure!(took < AT_ONCE, "{what} took {took:?}");
    Ok(answer)
}

/// Writes the daemon's signals to a file from now on.
pub(crate) fn follow_signals(host: &Host) -> Result<()> {
    let busctl = format!("busctl monitor --json=short --match=type=signal,sender={NAME}");
    let write = format!("--property=StandardOutput=file:{SIGNALS}");
    let words = ["systemd-run", "--quiet", "--unit=signals", &write];
    host.run(words.into_iter().chain(busctl.split(' ')))?.success()?;
    host.wait_for("busctl to follow", PATIENCE, || {
        let listed = host.sh("busctl list --no-legend | grep -c busctl");
        listed.is_ok_and(|count| count.stdout.trim() != "0")
    })
}

/// Forgets the signals so far, of a daemon whose numbers of jobs come again.
pub(crate) fn forget_signals(host: &Host) -> Result<()> {
    host.sh(&format!("truncate --size=0 {SIGNALS}")).map(drop)
}

/// Waits for the signal `JobRemoved` of a job with this result, and gives its line. Another daemon may have had a job of
/// that number before.
pub(crate) fn ends(host: &Host, job: &Value, result: &str) -> Result<String> {
    let (path, result) = (format!("\"{}\"", text(job)?), format!("\"{result}\""));
    let find = || {
        let signals = host.read(SIGNALS).unwrap_or_default();
        let told = |line: &&str| {
            line.contains("JobRemoved") && line.contains(&path) && line.contains(&result)
        };
        signals.lines().find(told).map(str::to_owned)
    };
    let what = format!("job {path} to be {result}");
    let mut found = None;
    host.wait_for(&what, PATIENCE, || {
        found = find();
        found.is_some()
    })
    .with_context(|| host.read(SIGNALS).unwrap_or_default())?;
    found.context(what)
}

/// Whether there is a gap, and kind and event of each event.
pub(crate) fn events_since(host: &Host, number: u64) -> Result<(bool, Vec<String>)> {
    let answer = call(host, ROOT, MANAGER, "EventsSince", &["t", &number.to_string()])?;
    let events = answer[1].as_array().context("events")?.iter();
    let word = |event: &Value, at: usize| event[at].as_str().unwrap_or_default().to_owned();
    let told = events.map(|event| format!("{} {}", word(event, 3), word(event, 4))).collect();
    Ok((answer[0] == true, told))
}

fn busctl<'w>(
    path: &'w str,
    interface: &'w str,
    method: &'w str,
    words: &[&'w str],
) -> Vec<&'w str> {
    let fixed = ["busctl", "--json=short", "call", NAME, path, interface, method];
    fixed.into_iter().chain(words.iter().copied()).collect()
}

pub(crate) fn call(
    host: &Host,
    path: &str,
    interface: &str,
    method: &str,
    words: &[&str],
) -> Result<Value> {
    data(host.run(busctl(path, interface, method, words))?)
}

pub(crate) fn as_user(
    host: &Host,
    user: &str,
    path: &str,
    interface: &str,
    method: &str,
    words: &[&str],
) -> Result<Output> {
    let words = busctl(path, interface, method, words);
    let who = [&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"];
    host.run(["setpriv"].into_iter().chain(who).chain(words))
}

pub(crate) fn property(host: &Host, path: &str, name: &str) -> Result<Value> {
    property_of(host, path, DOMAIN, name)
}

fn property_of(host: &Host, path: &str, interface: &str, name: &str) -> Result<Value> {
    data(host.run(["busctl", "--json=short", "get-property", NAME, path, interface, name])?)
}

/// What busctl printed, or an error with its words.
fn data(output: Output) -> Result<Value> {
    let said = output.success()?.stdout;
    let answer: Value = serde_json::from_str(&said).with_context(|| format!("{said:?}"))?;
    Ok(answer["data"].clone())
}

/// The first value of an answer, a text.
pub(crate) fn text(answer: &Value) -> Result<String> {
    Ok(answer[0].as_str().with_context(|| format!("no text in {answer}"))?.to_owned())
}
