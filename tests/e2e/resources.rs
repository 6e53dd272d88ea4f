//! What a definition asks of control groups is shown by systemd and kept by the kernel: on a real hierarchy of
//! version 2.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::{Host, PATIENCE, Root, Unit, definition, guest};

use crate::sector::{self, Sector};

tests::on_root!(trixie, Trixie, what_a_definition_asks_for_is_shown_and_kept);

/// Guests that use all the time they get. The first has a part of one CPU, the others share the other one.
const GUESTS: [(&str, &str); 3] = [
    ("tuned", TUNED),
    ("one", "<vcpu cpuset='1'>1</vcpu><cputune><shares>100</shares></cputune>"),
    ("three", "<vcpu cpuset='1'>1</vcpu><cputune><shares>300</shares></cputune>"),
];

/// All that is for control groups. The period is long, for what is left of one is lost while this machine gives the
/// VM no time.
const TUNED: &str = "
  <memtune>
    <hard_limit unit='MiB'>768</hard_limit>
    <soft_limit unit='MiB'>512</soft_limit>
    <swap_hard_limit unit='MiB'>896</swap_hard_limit>
  </memtune>
  <memoryBacking><hugepages/><locked/><source type='memfd'/></memoryBacking>
  <blkiotune>
    <weight>500</weight>
    <device>
      <path>/dev/vda</path>
      <weight>700</weight>
      <read_bytes_sec>10485760</read_bytes_sec>
      <write_bytes_sec>5242880</write_bytes_sec>
      <read_iops_sec>300</read_iops_sec>
      <write_iops_sec>200</write_iops_sec>
    </device>
  </blkiotune>
  <vcpu cpuset='0'>1</vcpu>
  <cputune><shares>300</shares><period>250000</period><quota>100000</quota></cputune>
  <numatune><memory mode='strict' nodeset='0'/></numatune>
  <resource><partition>/machine/production</partition></resource>";

/// What `systemctl show` has of it.
const SHOWN: [(&str, &str); 17] = [
    ("MemoryMax", "805306368"),
    ("MemoryHigh", "536870912"),
    ("MemorySwapMax", "134217728"),
    ("LimitMEMLOCK", "805306368"),
    ("IOWeight", "500"),
    ("IODeviceWeight", "/dev/vda 700"),
    ("IOReadBandwidthMax", "/dev/vda 10485760"),
    ("IOWriteBandwidthMax", "/dev/vda 5242880"),
    ("IOReadIOPSMax", "/dev/vda 300"),
    ("IOWriteIOPSMax", "/dev/vda 200"),
    ("CPUWeight", "300"),
    ("CPUQuotaPerSecUSec", "400ms"),
    ("CPUQuotaPeriodUSec", "250ms"),
    ("AllowedCPUs", "0"),
    ("AllowedMemoryNodes", "0"),
    ("Slice", "machine-production.slice"),
    ("ControlGroup", "/machine.slice/machine-production.slice/qemu@tuned.service"),
];

/// What the kernel has of it. A weight for one device shows only where the kernel's I/O scheduler knows such.
const KEPT: [(&str, &str); 9] = [
    ("memory.max", "805306368"),
    ("memory.high", "536870912"),
    ("memory.swap.max", "134217728"),
    ("io.weight", "default 500"),
    ("io.max", "254:0 rbps=10485760 wbps=5242880 riops=300 wiops=200"),
    ("cpu.weight", "300"),
    ("cpu.max", "100000 250000"),
    ("cpuset.cpus.effective", "0"),
    ("cpuset.mems.effective", "0"),
];

fn what_a_definition_asks_for_is_shown_and_kept(_: Root) -> Result<()> {
    let vm = Host::restore()?;
    // A little more than the guest's memory, in pages of 2 MiB.
    vm.sh("echo 20 >/proc/sys/vm/nr_hugepages")?;
    for (name, tuning) in GUESTS {
        define(&vm, name, Sector::Spins, tuning)?;
    }
    vm.reload()?;
    // An emulated machine has much to do for three starts, of which one has a part of a CPU.
    let start = ["systemctl", "start", "qemu@tuned", "qemu@one", "qemu@three"];
    vm.command(start).limit(PATIENCE * 2).output()?.success()?;
    let [tuned, one, three] = GUESTS.map(|(name, _)| vm.unit(&format!("qemu@{name}.service")));
    is_shown(&vm, &tuned)?;
    let count = || used(&vm, [&tuned, &one, &three]);
    comes_to(count, [0.4, 3.0], |[tuned, one, three]| [tuned, three / one])?;
    a_property_that_is_set_stays(&vm, &three)?;
    comes_to(count, [0.4, 0.2], |[tuned, _, three]| [tuned, three])?;
    stop_at_once(&vm, &[tuned, one, three])?;
    a_disk_is_as_slow_as_it_may_be(&vm)?;
    a_slow_disk_is_shared_by_weight(&vm)?;
    more_memory_than_the_limit_is_not_had(&vm)
}

/// Defines a guest with these elements beside its memory.
fn define(vm: &Host, name: &str, sector: Sector, elements: &str) -> Result<()> {
    sector::define(vm, name, sector, guest::IMAGES)?;
    let file = format!("{}/{name}.xml", definition::DEFINITIONS);
    // QEMU's cache for emulated code counts as locked memory, too.
    let small = "<acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg>";
    let xml = vm.read(&file)?.replace("<acpi/>", small);
    vm.write_file(&file, xml.replace("</memory>", &format!("</memory>{elements}")))
}

fn is_shown(vm: &Host, unit: &Unit<'_>) -> Result<()> {
    assert_eq!(unit.show(SHOWN.map(|(key, _)| key))?, SHOWN.map(|(_, value)| value));
    let read = "cd \"$1\"; shift; cat \"$@\"";
    let (files, expected): (Vec<&str>, Vec<&str>) = KEPT.into_iter().unzip();
    let words = ["/bin/sh", "-euc", read, "sh", &group(unit)?];
    let kept = vm.run(words.into_iter().chain(files))?.success()?.stdout;
    assert_eq!(kept.lines().collect::<Vec<_>>(), expected);
    let process = vm.process(unit.processes()?.1)?;
    assert_eq!(process["HugetlbPages"], "32768 kB");
    let locked: u64 = process["VmLck"].trim_end_matches(" kB").parse()?;
    assert!(locked > 32 << 10, "{locked} KiB are locked");
    has_its_place(vm, unit)
}

/// Both ways to look at control groups have the guest's processes below its slice.
fn has_its_place(vm: &Host, unit: &Unit<'_>) -> Result<()> {
    let words = ["systemd-cgls", "--no-pager", "--full", "/machine.slice"];
    let tree = vm.run(words)?.success()?.stdout;
    let (shim, qemu) = unit.processes()?;
    let processes = [
        format!("─{shim} /usr/bin/glassbox-qemu "),
        format!("─{qemu} /usr/bin/qemu-system-x86_64 "),
    ];
    for (shown, groups) in [
        (tree, ["─machine-production.slice\n", "─qemu@tuned.service"]),
        (unit.status()?, ["/machine-production.slice/", "/qemu@tuned.service\n"]),
    ] {
        for part in groups.into_iter().chain(processes.iter().map(String::as_str)) {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
    }
    Ok(())
}

/// The path of the unit's control group.
fn group(unit: &Unit<'_>) -> Result<String> {
    unit.show(["ControlGroup"]).map(|[group]| format!("/sys/fs/cgroup{group}"))
}

/// The counters grow within a tenth of what is expected a second, for some seconds by the VM's own clock, which
/// `count` tells as well. Guests have other things to do when they start, and so has the VM, so that not each span of
/// time will do.
fn comes_to<const COUNTERS: usize, const RATES: usize>(
    count: impl Fn() -> Result<([f64; COUNTERS], f64)>,
    expected: [f64; RATES],
    of_growth: fn([f64; COUNTERS]) -> [f64; RATES],
) -> Result<()> {
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let (before, since) = count()?;
        sleep(Duration::from_secs(9));
        let (after, until) = count()?;
        let growth = std::array::from_fn(|at| (after[at] - before[at]) / (until - since));
        let found = of_growth(growth);
        if found.iter().zip(expected).all(|(found, expected)| (found / expected - 1.0).abs() < 0.1)
        {
            return Ok(());
        }
        seen.push(found);
    }
    bail!("{expected:?} is expected, {seen:?} was seen")
}

/// The CPU time of units and the time since the VM's boot, in seconds.
fn used(vm: &Host, units: [&Unit<'_>; 3]) -> Result<([f64; 3], f64)> {
    let mut words = ["/bin/sh", "-euc", USED, "sh"].map(str::to_owned).to_vec();
    for unit in units {
        words.push(group(unit)?);
    }
    let said = vm.run(words)?.success()?.stdout;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [a, b, c, time] = numbers[..] else { bail!("{said}") };
    Ok(([a / 1e6, b / 1e6, c / 1e6], time))
}

/// The shell's own commands only: a process takes its time in an emulated machine.
const USED: &str = "
for group; do
    while read -r key value; do [ $key = usage_usec ] && break; done <$group/cpu.stat
    echo $value
done
read -r uptime idle </proc/uptime
echo $uptime";

/// It holds at once, and over what rewrites the unit or takes its registry away.
fn a_property_that_is_set_stays(vm: &Host, unit: &Unit<'_>) -> Result<()> {
    let [quota, period] = ["CPUQuota=20%", "CPUQuotaPeriodSec=250ms"];
    vm.systemctl(["set-property", "--runtime", unit.name(), quota, period])?.success()?;
    vm.reload()?;
    vm.systemctl(["restart", "glassboxd.service"])?.success()?;
    assert_eq!(unit.show(["CPUQuotaPerSecUSec", "CPUWeight"])?, ["200ms", "300"]);
    assert_eq!(vm.read(&format!("{}/cpu.max", group(unit)?))?, "50000 250000\n");
    Ok(())
}

/// Guests that read and write as fast as they may, of which the kernel counts bytes and requests.
fn a_disk_is_as_slow_as_it_may_be(vm: &Host) -> Result<()> {
    let limit = |limit| format!("<device><path>/dev/vda</path>{limit}</device>");
    let units = start_at_disk(
        vm,
        [
            ("reader", Sector::Reads, &limit("<read_bytes_sec>262144</read_bytes_sec>")),
            ("writer", Sector::Writes, &limit("<write_iops_sec>10</write_iops_sec>")),
        ],
    )?;
    let count = || counted(vm, [(&units[0], "IOReadBytes"), (&units[1], "IOWriteOperations")]);
    comes_to(count, [262_144.0, 10.0], |growth| growth)?;
    stop_at_once(vm, &units)
}

/// Guests that read as fast as they may from a disk that is too slow for both: its time is the kernel's to share out
/// (io.cost.model, cgroups(7)), for what the VM's disk takes is more than they ask for.
fn a_slow_disk_is_shared_by_weight(vm: &Host) -> Result<()> {
    let groups = "/sys/fs/cgroup";
    let model = "rbps=1048576 rseqiops=20 rrandiops=20 wbps=1048576 wseqiops=20 wrandiops=20";
    vm.sh(&format!(
        "echo 254:0 enable=1 ctrl=user min=100 max=100 >{groups}/io.cost.qos
         echo 254:0 ctrl=user model=linear {model} >{groups}/io.cost.model"
    ))?;
    let units = start_at_disk(
        vm,
        [
            ("light", Sector::Reads, "<weight>100</weight>"),
            ("heavy", Sector::Reads, "<weight>300</weight>"),
        ],
    )?;
    let count = || counted(vm, [(&units[0], "IOReadBytes"), (&units[1], "IOReadBytes")]);
    comes_to(count, [3.0], |[light, heavy]| [heavy / light])?;
    vm.sh(&format!("echo 254:0 enable=0 >{groups}/io.cost.qos"))?;
    stop_at_once(vm, &units)
}

/// Starts guests with these elements in their `<blkiotune>`, which use their disks past the host's cache: what goes by
/// that is counted when the host writes it, or never.
fn start_at_disk<'a>(vm: &'a Host, guests: [(&str, Sector, &str); 2]) -> Result<[Unit<'a>; 2]> {
    for (name, sector, tuning) in guests {
        define(vm, name, sector, &format!("<blkiotune>{tuning}</blkiotune>"))?;
        let uncached = "s:type='raw':& cache='none':";
        vm.run(["sed", "-i", uncached, &format!("{}/{name}.xml", definition::DEFINITIONS)])?
            .success()?;
    }
    vm.reload()?;
    let units = guests.map(|(name, _, _)| vm.unit(&format!("qemu@{name}.service")));
    let start = ["systemctl", "start", units[0].name(), units[1].name()];
    vm.command(start).limit(PATIENCE * 2).output()?.success()?;
    Ok(units)
}

/// Properties of units that count something, and the time since the VM's boot in seconds.
fn counted<const N: usize>(vm: &Host, counters: [(&Unit<'_>, &str); N]) -> Result<([f64; N], f64)> {
    let mut values = [0.0; N];
    for (value, (unit, property)) in values.iter_mut().zip(counters) {
        let [shown] = unit.show([property])?;
        *value = shown.parse().context(shown)?;
    }
    let uptime = vm.read("/proc/uptime")?;
    Ok((values, uptime.split(' ').next().unwrap_or_default().parse()?))
}

/// Guests that know no power button have their QEMUs quit.
fn stop_at_once(vm: &Host, units: &[Unit<'_>]) -> Result<()> {
    let quit = ["kill", "--kill-whom=main", "--signal=QUIT"];
    vm.systemctl(quit.into_iter().chain(units.iter().map(Unit::name)))?.success()?;
    units.iter().try_for_each(|unit| unit.wait("inactive"))
}

/// A guest whose memory is allocated beforehand and does not fit ends before it runs.
fn more_memory_than_the_limit_is_not_had(vm: &Host) -> Result<()> {
    let greedy = "<memtune><hard_limit unit='MiB'>96</hard_limit></memtune>
        <memoryBacking><allocation mode='immediate'/></memoryBacking>";
    define(vm, "greedy", Sector::Idles, greedy)?;
    vm.sh("sed -i 's:>32</memory>:>256</memory>:' /etc/glassbox/qemu/greedy.xml")?;
    vm.reload()?;
    let unit = vm.unit("qemu@greedy.service");
    assert_ne!(vm.systemctl(["start", unit.name()])?.status, 0);
    assert_eq!(unit.outcome()?, ("exit-code".to_owned(), 7));
    assert_eq!(unit.status_line()?, "the guest is lost: QEMU was killed by SIGKILL");
    let [peak] = unit.show(["MemoryPeak"])?;
    let peak = peak.parse::<u64>().context(peak)?;
    assert!(peak <= 96 << 20, "{peak} bytes were used");
    Ok(())
}
