//! Whom guests run as.

use std::collections::BTreeMap;

use anyhow::Result;
use tests::{Definition, Host, Root};

/// Accounts that systemd makes for services (systemd's uid ranges document).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61184..=65519;

tests::on_each_root!(neither_shim_nor_qemu_is_root);

fn neither_shim_nor_qemu_is_root(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    let kvm =
        Definition::new("fast")?.replace("<domain type=\"qemu\">", "<domain type=\"kvm\">")?;
    // Not the host's own CPU: nested in another virtual machine, KVM may refuse to show all of it.
    kvm.replace("<cpu mode=\"maximum\"/>", "<cpu><model>qemu64</model></cpu>")?.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let (shim, qemu) = unit.processes()?;
    let id = |what: &str| -> Result<String> {
        Ok(host.sh(&format!("getent {what} | cut -d: -f3"))?.stdout.trim().to_owned())
    };
    let kvm = id("group kvm")?;
    let user = host.sh("stat -c %u /run/glassbox/guest/web")?.stdout.trim().to_owned();
    assert!(DYNAMIC.contains(&user.parse()?), "{user} is no account of systemd's making");
    for pid in [shim, qemu] {
        let status = host.process(pid)?;
        assert_eq!(status["Uid"], [&*user; 4].join("\t"), "real, effective, saved, file system");
        assert!(!status["Gid"].split('\t').any(|gid| gid == "0"), "{}", status["Gid"]);
        assert!(status["Groups"].split(' ').any(|gid| gid == kvm), "{}", status["Groups"]);
        no_capability(&status);
    }
    opens_kvm(&host)
}

fn no_capability(status: &BTreeMap<String, String>) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0".repeat(16), "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
}

/// A guest runs with KVM where root can open it; elsewhere its definition is refused by QEMU.
fn opens_kvm(host: &Host) -> Result<()> {
    if host.run(["sh", "-c", ": <>/dev/kvm"])?.status != 0 {
        eprintln!("neither_shim_nor_qemu_is_root: this machine has no KVM, so none was opened");
        return Ok(());
    }
    let unit = host.start_guest("fast")?;
    let (_, qemu) = unit.processes()?;
    let open = host.sh(&format!("ls -l /proc/{qemu}/fd"))?.stdout;
    assert!(open.lines().any(|line| line.ends_with("-> /dev/kvm")), "{open}");
    Ok(())
}
