//! Guests that are stopped, by systemctl and by machinectl.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use tests::{Definition, Host, Root, Unit, guest};

tests::on_each_root!(
    a_guest_that_ignores_acpi_is_quit_with_its_disk_flushed,
    machinectl_reboots_powers_off_and_terminates,
);

fn a_guest_that_ignores_acpi_is_quit_with_its_disk_flushed(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    // It writes to its disk and reboots, which on_reboot makes a reset of the same QEMU.
    let deaf = Definition::new("deaf")?.word("glassbox.ignore-acpi")?.word("glassbox.reboot")?;
    deaf.install(&host)?;
    let short = "[Service]\nTimeoutStopSec=15s\n";
    host.write_file("/etc/systemd/system/qemu@deaf.service.d/short.conf", short)?;
    host.reload()?;
    let unit = host.start_guest("deaf")?;
    let processes = unit.processes()?;
    host.wait_for_console("deaf", "GLASSBOX-GUEST-REBOOTED", 1)?;
    assert_eq!(unit.processes()?, processes, "a reboot keeps QEMU");

    let started = Instant::now();
    host.systemctl(["stop", "qemu@deaf"])?.success()?;
    let seconds = started.elapsed().as_secs_f64();
    assert!((11.0..15.0).contains(&seconds), "the guest had its time, systemd none: {seconds} s");
    // The exit status is glassbox-qemu(1)'s for this; a kill by systemd would be `timeout` or `signal`.
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), 9));
    let journal = unit.journal()?;
    let said = |line: &str| journal.lines().any(|said| said == line);
    assert!(
        said("the guest did not power down in time; quitting QEMU, disks flushed"),
        "{journal}"
    );
    assert!(!journal.contains("Killing process"), "systemd killed:\n{journal}");
    assert!(!host.console("deaf").contains(guest::POWERDOWN));
    disk_is_clean(&host, deaf.disk())
}

/// The image is consistent, and has what the guest wrote to its first sector.
fn disk_is_clean(host: &Host, disk: &str) -> Result<()> {
    let script = "qemu-img check -q \"$1\"
        qemu-img dd -f qcow2 -O raw bs=512 count=1 if=\"$1\" of=/tmp/sector
        head -c 8 /tmp/sector";
    let sector = host.run(["/bin/sh", "-euc", script, "sh", disk])?.success()?.stdout;
    assert_eq!(sector, "REBOOTED");
    Ok(())
}

fn machinectl_reboots_powers_off_and_terminates(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for name in ["one", "two"] {
        Definition::new(name)?.install(&host)?;
    }
    host.reload()?;
    let (one, two) = (host.start_guest("one")?, host.start_guest("two")?);
    let names: BTreeSet<String> = host.machines()?.into_iter().map(|[name, ..]| name).collect();
    assert_eq!(names, BTreeSet::from(["one", "two"].map(str::to_owned)));
    host.wait_for_console("one", guest::READY, 1)?;
    host.wait_for_console("two", guest::READY, 1)?;

    let processes = one.processes()?;
    host.run(["machinectl", "reboot", "one"])?.success()?;
    host.run(["machinectl", "terminate", "two"])?.success()?;
    ends_by_its_power_button(&host, &two, "two")?;
    host.wait_for_console("one", guest::READY, 2)?;
    assert_eq!((one.state()?, one.processes()?), ("active".to_owned(), processes));

    host.run(["machinectl", "poweroff", "one"])?.success()?;
    ends_by_its_power_button(&host, &one, "one")?;
    host.wait_for_no_machine()
}

fn ends_by_its_power_button(host: &Host, unit: &Unit<'_>, name: &str) -> Result<()> {
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0), "{}", unit.name());
    let console = host.console(name);
    assert_eq!(console.matches(guest::POWERDOWN).count(), 1, "{console}");
    Ok(())
}
