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

/// Where devices stand by the plan, as sysfs names them: the root ports, and behind them network, USB, channels,
/// disk, balloon and entropy.
const PCI: &str = "0000:00:00.0 0000:00:01.0 0000:00:01.1 0000:00:01.2 0000:00:01.3 0000:00:01.4 \
    0000:00:01.5 0000:00:01.6 0000:00:01.7 0000:00:02.0 0000:00:02.1 0000:00:02.2 0000:00:02.3 \
    0000:00:02.4 0000:00:02.5 0000:01:00.0 0000:02:00.0 0000:03:00.0 0000:04:00.0 0000:05:00.0 0000:06:00.0";

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

/// The addresses of the guest's devices on PCI, as it said them.
fn pci(host: &Host, name: &str) -> String {
    let console = host.console(name);
    let said = console.lines().find_map(|line| line.trim().strip_prefix("GLASSBOX-GUEST-PCI "));
    said.unwrap_or_default().to_owned()
}
