//! The management daemon with many guests: killed again and again, beside a QEMU that hangs, and with a client that
//! follows and never reads.
//!
//! Where it is killed all guests are real ones, with their shims and QEMUs. Where one hangs most are stand-ins of `crowd`,
//! one process without a QEMU that registers guests and answers QMP for each.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Host, Output, PATIENCE, Root, Unit, guest};

use crate::sector::{self, Sector};

tests::on_root!(
    trixie,
    Trixie,
    nothing_is_lost_though_the_daemon_is_killed_a_hundred_times,
    who_hangs_costs_the_others_nothing,
);

/// Where the crowds and this test tell each other how far they are.
const STAGE: &str = "/run/stage";

/// The system bus lets 128 calls of a connection wait for their replies; what is tried here is the daemon.
const BUS: &str = "<busconfig><limit name='max_replies_per_connection'>2000</limit></busconfig>";

/// How long a crowd may take.
const LIMIT: Duration = Duration::from_secs(240);

/// How many guests run while the daemon is killed.
const GUESTS: usize = 20;

/// The real ones beside one that hangs.
const FEW: [&str; 4] = ["web", "db", "mail", "build"];

/// Kills the daemon so often, each time when the next one serves. State and process are asked for at once, or the one
/// would be of the daemon that was killed and the other none.
const KILLS: &str = "
    serving() { systemctl show --property=ActiveState,MainPID glassboxd | sort | tr '\\n' ' '; }
    former=
    for turn in $(seq 100); do
        until now=$(serving) && [ \"${now#ActiveState=active MainPID=}\" != \"$now\" ] &&
            [ \"$now\" != \"$former\" ]; do sleep 0.02; done
        kill -KILL ${now#ActiveState=active MainPID=}
        former=$now
    done";

fn nothing_is_lost_though_the_daemon_is_killed_a_hundred_times(root: Root) -> Result<()> {
    let host = Arc::new(boot(root)?);
    let names: Vec<String> = (0..GUESTS).map(|number| format!("guest-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let guests = start_real(&host, &names)?;
    let processes: Vec<_> = guests.iter().map(Unit::processes).collect::<Result<_>>()?;
    let crowd = crowd(&host, &[&["real", STAGE, "200"], &names[..]].concat());
    stage(&host, "ready")?;
    let clients = self::crowd(&host, &["clients", STAGE, "4"]);
    stage(&host, "followed")?;
    host.command(["/bin/sh", "-euc", KILLS]).limit(LIMIT).output()?.success()?;
    host.sh(&format!("touch {STAGE}/quiet"))?;
    let report = ended(clients)?;
    eprint!("{report}");
    assert_eq!(report.lines().count(), 4, "each client missed nothing: {report}");

    let [restarts] = daemon(&host).show(["NRestarts"])?;
    ensure!(restarts.parse::<u32>()? >= 100, "{restarts} restarts");
    for (unit, former) in guests.iter().zip(&processes) {
        assert_eq!(&unit.processes()?, former, "{}", unit.name());
        let again = host.run(["glassbox-qemu", "--register=required", &definition(unit)])?;
        ensure!(again.stderr.contains("is held by pid"), "its name is claimed: {}", again.stderr);
    }
    let listed = host
        .sh("busctl --json=short call org.glassbox.Glassbox1 /org/glassbox/Glassbox1 \
                          org.glassbox.Glassbox1.Manager ListDomains")?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    let rows = listed["data"][0].as_array().context("rows")?;
    let mut listed: Vec<_> = rows.iter().filter_map(|row| row[0].as_str()).collect();
    listed.dedup();
    assert_eq!(listed.len(), GUESTS, "no claim is lost or doubled: {listed:?}");
    the_store_has_all(&host, GUESTS)?;
    ended(crowd).map(drop)
}

/// Lifelines, monitors, and what else is kept of so many guests, and the events.
fn the_store_has_all(host: &Host, guests: usize) -> Result<()> {
    let stored = host.run(["systemd-analyze", "fdstore", "glassboxd.service"])?.success()?.stdout;
    for part in ["record", "leader", "lifeline", "monitor"] {
        let named = |line: &&str| line.starts_with("claim-") && line.contains(&format!("-{part} "));
        let count = stored.lines().filter(named).count();
        ensure!(count == guests, "{count} of {part}: {stored}");
    }
    ensure!(stored.lines().filter(|line| line.starts_with("events ")).count() == 1, "{stored}");
    Ok(())
}

fn who_hangs_costs_the_others_nothing(root: Root) -> Result<()> {
    let host = Arc::new(boot(root)?);
    let guests = start_real(&host, &FEW)?;
    let crowd = crowd(&host, &["guests", STAGE, "46", "2000"]);
    stage(&host, "ready")?;
    let before = resident(&host)?;
    let healthy = host.run(["/srv/crowd", "figures"])?.success()?.stdout;
    eprintln!("all guests answer:\n{healthy}");
    let (_, qemu) = guests[0].processes()?;
    host.sh(&format!("kill -STOP {qemu}"))?;
    host.wait_for("QEMU to count as not responding", PATIENCE, || {
        let asked = host.run(["/srv/crowd", "figures", "web"]);
        asked.is_ok_and(|asked| asked.stdout.contains("responding false"))
    })?;
    let hung = host.run(["/srv/crowd", "figures", "web"])?.success()?.stdout;
    eprintln!("the QEMU of 'web' is stopped:\n{hung}");
    let web = hung.lines().find(|line| line.starts_with("web: ")).context("it is left out")?;
    let age = web.split_once("age ").context("an age")?.1.trim_end_matches(" us");
    let age: u64 = age.parse()?;
    ensure!(age > 2_000_000, "what is known of it is old: {web}");
    host.sh(&format!("kill -CONT {qemu}"))?;

    // One client follows and never reads, another one reads and misses nothing.
    host.sh("systemd-run --quiet --unit=stuck /srv/crowd follow")?;
    let [stuck] = host.unit("stuck.service").show(["MainPID"])?;
    host.wait_for("it to follow", PATIENCE, || {
        host.sh("busctl list --no-legend | grep -q crowd").is_ok()
    })?;
    host.sh(&format!("sleep 1; kill -STOP {stuck}"))?;
    let clients = self::crowd(&host, &["clients", STAGE, "1"]);
    stage(&host, "followed")?;
    let early = resident(&host)?;
    std::thread::sleep(Duration::from_secs(15));
    let late = resident(&host)?;
    host.sh(&format!("touch {STAGE}/quiet"))?;
    let report = ended(clients)?;
    eprint!("{report}");
    eprintln!(
        "glassboxd: {before} KiB with 50 guests, {early} KiB with a client that is stuck, \
         {late} KiB after 15 s and 30,000 events"
    );
    ensure!(late < early + 1024, "it grows with what a client does not read: {early}, {late} KiB");
    assert_eq!(report.lines().count(), 1, "{report}");
    host.sh(&format!("kill -KILL {stuck}; touch {STAGE}/end"))?;
    ended(crowd).map(drop)
}

fn boot(root: Root) -> Result<Host> {
    let host = Host::boot(root)?;
    host.copy_in(Path::new(env!("CARGO_BIN_EXE_crowd")), "/srv/crowd")?;
    host.write_file("/etc/dbus-1/system-local.conf", BUS)?;
    host.sh(&format!("systemctl reload dbus; mkdir -p {STAGE}; systemctl start glassboxd"))?;
    Ok(host)
}

/// Guests with a shim and a QEMU, which do nothing.
fn start_real<'h>(host: &'h Host, names: &[&str]) -> Result<Vec<Unit<'h>>> {
    for name in names {
        sector::define(host, name, Sector::Idles, guest::IMAGES)?;
    }
    host.reload()?;
    names.iter().map(|name| host.start_guest(name)).collect()
}

fn definition(unit: &Unit<'_>) -> String {
    let name = unit.name().trim_start_matches("qemu@").trim_end_matches(".service");
    format!("{}/{name}.xml", tests::definition::DEFINITIONS)
}

type Crowd = JoinHandle<Result<Output>>;

/// Starts a crowd, which runs outside of all units, so that machined takes none of its guests for a machine.
fn crowd(host: &Arc<Host>, words: &[&str]) -> Crowd {
    let command = host.command(["/srv/crowd"].iter().chain(words)).limit(LIMIT);
    std::thread::spawn(move || command.output())
}

fn ended(crowd: Crowd) -> Result<String> {
    let output = crowd.join().ok().context("the crowd's thread panicked")??;
    Ok(output.success()?.stdout)
}

fn stage(host: &Host, name: &str) -> Result<()> {
    let path = format!("{STAGE}/{name}");
    host.wait_for(&path, PATIENCE, || host.exists(&path).is_ok_and(|exists| exists))
}

fn daemon(host: &Host) -> Unit<'_> {
    host.unit("glassboxd.service")
}

/// The daemon's resident memory, in KiB.
fn resident(host: &Host) -> Result<u64> {
    let [pid] = daemon(host).show(["MainPID"])?;
    let size = host.process(pid.parse()?)?["VmRSS"].clone();
    Ok(size.trim_end_matches(" kB").trim().parse()?)
}
