//! Guests of other architectures, in the shape that virt-install gives them, with real kernels under QEMU's
//! emulation.

use anyhow::Result;
use tests::{Foreign, Host, Root, Setup, definition, guest};

/// What Debian 12's virt-install printed, but for paths, less memory, a log of the serial port and, for ARM,
/// `<acpi/>`, which needs UEFI there.
const DOMAINS: [(Foreign, &str); 2] = [
    (Foreign::Aarch64, include_str!("domains/aarch64.xml")),
    (Foreign::Riscv64, include_str!("domains/riscv64.xml")),
];

/// What the guest finds behind the root ports: address, vendor and device by the PCI ID Repository.
const PCI: [&str; 6] = [
    "0000:01:00.0 0x1af4 0x1041", // virtio's network device
    "0000:02:00.0 0x1b36 0x000d", // QEMU's xHCI
    "0000:03:00.0 0x1af4 0x1043", // virtio's console, for channels
    "0000:04:00.0 0x1af4 0x1042", // virtio's block device
    "0000:05:00.0 0x1af4 0x1045", // virtio's balloon
    "0000:06:00.0 0x1af4 0x1044", // virtio's source of entropy
];

#[test]
fn aarch64_boots_with_its_devices_in_place() -> Result<()> {
    boots("machines::aarch64_boots_with_its_devices_in_place", 0)
}

#[test]
fn riscv64_boots_with_its_devices_in_place() -> Result<()> {
    boots("machines::riscv64_boots_with_its_devices_in_place", 1)
}

fn boots(test: &str, number: usize) -> Result<()> {
    if !tests::ready(test) {
        return Ok(());
    }
    let (arch, xml) = DOMAINS[number];
    let name = arch.name();
    let host = Setup::new(Root::Trixie).product()?.foreign(arch)?.boot()?;
    host.sh(&format!(
        "cd {}; qemu-img create -q -f qcow2 {name}.qcow2 64M; chown glassbox-qemu: . {name}.qcow2",
        guest::IMAGES
    ))?;
    host.write_file(&format!("{}/{name}.xml", definition::DEFINITIONS), xml)?;
    host.reload()?;
    let unit = host.start_guest(name)?;
    host.wait_for_console(name, &format!("{} {name}", guest::READY), 1)?;
    assert_eq!(pci(&host, name), PCI, "{}", host.console(name));
    // The guest powers itself off, which ends its unit well.
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    Ok(())
}

/// The guest's devices on PCI, as it said them.
fn pci(host: &Host, name: &str) -> Vec<String> {
    let console = host.console(name);
    let said = console.lines().filter_map(|line| line.trim().strip_prefix("GLASSBOX-GUEST-PCI "));
    said.map(str::to_owned).collect()
}
