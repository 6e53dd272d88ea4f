//! What comes to a guest while it runs is put to use by the guest's kernel, and goes again.

use anyhow::{Context, Result, ensure};
use tests::{Host, PATIENCE, Root, guest};

use crate::lan;
use crate::reload::{HAS, PRIVATE, become_, boot, live, open_files, started, wait_for};
use crate::reload_killed::state;
use crate::sector::{self, Sector};

tests::on_root!(bookworm, Bookworm, what_comes_the_guest_uses_and_lets_go);
tests::on_root!(
    trixie,
    Trixie,
    what_comes_the_guest_uses_and_lets_go,
    a_block_device_comes_to_a_closed_unit,
);
tests::on_root!(forky, Forky, what_comes_the_guest_uses_and_lets_go);

/// The KiB of memory that the guest's kernel counts.
fn meminfo(host: &Host) -> Result<u64> {
    let console = host.console("web");
    let last =
        console.lines().rev().find_map(|line| line.split_once(HAS)).context("no inventory")?;
    let word = last.1.split_whitespace().find_map(|word| word.strip_prefix("meminfo:"));
    Ok(word.context("no meminfo")?.parse()?)
}

fn what_comes_the_guest_uses_and_lets_go(root: Root) -> Result<()> {
    let host = boot(root)?;
    lan::start(&host, &[], &[])?;
    let (web, unit) = started(&host)?;
    wait_for(&host, &["vda:", "eth0", "cpus:1", "memory:256", "rngs:1"], &[])?;
    let (before, had) = (live(&host)?, meminfo(&host)?);
    let bare = state(&host, &unit)?;

    let disk = |target: &str, bus: &str, file: &str| {
        format!(
            "<disk type=\"file\" device=\"disk\"><driver name=\"qemu\" type=\"raw\"/>\
             <source file=\"{PRIVATE}/{file}\"/><target dev=\"{target}\" bus=\"{bus}\"/></disk>\n    "
        )
    };
    let devices = format!(
        "{}<controller type=\"scsi\" index=\"0\" model=\"virtio-scsi\"/>\n    {}\
         <interface type=\"bridge\"><mac address=\"52:54:00:00:00:77\"/><source bridge=\"br0\"/><model type=\"virtio\"/></interface>\n    \
         <memory model=\"dimm\"><target><size unit=\"MiB\">128</size><node>0</node></target></memory>\n    \
         <rng model=\"virtio\"><backend model=\"random\">/dev/random</backend></rng>\n    \
         <input type=\"mouse\" bus=\"usb\"/>\n    <input type=\"keyboard\" bus=\"virtio\"/>\n    {}\
         <controller type=\"usb\"",
        disk("vdb", "virtio", "data"),
        disk("sdb", "scsi", "more"),
        disk("sdc", "usb", "two.iso"),
    );
    let more = web
        .clone()
        .replace("<controller type=\"usb\"", &devices)?
        .replace("current=\"1\">4", "current=\"3\">4")?;
    become_(&host, &more)?.success()?;
    let parts = ["vdb:data-", "sda:more-", "eth1", "cpus:3", "memory:384", "rngs:2"];
    wait_for(&host, &parts, &[])?;
    assert_eq!(meminfo(&host)?, had + (128 << 10), "the kernel counts the module");
    assert_eq!(open_files(&host, &unit)?, ["data", "more", "one.iso", "two.iso"]);
    // For these its kernel has no drivers.
    let qemu = state(&host, &unit)?;
    for device in ["child<usb-mouse>", "child<virtio-keyboard-pci>", "child<usb-storage>"] {
        ensure!(qemu.contains(device), "{device} is not in {qemu}");
    }

    become_(&host, &web)?.success()?;
    let parts = ["vda:", "eth0", "cpus:1", "memory:256", "rngs:1"];
    wait_for(&host, &parts, &["vdb:data-", "sda:more-", "eth1"])?;
    assert_eq!(meminfo(&host)?, had);
    assert_eq!(live(&host)?, before);
    assert_eq!(state(&host, &unit)?, bare, "nothing is left in QEMU");
    Ok(())
}

/// A guest whose disk on a loop device comes with its definition, and cannot be opened before systemd has read that.
fn a_block_device_comes_to_a_closed_unit(_: Root) -> Result<()> {
    let vm = Host::restore()?;
    sector::define(&vm, "web", Sector::Idles, guest::IMAGES)?;
    let file = format!("{}/web.xml", tests::definition::DEFINITIONS);
    let scsi = "<controller type='scsi' index='0' model='virtio-scsi'/></devices>";
    let bare = vm.read(&file)?.replace("</devices>", scsi);
    vm.write_file(&file, bare.as_str())?;
    vm.reload()?;
    let unit = vm.unit("qemu@web.service");
    vm.command(["systemctl", "start", unit.name()]).limit(PATIENCE * 2).output()?.success()?;
    let made = vm.sh("truncate -s 1M /root/raw; losetup --find --show /root/raw")?;
    let block = made.stdout.trim();
    let disk = format!(
        "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{block}'/>\
         <target dev='sdc' bus='scsi'/></disk></devices>"
    );
    vm.write_file(&file, bare.replace("</devices>", &disk))?;
    let reload = || vm.command(["systemctl", "reload", unit.name()]).limit(PATIENCE * 2).output();
    let open = || -> Result<bool> {
        let files = vm.sh(&format!("readlink /proc/{}/fd/*", unit.processes()?.1))?.stdout;
        Ok(files.lines().any(|file| file == block))
    };

    assert_eq!(reload()?.status, 1);
    let told = unit.messages()?.pop().context("the failure is told")?;
    let words =
        format!("'{block}' is not among the devices of the unit; run `systemctl daemon-reload`");
    ensure!(told.contains(&words), "{told}");
    ensure!(!open()?, "it is not open");

    vm.reload()?;
    reload()?.success().with_context(|| unit.status().unwrap_or_default())?;
    ensure!(open()?, "it is open");
    assert_eq!(unit.show(["DevicePolicy"])?, ["closed"]);
    // QEMU has the file, and no capability.
    let (_, qemu) = unit.processes()?;
    assert_eq!(vm.process(qemu)?["CapEff"], "0000000000000000");

    vm.write_file(&file, bare.as_str())?;
    vm.reload()?;
    reload()?.success().with_context(|| unit.status().unwrap_or_default())?;
    ensure!(!open()?, "it is open still");
    vm.run(["losetup", "--detach", block])?.success().map(|_| ())
}
