//! The host shuts down and boots again with guests that run: what its journal tells of the order.

use anyhow::{Context, Result};
use tests::{Host, Root, definition, guest};

use crate::sector::{self, Sector};

tests::on_root!(trixie, Trixie, guests_stop_side_by_side_and_before_what_they_need);

/// Guests and where their disks are: one obeys its power button at once, one after four seconds, one never.
const GUESTS: [(&str, Sector, &str); 3] = [
    ("quick", Sector::ObeysButton, "/srv/pool"),
    // A symbolic link to /srv/share.
    ("late", Sector::ObeysLate, "/srv/link"),
    ("deaf", Sector::Idles, guest::IMAGES),
];

/// A mount for disks, and one that systemd takes for a server's because of `_netdev`, systemd.mount(5).
const MOUNTS: &str =
    "/var/lib/pool /srv/pool none bind 0 0\n/var/lib/share /srv/share none bind,_netdev 0 0\n";

/// Brings up a network, as its units do by systemd.special(7), "network.target".
const UPLINK: &str = "[Unit]\nWants=network.target\nBefore=network.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\nExecStop=/usr/bin/true\n\
    [Install]\nWantedBy=multi-user.target\n";

fn guests_stop_side_by_side_and_before_what_they_need(root: Root) -> Result<()> {
    let mut host = Host::boot(root)?;
    install(&host)?;
    host.reboot()?;
    are_up(&host)?;
    let [after, wants] = host.unit("qemu@quick.service").show(["After", "Wants"])?;
    assert!(!format!("{after} {wants}").contains("network-online"), "{after} {wants}");
    // The daemon keeps the bus below; where it does not run, this does.
    assert!(after.split(' ').any(|unit| unit == "dbus.service"), "{after}");
    host.reboot()?;
    are_up(&host)?;
    let words = ["journalctl", "--boot=-1", "--no-pager", "--output=short-monotonic"];
    let journal = Journal(host.run(words)?.success()?.stdout);
    stopped_side_by_side(&journal)?;
    for (guest, needs) in [
        ("quick", "Unmounting srv-pool.mount"),
        ("late", "Unmounting srv-share.mount"),
        ("deaf", "Stopping uplink.service"),
        ("deaf", "Stopping glassboxd.service"),
        ("deaf", "Stopping dbus.service"),
    ] {
        let stopped = journal.at(&format!("Stopped qemu@{guest}.service"))?;
        assert!(stopped < journal.at(needs)?, "{guest} before {needs}:\n{}", journal.0);
    }
    Ok(())
}

fn install(host: &Host) -> Result<()> {
    host.write_file("/etc/fstab", MOUNTS)?;
    host.write_file("/etc/systemd/system/uplink.service", UPLINK)?;
    host.sh("mkdir -p /var/lib/pool /var/lib/share /etc/glassbox/qemu/autostart
        ln -s share /srv/link
        systemctl daemon-reload
        systemctl enable uplink.service
        systemctl start srv-pool.mount srv-share.mount")?;
    for (name, sector, directory) in GUESTS {
        sector::define(host, name, sector, directory)?;
        let link = format!("{}/autostart/{name}.xml", definition::DEFINITIONS);
        host.run(["ln", "-s", &format!("../{name}.xml"), &link])?.success()?;
    }
    let short = "[Service]\nTimeoutStopSec=10s\n";
    host.write_file("/etc/systemd/system/qemu@deaf.service.d/short.conf", short)
}

/// All guests run, and those that hear of their power button listen to it.
fn are_up(host: &Host) -> Result<()> {
    for (name, sector, _) in GUESTS {
        host.unit(&format!("qemu@{name}.service")).wait("active")?;
        let said = if sector == Sector::Idles { "R" } else { "RB" };
        host.wait_for_console(name, said, 1)?;
    }
    Ok(())
}

/// Each guest had its own time, all began at once, and systemd had nobody to kill.
fn stopped_side_by_side(journal: &Journal) -> Result<()> {
    let mut times = Vec::new();
    for (name, shortest, longest, last_words) in [
        ("quick", 0.0, 3.0, "the guest is shut down"),
        ("late", 3.0, 7.0, "the guest is shut down"),
        ("deaf", 8.0, 10.0, "the guest did not power down in time; quitting QEMU, disks flushed"),
    ] {
        let began = journal.at(&format!("Stopping qemu@{name}.service"))?;
        let ended = journal.at(&format!("Stopped qemu@{name}.service"))?;
        let took = ended - began;
        assert!((shortest..longest).contains(&took), "{name}: {took} s\n{}", journal.0);
        assert!(journal.0.contains(last_words), "{last_words}:\n{}", journal.0);
        times.push((began, ended));
    }
    let last_to_begin = times.iter().map(|(began, _)| *began).fold(f64::MIN, f64::max);
    let first_to_end = times.iter().map(|(_, ended)| *ended).fold(f64::MAX, f64::min);
    assert!(last_to_begin < first_to_end, "{times:?}");
    for unwanted in ["with signal SIGKILL", "the management daemon is gone"] {
        assert!(!journal.0.contains(unwanted), "{unwanted}:\n{}", journal.0);
    }
    Ok(())
}

/// The journal of one boot, as journalctl(1) prints it with `--output=short-monotonic`.
struct Journal(String);

impl Journal {
    /// When systemd logged a message that begins so, in seconds.
    fn at(&self, message: &str) -> Result<f64> {
        let systemd = format!(" systemd[1]: {message}");
        let line = self.0.lines().find(|line| line.contains(&systemd));
        let line = line.with_context(|| format!("no {message} in\n{}", self.0))?;
        let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        Ok(time.trim().parse()?)
    }
}
