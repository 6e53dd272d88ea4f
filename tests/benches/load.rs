//! The management daemon with 1,000 guests and more: its memory, its calls, how it rests, how it comes back, and what it
//! adds to the start of many guests at once. `cargo bench --package tests --bench load [-- ROUNDS]`; with 0 rounds it ends
//! after what is resident without a guest.
//!
//! 20 guests have a shim and a QEMU. 1,000 are stand-ins of `crowd`, one process that registers them and answers QMP for
//! each. The 200 that start at once have shims, and a stand-in for QEMU that runs no guest, so that what is compared is
//! not hidden by what QEMU takes.
// The table is this program's product.
#![allow(clippy::print_stdout)]

#[path = "../e2e/sector.rs"]
#[allow(dead_code)]
mod sector;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Host, Output, PATIENCE, Root, STAND_IN_FOLDER, Setup, definition, guest};

use crate::sector::Sector;

const STAGE: &str = "/run/stage";
const LIMIT: Duration = Duration::from_secs(900);

/// How many guests have a QEMU.
const REAL: usize = 20;

/// How many start at once.
const BURST: usize = 200;

/// The system bus lets 128 calls of a connection wait for their replies; what is measured here is the daemon.
const BUS: &str = "<busconfig><limit name='max_replies_per_connection'>2000</limit></busconfig>";

const STAND_IN: &str = include_str!("../e2e/stand-in-qemu.pl");

fn main() -> Result<()> {
    let rounds: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let host = Arc::new(Setup::new(Root::Trixie).product()?.boot()?);
    host.copy_in(Path::new(env!("CARGO_BIN_EXE_crowd")), "/srv/crowd")?;
    host.write_file("/etc/dbus-1/system-local.conf", BUS)?;
    let folders = format!("{STAGE} {}", guest::IMAGES);
    host.sh(&format!("systemctl reload dbus; mkdir -p {folders}; systemctl start glassboxd"))?;
    load_average()?;
    let empty = resident(&host)?;
    println!("without guests: {empty} KiB (at most 4096)");
    for count in [100, 1000] {
        println!("{count} guests are defined and do not run: {} KiB", defined(&host, count)?);
    }
    if rounds == 0 {
        return Ok(());
    }

    let names: Vec<String> = (0..REAL).map(|number| format!("real-{number}")).collect();
    for name in &names {
        sector::define(&host, name, Sector::Idles, guest::IMAGES)?;
    }
    host.reload()?;
    for name in &names {
        host.start_guest(name)?;
    }
    comes_back(&host, 80, rounds)?;
    many(&host)?;
    for name in &names {
        host.systemctl(["kill", "--signal=QUIT", &format!("qemu@{name}.service")])?.success()?;
    }
    at_once(&host, rounds)
}

/// The memory of a daemon that was started when so many guests were defined; they are gone afterwards.
fn defined(host: &Host, count: usize) -> Result<u64> {
    let directory = definition::DEFINITIONS;
    let script = format!(
        "for number in $(seq {count}); do
             echo \"<domain type='qemu'><name>defined-$number</name><memory unit='MiB'>16</memory>\
                   <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>\" > {directory}/defined-$number.xml
         done
         systemctl restart glassboxd"
    );
    host.sh(&script)?;
    let size = resident(host)?;
    host.sh(&format!("rm {directory}/defined-*.xml; systemctl restart glassboxd"))?;
    Ok(size)
}

/// How long a killed daemon takes to serve again, with so many stand-ins beside the real guests.
fn comes_back(host: &Arc<Host>, stand_ins: usize, rounds: usize) -> Result<()> {
    let crowd = Crowd::start(host, stand_ins)?;
    let mut took = Vec::new();
    for _ in 0..rounds {
        let [former] = daemon(host).show(["MainPID"])?;
        host.sh(&format!("kill -KILL {former}"))?;
        host.wait_for("the next daemon", PATIENCE, || {
            let now = daemon(host).show(["ActiveState", "MainPID"]);
            now.is_ok_and(|[state, pid]| state == "active" && pid != former && pid != "0")
        })?;
        let keys = ["ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"];
        let [began, ready] = daemon(host).show(keys)?;
        took.push((ready.parse::<f64>()? - began.parse::<f64>()?) / 1e3);
        is_listed(host, stand_ins + REAL)?;
    }
    println!(
        "{} guests taken over by the next daemon, from its start until it serves: {:.0} ms, median of {rounds} (at most 500)",
        stand_ins + REAL,
        median(&mut took)
    );
    crowd.end(host)
}

/// Memory, calls and rest with 1,000 stand-ins.
fn many(host: &Arc<Host>) -> Result<()> {
    let crowd = Crowd::start(host, 1000)?;
    let guests = 1000 + REAL;
    is_listed(host, guests)?;
    load_average()?;
    let calls = host.command(["/srv/crowd", "figures"]).limit(LIMIT).output()?.success()?;
    print!("{guests} guests\n{}", calls.stdout);
    let size = resident(host)?;
    let most = 4096 + 20 * u64::try_from(guests)?;
    println!("resident: {size} KiB (at most {most}: 4 MiB and 20 KiB a guest)");
    let [pid] = daemon(host).show(["MainPID"])?;
    let fds =
        host.sh(&format!("ls /proc/{pid}/fd | wc -l; grep 'open files' /proc/{pid}/limits"))?;
    println!("file descriptors: {}", fds.stdout.trim().replace('\n', "; "));
    // What was asked last is answered.
    std::thread::sleep(Duration::from_secs(3));
    let before = busy(host, &pid)?;
    std::thread::sleep(Duration::from_secs(10));
    let after = busy(host, &pid)?;
    println!(
        "idle for 10 s: {} ticks of processor time, {} switches",
        after.0 - before.0,
        after.1 - before.1
    );
    crowd.end(host)
}

/// Starts many guests at once, with and without a daemon, in turns.
fn at_once(host: &Arc<Host>, rounds: usize) -> Result<()> {
    host.write("/usr/local/bin/stand-in-qemu", STAND_IN, "0755", "root:root")?;
    let drop_in = format!("[Service]\nBindPaths={STAND_IN_FOLDER}\n");
    host.write_file("/etc/systemd/system/qemu@.service.d/stand-in.conf", drop_in)?;
    let folder = STAND_IN_FOLDER;
    host.sh(&format!(
        "install -d -m 0777 {folder}; touch {folder}/go {folder}/commands; chmod 0666 {folder}/commands"
    ))?;
    let mut units = Vec::new();
    for number in 0..BURST {
        let name = format!("burst-{number}");
        sector::define(host, &name, Sector::Idles, guest::IMAGES)?;
        let file = format!("{}/{name}.xml", definition::DEFINITIONS);
        let xml = host
            .read(&file)?
            .replace("/usr/bin/qemu-system-x86_64", "/usr/local/bin/stand-in-qemu");
        host.write_file(&file, xml)?;
        units.push(format!("qemu@{name}.service"));
    }
    host.reload()?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for (daemon, times) in [("start", &mut with), ("stop", &mut without)] {
            host.systemctl([daemon, "glassboxd.socket", "glassboxd.service"])?.success()?;
            let took = start_all(host, &units)?;
            // The first round fills caches.
            if round > 0 {
                times.push(took);
            }
        }
    }
    load_average()?;
    let (with, without) = (median(&mut with), median(&mut without));
    println!(
        "{BURST} guests started at once: {without:.0} ms without a daemon, {with:.0} ms with it, ratio {:.3} (at most 1.1), \
         medians of {rounds} in turns",
        with / without
    );
    Ok(())
}

/// Milliseconds until all units have started; they are stopped again.
fn start_all(host: &Host, units: &[String]) -> Result<f64> {
    let script = "began=$(date +%s%N); systemctl start \"$@\"; ended=$(date +%s%N); echo $(((ended - began) / 1000)); \
                  systemctl stop \"$@\"";
    let words =
        ["/bin/sh", "-euc", script, "sh"].into_iter().chain(units.iter().map(String::as_str));
    let output = host.command(words).limit(LIMIT).output()?.success()?;
    Ok(output.stdout.trim().parse::<f64>()? / 1e3)
}

/// A crowd of stand-in guests that tell of nothing.
struct Crowd(JoinHandle<Result<Output>>);

impl Crowd {
    fn start(host: &Arc<Host>, count: usize) -> Result<Self> {
        host.sh(&format!("rm -f {STAGE}/*"))?;
        let command =
            host.command(["/srv/crowd", "guests", STAGE, &count.to_string(), "0"]).limit(LIMIT);
        let thread = std::thread::spawn(move || command.output());
        let ready = format!("{STAGE}/ready");
        host.wait_for("the crowd", PATIENCE, || host.exists(&ready).is_ok_and(|exists| exists))?;
        Ok(Self(thread))
    }

    fn end(self, host: &Host) -> Result<()> {
        host.sh(&format!("touch {STAGE}/quiet {STAGE}/end"))?;
        let output = self.0.join().ok().context("the crowd's thread panicked")??.success()?;
        ensure!(output.stdout.contains("\n0 lifelines were closed"), "{}", output.stdout);
        is_listed(host, REAL)
    }
}

/// Waits until so many guests are listed.
fn is_listed(host: &Host, count: usize) -> Result<()> {
    let script = "busctl call org.glassbox.Glassbox1 /org/glassbox/Glassbox1 org.glassbox.Glassbox1.Manager \
                  ListDomains | cut -d ' ' -f 2";
    host.wait_for(&format!("{count} guests"), PATIENCE, || {
        host.sh(script).is_ok_and(|listed| listed.stdout.trim() == count.to_string())
    })
}

fn daemon(host: &Host) -> tests::Unit<'_> {
    host.unit("glassboxd.service")
}

/// The daemon's resident memory, in KiB.
fn resident(host: &Host) -> Result<u64> {
    let [pid] = daemon(host).show(["MainPID"])?;
    let size = host.process(pid.parse()?)?["VmRSS"].clone();
    Ok(size.trim_end_matches(" kB").trim().parse()?)
}

/// Ticks of processor time, and how often a process was switched to.
fn busy(host: &Host, pid: &str) -> Result<(u64, u64)> {
    let stat = host.read(&format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').context("a name")?.1;
    // utime and stime, fields 14 and 15 (proc_pid_stat(5)).
    let ticks =
        rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    let status = host.process(pid.parse()?)?;
    let switches = status["voluntary_ctxt_switches"].parse::<u64>()?;
    Ok((ticks, switches))
}

fn load_average() -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("load average: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
