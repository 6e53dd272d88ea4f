//! The VM flavour of the test host: what it has that containers lack.

use std::time::Instant;

use anyhow::Result;
use tests::{Host, Root};

tests::on_root!(trixie, Trixie, a_vm_runs_commands_and_has_every_controller);

fn a_vm_runs_commands_and_has_every_controller(_: Root) -> Result<()> {
    let before = Instant::now();
    let vm = Host::restore()?;
    eprintln!("the VM is there after {:?}", before.elapsed());
    assert_eq!(vm.sh("cat; echo \"it's $0\" >&2; exit 0")?.stderr, "it's /bin/sh\n");
    let failed = vm.command(["/bin/sh", "-c", "cat; exit 3"]).input("a\0b").output()?;
    assert_eq!((failed.status, failed.stdout.as_str()), (3, "a\0b"));
    let late = vm.command(["sleep", "60"]).limit(std::time::Duration::from_secs(1)).output()?;
    assert_eq!(late.status, 124);

    let controllers = vm.read("/sys/fs/cgroup/cgroup.controllers")?;
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        assert!(controllers.split_whitespace().any(|it| it == controller), "{controllers}");
    }
    assert_eq!(vm.sh("systemctl is-system-running")?.stdout, "running\n");
    let version = vm.run(["glassbox-qemu", "--version"])?.success()?.stdout;
    assert!(version.starts_with("glassbox-qemu "), "{version}");
    Ok(())
}
