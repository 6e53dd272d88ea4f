//! Threads in control groups of their own, where the unit delegates its group: on a real hierarchy of version 2.

use std::collections::BTreeSet;

use anyhow::Result;
use tests::{Host, PATIENCE, Root, Unit};

tests::on_root!(trixie, Trixie, a_delegated_unit_has_a_group_for_each_virtual_cpu);

/// A group's name, that of the thread in it, its CPUs and its policy.
const THREADS: [[&str; 4]; 3] = [
    ["iothread1", "IO iothread1", "0-1", "SCHED_OTHER"],
    ["vcpu0", "CPU 0/TCG", "0", "SCHED_OTHER"],
    ["vcpu1", "CPU 1/TCG", "1", "SCHED_RR"],
];

/// A guest with few devices, for it is emulated by an emulated machine.
const WEB: &str = r#"<domain type="qemu">
  <name>web</name>
  <memory unit="MiB">192</memory>
  <vcpu>2</vcpu>
  <iothreads>1</iothreads>
  <cputune>
    <vcpupin vcpu="0" cpuset="0"/>
    <vcpupin vcpu="1" cpuset="1"/>
    <vcpusched vcpus="1" scheduler="rr" priority="5"/>
  </cputune>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>/var/lib/glassbox/images/vmlinuz</kernel>
    <initrd>/var/lib/glassbox/images/initrd</initrd>
    <cmdline>no_timer_check</cmdline>
  </os>
  <devices>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
</domain>
"#;

fn a_delegated_unit_has_a_group_for_each_virtual_cpu(_: Root) -> Result<()> {
    let vm = Host::restore()?;
    vm.write_file("/etc/glassbox/qemu/web.xml", WEB)?;
    let unit = started(&vm, "Delegate=cpu cpuset")?;
    let group = "/sys/fs/cgroup/machine.slice/qemu@web.service";
    is_divided(&vm, &unit, group)?;
    assert_eq!(unit.members()?, processes(&unit)?, "all are in the unit's own group");
    assert_eq!(vm.machine("web")?["Unit"], unit.name());
    takes_limits(&vm, &format!("{group}/vcpu0"))?;
    unit.quit()?;
    assert!(!vm.exists(group)?, "nothing remains of {group}");

    // systemd's own processes for the unit, which cannot be beside a group of threads, have a place then.
    let unit = started(&vm, "Delegate=yes\nDelegateSubgroup=guest\nExecReload=/usr/bin/true")?;
    is_divided(&vm, &unit, &format!("{group}/guest"))?;
    vm.systemctl(["reload", unit.name()])?.success()?;
    vm.systemctl(["kill", "--signal=KILL", unit.name()])?.success()?;
    unit.wait("failed")?;
    assert!(!vm.exists(group)?, "nothing remains of {group}");
    a_group_of_others_is_left_alone(&vm)
}

/// Starts the guest in a unit with these directives.
fn started<'h>(vm: &'h Host, directives: &str) -> Result<Unit<'h>> {
    let path = "/etc/systemd/system/qemu@web.service.d/threads.conf";
    // The guest's sandbox shows groups, but lets nobody make one.
    vm.write_file(path, format!("[Service]\nProtectControlGroups=no\n{directives}\n"))?;
    vm.reload()?;
    vm.start_guest("web")
}

fn processes(unit: &Unit<'_>) -> Result<BTreeSet<u32>> {
    let (shim, qemu) = unit.processes()?;
    Ok(BTreeSet::from([shim, qemu]))
}

/// Each thread that has a group is in it, pinned and scheduled; all processes are in `group` and in the status.
fn is_divided(vm: &Host, unit: &Unit<'_>, group: &str) -> Result<()> {
    assert_eq!(vm.read(&format!("{group}/cgroup.type"))?, "domain threaded\n");
    let members = vm.read(&format!("{group}/cgroup.procs"))?;
    let members: Result<BTreeSet<u32>> = members.lines().map(|pid| Ok(pid.parse()?)).collect();
    assert_eq!(members?, processes(unit)?);
    for [name, thread, cpus, policy] in THREADS {
        let script = "cd \"$1\"; cat cgroup.type cgroup.controllers; id=$(cat cgroup.threads)
                      cat /proc/$id/comm; sed -n 's/^Cpus_allowed_list:.//p' /proc/$id/status
                      chrt --pid $id | sed -n 's/.*policy: //p'";
        let words = ["/bin/sh", "-euc", script, "sh", &format!("{group}/{name}")];
        let found = vm.run(words)?.success()?.stdout;
        let found: Vec<&str> = found.lines().collect();
        assert_eq!(found, ["threaded", "cpuset cpu", thread, cpus, policy], "{name}");
    }
    let status = unit.status()?;
    for process in processes(unit)? {
        assert!(status.contains(&format!("─{process} /usr/bin/")), "{process} is not in\n{status}");
    }
    Ok(())
}

/// What is written into a group of one virtual CPU holds for its thread, here while the guest's firmware runs.
fn takes_limits(vm: &Host, group: &str) -> Result<()> {
    vm.sh(&format!("echo 5000 100000 >{group}/cpu.max"))?;
    vm.wait_for("the kernel to hold back virtual CPU 0", PATIENCE, || {
        let held = || {
            let stat = vm.read(&format!("{group}/cpu.stat")).ok()?;
            let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
            line.parse::<u32>().ok()
        };
        held().is_some_and(|periods| periods > 5)
    })
}

/// The group is delegated, but the shim is not alone in it: somebody else may want to divide it. What is seen of
/// that is before QEMU is started, and so there is none.
fn a_group_of_others_is_left_alone(vm: &Host) -> Result<()> {
    let none = WEB.replace("<devices>", "<devices><emulator>/usr/bin/false</emulator>");
    vm.write_file("/root/none.xml", none)?;
    let script = "glassbox-qemu --register no /root/none.xml; cat /sys/fs/cgroup/$(cut -c 5- /proc/self/cgroup)/cgroup.type";
    let words =
        ["systemd-run", "--pipe", "--quiet", "--property=Delegate=yes", "/bin/sh", "-c", script];
    let said = vm.run(words)?.success()?;
    assert!(
        said.stderr.contains("but other processes are in it; it is not divided"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stdout, "domain\n");
    Ok(())
}
