//! Devices of the host that a guest takes from within its sandbox: they are its account's meanwhile, and nobody's
//! else, and are given back however it ends.

use std::time::Duration;

use anyhow::Result;
use tests::{Host, PATIENCE, Root, definition, guest};

use crate::sector::{self, Sector};

tests::on_root!(trixie, Trixie, a_guest_has_devices_of_the_host);

/// Loads what udev would, and opens the file that stands for all groups of VFIO to everybody, as its rules do. The PCI
/// device is the host's own network device, and vfio-pci is not there yet.
const LOAD: &str = "
for module in vhost_net vhost_vsock vsock_loopback tun e1000e xhci_pci; do modprobe $module; done
chmod 0666 /dev/vfio/vfio
until [ -e /dev/bus/usb/001/004 ]; do sleep 0.1; done";

/// Guests with what they have beside a disk, and the files that their QEMUs have open then.
const GUESTS: [(&str, &str, &[&str]); 4] = [
    (
        "network",
        "<interface type='ethernet'><target dev='gtap'/><model type='virtio'/></interface>",
        &["/dev/net/tun", "/dev/vhost-net"],
    ),
    ("socket", "<vsock><cid auto='yes'/></vsock>", &["/dev/vhost-vsock"]),
    (
        "pci",
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>
           <address domain='0' bus='0' slot='0x10' function='0'/></source></hostdev>",
        &["/dev/vfio/5", "/dev/vfio/vfio", "anon_inode:[vfio-device]"],
    ),
    (
        "usb",
        "<controller type='usb' model='qemu-xhci'/><hostdev mode='subsystem' type='usb'><source>
           <vendor id='0x08e6'/><product id='0x4433'/></source></hostdev>",
        &["/dev/bus/usb/001/004"],
    ),
];

/// The files that are lent, by guest.
const LENT: [(&str, &str); 2] = [("pci", "/dev/vfio/5"), ("usb", "/dev/bus/usb/001/004")];

const ROOT: &str = "0";

/// The PCI device's driver, and what it is to be bound to.
const DRIVER: &str =
    "cd /sys/bus/pci/devices/0000:00:10.0; basename $(readlink driver); cat driver_override";

/// As the host has it.
const HOSTS_OWN: &str = "e1000e\n(null)\n";

/// The files that all guests share, open or not.
const SHARED: [&str; 3] = ["/dev/vfio/vfio", "/dev/vhost-net", "/dev/vhost-vsock"];

fn a_guest_has_devices_of_the_host(_: Root) -> Result<()> {
    let vm = Host::restore()?;
    vm.sh(LOAD)?;
    for (name, devices, _) in GUESTS {
        define(&vm, name, devices)?;
    }
    define(&vm, "twins", &GUESTS[3].1.replace("08e6", "0627").replace("4433", "0001"))?;
    vm.reload()?;
    one_of_twins_is_to_be_chosen(&vm)?;
    let shared = SHARED.map(|file| owner(&vm, file).ok());
    // The VM is slow: with more than one guest in it nothing is answered in time.
    for (name, _, files) in GUESTS {
        let unit = vm.unit(&format!("qemu@{name}.service"));
        start(&vm, unit.name())?;
        let lent = LENT.iter().find(|(guest, _)| *guest == name).map(|(_, file)| *file);
        if let Some(file) = lent {
            assert_eq!(owner(&vm, file)?, account(&vm, name)?, "{file}");
            nobody_else_opens(&vm, file)?;
        }
        if name == "pci" {
            assert_eq!(vm.sh(DRIVER)?.stdout, "vfio-pci\nvfio-pci\n");
        }
        if name == "socket" {
            the_kernel_has_the_guests_number(&vm)?;
        }
        let (shim, qemu) = unit.processes()?;
        has_open(&vm, qemu, files)?;
        assert_eq!(SHARED.map(|file| owner(&vm, file).ok()), shared);
        // Neither the shim nor QEMU has a moment to give anything back.
        vm.run(["kill", "-KILL", &shim.to_string(), &qemu.to_string()])?.success()?;
        unit.wait("failed")?;
        if let Some(file) = lent {
            // The group of the PCI device is gone with its driver.
            assert_eq!(owner(&vm, file).ok().as_deref(), (name != "pci").then_some(ROOT), "{file}");
        }
        assert_eq!(vm.sh(DRIVER)?.stdout, HOSTS_OWN);
        eprintln!("{name}: shown");
    }
    assert_eq!(
        vm.sh("ls /run/glassbox/lent /run/glassbox/drivers | grep -v : || :")?.stdout.trim(),
        ""
    );
    Ok(())
}

/// Defines a guest that has these devices, too.
fn define(vm: &Host, name: &str, devices: &str) -> Result<()> {
    sector::define(vm, name, Sector::Idles, guest::IMAGES)?;
    let file = format!("{}/{name}.xml", definition::DEFINITIONS);
    vm.write_file(&file, vm.read(&file)?.replace("</devices>", &format!("{devices}</devices>")))
}

/// Starts the unit, which takes a guest that is emulated twice its time.
fn start(vm: &Host, unit: &str) -> Result<()> {
    let started = vm.command(["systemctl", "start", unit]).limit(PATIENCE * 2).output()?;
    if started.status != 0 {
        eprintln!("{}", vm.run(["journalctl", "--no-pager", "--lines=40"])?.stdout);
    }
    started.success().map(|_| ())
}

fn has_open(vm: &Host, qemu: u32, files: &[&str]) -> Result<()> {
    let open = vm.sh(&format!("readlink /proc/{qemu}/fd/*"))?.stdout;
    for file in files {
        assert!(open.lines().any(|line| line == *file), "{file} is not open: {open}");
    }
    // Its network is its own, and has nothing.
    let links = vm.sh(&format!("tail -n +3 /proc/{qemu}/net/dev | cut -d : -f 1"))?.stdout;
    assert_eq!(links.trim(), "lo");
    Ok(())
}

/// The number of the account whose file this is.
fn owner(vm: &Host, file: &str) -> Result<String> {
    Ok(vm.run(["stat", "--format=%u", file])?.success()?.stdout.trim().to_owned())
}

/// The number of the guest's account, whose its directory is.
fn account(vm: &Host, guest: &str) -> Result<String> {
    owner(vm, &format!("/run/glassbox/guest/{guest}"))
}

/// Another account has no way to it, even outside of any sandbox.
fn nobody_else_opens(vm: &Host, file: &str) -> Result<()> {
    let opens = format!("setpriv --reuid=nobody --clear-groups sh -c ': <>{file}'");
    let tried = vm.command(["sh", "-c", &opens]).output()?;
    assert!(tried.stderr.contains("Permission denied"), "{file}: {}", tried.stderr);
    Ok(())
}

/// The number that machined shows is the guest's: the kernel knows it, and says that nobody listens there. Of one that
/// no guest has it says that there is no way.
fn the_kernel_has_the_guests_number(vm: &Host) -> Result<()> {
    let cid: u32 = vm.machine("socket")?["VSockCID"].parse()?;
    let connect = |cid: u32| {
        let socat = ["socat", "-T", "1", "-", &format!("VSOCK-CONNECT:{cid}:1")];
        let tried = vm.command(socat).limit(Duration::from_secs(20)).output();
        tried.map(|tried| tried.stderr)
    };
    let nobody = connect(cid - 1)?;
    assert!(nobody.contains("No such device"), "{nobody}");
    let guest = connect(cid)?;
    assert!(!guest.contains("No such device"), "{guest}");
    eprintln!("vsock {cid}: {guest}");
    Ok(())
}

/// Two devices that are alike are told apart by their places only.
fn one_of_twins_is_to_be_chosen(vm: &Host) -> Result<()> {
    let unit = vm.unit("qemu@twins.service");
    assert_eq!(vm.systemctl(["start", unit.name()])?.status, 1);
    let told = unit.status_line()?;
    let words = "the host has several USB devices 0627:0001, such as 1:2 and 1:3; choose one by <address bus='1' \
                 device='2'/>";
    assert!(told.ends_with(words), "{told}");
    Ok(())
}
