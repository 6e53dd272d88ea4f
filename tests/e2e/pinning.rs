//! QEMU's threads run where and how the definition says, inside what the unit has.

use std::collections::BTreeMap;

use anyhow::Result;
use tests::{Definition, Host, Root, Unit, guest};

tests::on_root!(trixie, Trixie, threads_are_pinned_inside_what_the_unit_has);

/// A guest with two virtual CPUs and an I/O thread, all pinned, on the first two CPUs of this machine.
fn definition([first, second]: [u32; 2]) -> Result<Definition> {
    let tuning = format!(
        r#"<vcpu>2</vcpu>
  <iothreads>1</iothreads>
  <cputune>
    <vcpupin vcpu="0" cpuset="{first}"/>
    <vcpupin vcpu="1" cpuset="{second}"/>
    <emulatorpin cpuset="{second}"/>
    <iothreadpin iothread="1" cpuset="{first}-{second}"/>
    <vcpusched vcpus="1" scheduler="batch"/>
    <emulatorsched scheduler="batch"/>
    <iothreadsched iothreads="1" scheduler="idle"/>
  </cputune>"#
    );
    // Its kernel keeps to the first virtual CPU: on a loaded machine two emulated ones wait for each other for minutes.
    Definition::new("pinned")?.word("maxcpus=1")?.replace("<vcpu>1</vcpu>", &tuning)
}

fn threads_are_pinned_inside_what_the_unit_has(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let cpus @ [first, second] = first_two(&host)?;
    let pinned = definition(cpus)?;
    pinned.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("pinned")?;
    runs_as_pinned(&host, &unit, cpus)?;
    // QEMU makes other threads while the guest uses its devices, and they follow the one that made them.
    host.wait_for_console("pinned", guest::READY, 1)?;
    runs_as_pinned(&host, &unit, cpus)?;
    unit.quit()?;

    let place = pinned.place(&format!("<vcpupin vcpu=\"1\" cpuset=\"{second}\""))?;
    let refused = format!(
        "/etc/glassbox/qemu/pinned.xml:{place}: /domain/cputune/vcpupin[2]: virtual CPU 1 is to run on \
         {second}, but only {first} are inherited; change cpuset, or CPUAffinity= and AllowedCPUs= of the unit"
    );
    fails(&host, &unit, &format!("CPUAffinity={first}"), 4, &refused)?;

    real_time(&host, &unit, &pinned)
}

/// The first two CPUs that the container has.
fn first_two(host: &Host) -> Result<[u32; 2]> {
    let status = host.process(1)?;
    let mut cpus = Vec::new();
    for range in status["Cpus_allowed_list"].split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>()?..=last.parse()?);
    }
    cpus.truncate(2);
    cpus.try_into().map_err(|_| anyhow::anyhow!("the test needs two CPUs"))
}

/// CPUs and policy of QEMU's threads, the same for all of a name.
fn runs_as_pinned(host: &Host, unit: &Unit<'_>, [first, second]: [u32; 2]) -> Result<()> {
    let both =
        if second == first + 1 { format!("{first}-{second}") } else { format!("{first},{second}") };
    let own = (second.to_string(), "SCHED_BATCH");
    for (name, thread) in threads(host, unit.processes()?.1)? {
        let expected = match name.as_str() {
            "CPU 0/TCG" => (first.to_string(), "SCHED_OTHER"),
            "CPU 1/TCG" => (second.to_string(), "SCHED_BATCH"),
            "IO iothread1" => (both.clone(), "SCHED_IDLE"),
            _ => own.clone(),
        };
        assert_eq!(thread, (expected.0, expected.1.to_owned()), "{name}");
    }
    Ok(())
}

/// The name of each thread of a process with its CPUs and the policy by which it is scheduled.
fn threads(host: &Host, process: u32) -> Result<BTreeMap<String, (String, String)>> {
    let script = "cd /proc/$1/task; for id in *; do cat $id/comm; \
                  sed -n 's/^Cpus_allowed_list:.//p' $id/status; chrt --pid $id | sed -n 's/.*policy: //p'; done";
    let words = ["/bin/sh", "-euc", script, "sh", &process.to_string()];
    let listed = host.run(words)?.success()?.stdout;
    let lines: Vec<&str> = listed.lines().collect();
    let mut threads = BTreeMap::new();
    for thread in lines.chunks(3) {
        let [name, cpus, policy] = thread else { anyhow::bail!("{listed}") };
        threads.insert((*name).to_owned(), ((*cpus).to_owned(), (*policy).to_owned()));
    }
    for name in ["CPU 0/TCG", "CPU 1/TCG", "IO iothread1", "qemu-system-x86"] {
        assert!(threads.contains_key(name), "{name} is not in {threads:?}");
    }
    assert!(threads.len() > 4, "QEMU has other threads, too: {threads:?}");
    Ok(threads)
}

/// Starts the guest with a directive of the unit, which must fail with this status and message.
fn fails(host: &Host, unit: &Unit<'_>, directive: &str, status: i32, line: &str) -> Result<()> {
    drop_in(host, directive)?;
    assert_ne!(host.systemctl(["start", unit.name()])?.status, 0);
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), status));
    let messages = unit.messages()?;
    assert!(messages.iter().any(|said| said == line), "{line}\nis not in\n{}", messages.join("\n"));
    assert_eq!(host.run(["pgrep", "qemu-system"])?.stdout, "", "no QEMU remains");
    Ok(())
}

/// Gives the unit one directive, in place of any before.
fn drop_in(host: &Host, directive: &str) -> Result<()> {
    let path = "/etc/systemd/system/qemu@pinned.service.d/test.conf";
    host.write_file(path, format!("[Service]\n{directive}\n"))?;
    host.reload()
}

/// A policy in real time is for units that have the right to it.
fn real_time(host: &Host, unit: &Unit<'_>, pinned: &Definition) -> Result<()> {
    let batch = "<vcpusched vcpus=\"1\" scheduler=\"batch\"/>";
    let fifo = "<vcpusched vcpus=\"1\" scheduler=\"fifo\" priority=\"5\"/>";
    let fast = pinned.clone().replace(batch, fifo)?;
    fast.install(host)?;
    let refused = format!(
        "the guest was not started: /etc/glassbox/qemu/pinned.xml:{}: /domain/cputune/vcpusched: virtual CPU 1 \
         cannot have scheduler 'fifo' with priority 5: Operation not permitted (os error 1); set LimitRTPRIO=5 or \
         more in a drop-in of the unit",
        fast.place("<vcpusched")?
    );
    fails(host, unit, "LimitRTPRIO=0", 6, &refused)
}
