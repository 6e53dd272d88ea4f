//! What `systemctl stop` costs beyond QEMU's own exit: from the moment QEMU's process is gone until `systemctl`
//! returns, on a real systemd. The guest's unit is stopped by SIGQUIT, on which the shim quits QEMU at once, so
//! that no guest's shutdown is measured. `cargo bench --package tests --bench stop [-- ROUNDS]`.
// The table is this program's product.
#![allow(clippy::print_stdout)]

use std::fs;
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tests::{Host, Root, Setup};

const DROP_IN: &str = "[Service]\nKillSignal=SIGQUIT\n";

fn main() -> Result<()> {
    let rounds: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10);
    let host = Setup::new(Root::Trixie).product()?.boot()?;
    host.write_file("/var/lib/glassbox/images/bench.img", boot_sector())?;
    host.run(["chown", "-R", "glassbox-qemu:", "/var/lib/glassbox/images"])?.success()?;
    let xml = include_str!("../../shim/benches/guest.xml");
    host.write_file(
        "/etc/glassbox/qemu/bench.xml",
        xml.replace("@image@", "/var/lib/glassbox/images/bench.img"),
    )?;
    host.write_file("/etc/systemd/system/qemu@bench.service.d/quit.conf", DROP_IN)?;
    host.run(["systemctl", "daemon-reload"])?.success()?;

    let mut stops = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..rounds {
        stops.push(stop_once(&host)?);
        // What entering the container and a systemctl that has nothing to do cost: the floor of the figure.
        let began = Instant::now();
        host.run(["systemctl", "stop", "qemu@bench.service"])?.success()?;
        idle.push(began.elapsed().as_secs_f64() * 1e3);
    }
    println!("systemctl stop, from QEMU's exit to its return, median of {rounds}");
    println!("  stop of a running guest    {:6.1} ms", median(&mut stops));
    println!("  stop of a stopped guest    {:6.1} ms (the whole command)", median(&mut idle));
    Ok(())
}

/// Milliseconds from QEMU's exit until `systemctl stop` has returned.
fn stop_once(host: &Host) -> Result<f64> {
    host.run(["systemctl", "start", "qemu@bench.service"])?.success()?;
    let qemu = pidfd_open(qemu_process(host)?, PidfdFlags::empty())?;
    let watcher = std::thread::spawn(move || {
        let mut polled = [PollFd::new(qemu.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::NONE).map(|_| Instant::now())
    });
    host.run(["systemctl", "stop", "qemu@bench.service"])?.success()?;
    let returned = Instant::now();
    let ended = watcher.join().ok().context("the watcher panicked")??;
    Ok(returned.saturating_duration_since(ended).as_secs_f64() * 1e3)
}

/// QEMU's process id on this machine: the one whose cgroup is the unit's and whose name is QEMU's.
fn qemu_process(host: &Host) -> Result<Pid> {
    let unit = host
        .run(["systemctl", "show", "--value", "-p", "ControlGroup", "qemu@bench.service"])?
        .success()?;
    let unit = unit.stdout.trim().to_owned();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("comm").starts_with("qemu-system") && read("cgroup").contains(&unit) {
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .context("a process has a number")?;
            return Pid::from_raw(number.parse()?).context("a process has a number");
        }
    }
    anyhow::bail!("no QEMU runs in {unit}")
}

/// A disk whose first sector halts the CPU for ever.
fn boot_sector() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..3].copy_from_slice(&[0xf4, 0xeb, 0xfd]); // hlt; jmp -3
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
