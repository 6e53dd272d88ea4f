//! What a domain asks of control groups and limits, as settings of its unit, systemd.resource-control(5).
//!
//! Libvirt's values mean here what libvirt makes of them on a host with the unified hierarchy, but for the limit of
//! swap: `<shares>` and `<weight>` are written to the kernel as they are. What a unit cannot say is not here: pins and schedulers of
//! single threads are the shim's.

use domain::SchedulerPolicy;
use domain::{BlockIoDevice, BlockIoTuning, CpuPlacement, CpuQuota, CpuSet, CpuTuning};
use domain::{MemoryTuning, NumaMode, NumaPlacement, NumaTuning, QuotaOf, Resources};

use crate::directive::Directive;
use crate::value::UnitValue;

/// Weights that systemd takes, systemd.resource-control(5), `CPUWeight=` and `IOWeight=`.
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// The most that systemd takes as `CPUQuota=`, in hundredths of a percent: `INT_MAX` (`parse_permyriad_unbounded` in its
/// `percent-util.c`). It is more than 200,000 CPUs, so a quota above it is none.
const HIGHEST_SHARE: u64 = 0x7fff_ffff;

/// What VFIO may lock beside the guest's memory, for the devices' own windows: libvirt's allowance, 1 GiB.
const DEVICE_WINDOWS: u64 = 1 << 30;

/// The settings of `[Service]`, in the order of libvirt's elements. `devices` is how many devices of the host have
/// the guest's memory mapped for themselves.
pub(crate) fn settings(resources: &Resources, devices: u64) -> Vec<Directive> {
    let mut settings = Vec::new();
    if let Some(slice) = resources.partition.as_deref().and_then(UnitValue::slice) {
        settings.push(Directive::new("Slice", slice));
    }
    settings.extend(resources.memtune.iter().flat_map(memory));
    settings.extend(memory_lock(resources, devices));
    settings.extend(resources.blkiotune.iter().flat_map(block_io));
    settings.extend(resources.cputune.iter().flat_map(|tuning| cpu_time(tuning, resources)));
    settings.extend(cpus(resources).map(|set| Directive::new("AllowedCPUs", UnitValue::set(&set))));
    settings.extend(
        resources
            .numatune
            .as_ref()
            .and_then(memory_nodes)
            .map(|set| Directive::new("AllowedMemoryNodes", UnitValue::set(&set))),
    );
    settings.extend(resources.cputune.as_ref().and_then(real_time));
    settings
}

fn memory(tuning: &MemoryTuning) -> Vec<Directive> {
    // Systemd takes no limit of 0, with which no process could start; of swap it does.
    let bytes = |size: domain::MemorySize| Some(size.bytes()).filter(|bytes| *bytes > 0);
    let hard = tuning.hard_limit.and_then(bytes);
    let both = tuning.swap_hard_limit.and_then(bytes);
    // By libvirt's documentation <swap_hard_limit> bounds memory and swap together, as on hosts with version 1. On
    // the unified hierarchy libvirt gives all of it to swap, so that a guest has more than was written.
    // With only a limit of both together, neither of them may pass it.
    let most = hard.or(both);
    let swap = both.map(|both| both.saturating_sub(hard.unwrap_or_default()));
    [
        ("MemoryMax", most),
        ("MemoryHigh", tuning.soft_limit.and_then(bytes)),
        ("MemorySwapMax", swap),
    ]
    .into_iter()
    .filter_map(|(key, bytes)| Some(Directive::number(key, bytes?)))
    .collect()
}

/// How much memory QEMU may lock, where the usual limit of 8 MiB is too little.
fn memory_lock(resources: &Resources, devices: u64) -> Option<Directive> {
    let key = "LimitMEMLOCK";
    let hard_limit = resources.memtune.as_ref().and_then(|tuning| tuning.hard_limit);
    let locks = resources.memory_backing.locked || devices > 0;
    if let Some(limit) = hard_limit.filter(|_| locks) {
        return Some(Directive::number(key, limit.bytes()));
    }
    if resources.memory_backing.locked {
        return Some(Directive::new(key, UnitValue::word("infinity")));
    }
    let memory = &resources.memory;
    let size = memory.maximum.map(|maximum| maximum.size).or(memory.size)?;
    let locked = size.bytes().checked_mul(devices)?.checked_add(DEVICE_WINDOWS)?;
    (devices > 0).then(|| Directive::number(key, locked))
}

fn block_io(tuning: &BlockIoTuning) -> Vec<Directive> {
    let weight = weight("IOWeight", tuning.weight.map(u64::from));
    weight.into_iter().chain(tuning.devices.iter().flat_map(block_device)).collect()
}

fn block_device(device: &BlockIoDevice) -> Vec<Directive> {
    let weight = device.weight.map(u64::from).filter(|weight| WEIGHTS.contains(weight));
    [
        ("IODeviceWeight", weight),
        ("IOReadBandwidthMax", device.read_bytes),
        ("IOWriteBandwidthMax", device.write_bytes),
        ("IOReadIOPSMax", device.read_iops),
        ("IOWriteIOPSMax", device.write_iops),
    ]
    .into_iter()
    // Libvirt's 0 is no limit.
    .filter_map(|(key, number)| {
        let value = UnitValue::of_device(&device.path, number.filter(|number| *number > 0)?)?;
        Some(Directive::new(key, value))
    })
    .collect()
}

fn cpu_time(tuning: &CpuTuning, resources: &Resources) -> Vec<Directive> {
    let mut settings: Vec<Directive> = weight("CPUWeight", tuning.shares).into_iter().collect();
    if let Some((quota, period)) = quota(tuning, resources) {
        settings.push(Directive::new("CPUQuota", quota));
        settings
            .extend(period.map(|period| {
                Directive::new("CPUQuotaPeriodSec", UnitValue::microseconds(period))
            }));
    }
    settings
}

/// The time that all of the guest may have, and in which period it is counted if one is given.
///
/// Libvirt's `<quota>` is for each virtual CPU; a unit has one quota, so it is that of all of them, with those
/// of QEMU's own threads and of the I/O threads where they are given. `<global_quota>` is the unit's already.
fn quota(tuning: &CpuTuning, resources: &Resources) -> Option<(UnitValue, Option<u64>)> {
    // In hundredths of a percent of one CPU.
    let share = |of: QuotaOf, count: u32| {
        let CpuQuota { time, period } = tuning.quota(of)?;
        Some(u128::from(time) * 10_000 / u128::from(period) * u128::from(count))
    };
    let parts = share(QuotaOf::Vcpu, resources.vcpus.maximum).map(|vcpus| {
        let others = [share(QuotaOf::Emulator, 1), share(QuotaOf::IoThread, resources.iothreads)];
        others.into_iter().flatten().fold(vcpus, |sum, part| sum + part)
    });
    let share = [parts, share(QuotaOf::Guest, 1)].into_iter().flatten().min()?;
    let period = tuning.period(QuotaOf::Guest).or(tuning.period(QuotaOf::Vcpu));
    let share = u64::try_from(share.max(1)).ok().filter(|share| *share <= HIGHEST_SHARE)?;
    Some((UnitValue::percent(share), period))
}

fn weight(key: &'static str, weight: Option<u64>) -> Option<Directive> {
    weight.filter(|weight| WEIGHTS.contains(weight)).map(|weight| Directive::number(key, weight))
}

/// The CPUs of all threads together; none when one of them may run anywhere.
fn cpus(resources: &Resources) -> Option<CpuSet> {
    let vcpus = &resources.vcpus;
    let usual = vcpus.cpuset.as_ref().filter(|_| vcpus.placement != Some(CpuPlacement::Auto));
    let tuning = resources.cputune.as_ref();
    let pins = |pins: Option<&'_ Vec<domain::Pin>>| pins.cloned().unwrap_or_default();
    let vcpu_pins = pins(tuning.map(|tuning| &tuning.vcpu_pins));
    let iothread_pins = pins(tuning.map(|tuning| &tuning.iothread_pins));
    let vcpu = |number| vcpu_pins.iter().find(|pin| pin.thread == Some(number));
    // Libvirt counts I/O threads from 1.
    let iothread = |number| iothread_pins.iter().find(|pin| pin.thread == Some(number));
    let emulator = tuning.and_then(|tuning| tuning.emulator_pin.as_ref());
    let threads = (0..vcpus.maximum)
        .map(vcpu)
        .chain((1..=resources.iothreads).map(iothread))
        .chain([emulator]);
    let mut numbers = Vec::new();
    for pin in threads {
        numbers.extend(pin.map(|pin| &pin.cpus).or(usual)?.iter());
    }
    CpuSet::from_numbers(numbers)
}

/// The nodes that memory is held to by the host. Other modes than these are QEMU's to carry out.
fn memory_nodes(tuning: &NumaTuning) -> Option<CpuSet> {
    let held = |mode: Option<NumaMode>| match mode {
        None | Some(NumaMode::Strict | NumaMode::Restrictive) => true,
        Some(NumaMode::Preferred | NumaMode::Interleave) => false,
    };
    let memory = tuning.memory.as_ref()?;
    if !held(memory.mode) || memory.placement == Some(NumaPlacement::Auto) {
        return None;
    }
    let cells = tuning.memnodes.iter().flat_map(|node| node.nodeset.iter());
    CpuSet::from_numbers(memory.nodeset.as_ref()?.iter().chain(cells))
}

/// The highest priority in real time that a thread is to have, which needs a limit.
fn real_time(tuning: &CpuTuning) -> Option<Directive> {
    let all = tuning
        .vcpu_scheduling
        .iter()
        .chain(&tuning.emulator_scheduling)
        .chain(&tuning.iothread_scheduling);
    let real = all.filter(|one| match one.policy {
        SchedulerPolicy::Fifo | SchedulerPolicy::RoundRobin => true,
        SchedulerPolicy::Batch | SchedulerPolicy::Idle => false,
    });
    let highest = real.filter_map(|one| u64::try_from(one.priority?).ok()).max()?;
    // sched(7): 1 to 99.
    (1..=99).contains(&highest).then(|| Directive::number("LimitRTPRIO", highest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::tree;

    fn written(inner: &str, devices: u64) -> Vec<String> {
        let text = format!("<domain type='kvm'>{inner}</domain>");
        let resources = Resources::read(&tree::parse(&text).unwrap());
        settings(&resources, devices).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_asked_for_by_most_guests() {
        let inner = "<memory unit='GiB'>2</memory><vcpu>4</vcpu><resource/><cputune/>";
        assert_eq!(written(inner, 0), [""; 0]);
    }

    #[test]
    fn each_element_has_its_settings() {
        for (inner, expected) in [
            (
                "<memtune><hard_limit unit='MiB'>512</hard_limit><soft_limit unit='MiB'>256</soft_limit>
                 <swap_hard_limit unit='MiB'>768</swap_hard_limit></memtune>",
                &["MemoryMax=536870912", "MemoryHigh=268435456", "MemorySwapMax=268435456"][..],
            ),
            (
                "<memtune><swap_hard_limit>4</swap_hard_limit></memtune>",
                &["MemoryMax=4096", "MemorySwapMax=4096"],
            ),
            (
                "<blkiotune><weight>800</weight><device><path>/dev/my disk</path><weight>500</weight>
                 <read_bytes_sec>1</read_bytes_sec><write_bytes_sec>2</write_bytes_sec>
                 <read_iops_sec>3</read_iops_sec><write_iops_sec>0</write_iops_sec></device></blkiotune>",
                &[
                    "IOWeight=800",
                    "IODeviceWeight=\"/dev/my disk\" 500",
                    "IOReadBandwidthMax=\"/dev/my disk\" 1",
                    "IOWriteBandwidthMax=\"/dev/my disk\" 2",
                    "IOReadIOPSMax=\"/dev/my disk\" 3",
                ],
            ),
            ("<cputune><shares>2048</shares></cputune>", &["CPUWeight=2048"]),
            ("<cputune><shares>262144</shares></cputune>", &[]),
            ("<resource><partition>/machine/a-b</partition></resource>", &["Slice=machine-a\\x2db.slice"]),
            ("<numatune><memory mode='strict' nodeset='0-1'/></numatune>", &["AllowedMemoryNodes=0-1"]),
            ("<numatune><memory mode='interleave' nodeset='0-1'/></numatune>", &[]),
            (
                "<cputune><vcpusched vcpus='0' scheduler='fifo' priority='7'/>
                 <emulatorsched scheduler='rr' priority='3'/></cputune>",
                &["LimitRTPRIO=7"],
            ),
        ] {
            assert_eq!(written(inner, 0), expected, "{inner}");
        }
    }

    #[test]
    fn a_quota_is_that_of_all_threads() {
        for (tuning, expected) in [
            ("<quota>25000</quota>", &["CPUQuota=100%"][..]),
            (
                "<period>200000</period><quota>25000</quota>",
                &["CPUQuota=50%", "CPUQuotaPeriodSec=200000us"],
            ),
            ("<quota>25000</quota><emulator_quota>50000</emulator_quota>", &["CPUQuota=150%"]),
            ("<quota>25000</quota><global_quota>12345</global_quota>", &["CPUQuota=12.34%"]),
            ("<quota>-1</quota>", &[]),
            ("<global_quota>21474836470</global_quota>", &["CPUQuota=21474836.47%"]),
            ("<global_quota>21474836480</global_quota>", &[]),
            ("<global_quota>9223372036854775807</global_quota>", &[]),
        ] {
            let inner = format!("<vcpu>4</vcpu><cputune>{tuning}</cputune>");
            assert_eq!(written(&inner, 0), expected, "{tuning}");
        }
    }

    #[test]
    fn a_unit_is_held_to_cpus_only_when_every_thread_is() {
        for (inner, expected) in [
            ("<vcpu cpuset='0-3'>2</vcpu>", &["AllowedCPUs=0-3"][..]),
            ("<vcpu placement='auto' cpuset='0-3'>2</vcpu>", &[]),
            ("<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>", &[]),
            (
                "<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><emulatorpin cpuset='5'/></cputune>",
                &["AllowedCPUs=1,5"],
            ),
            (
                "<vcpu cpuset='0'>2</vcpu><iothreads>1</iothreads>
                 <cputune><vcpupin vcpu='1' cpuset='4'/><iothreadpin iothread='1' cpuset='6'/></cputune>",
                &["AllowedCPUs=0,4,6"],
            ),
        ] {
            assert_eq!(written(inner, 0), expected, "{inner}");
        }
    }

    #[test]
    fn memory_is_locked_as_far_as_needed() {
        let memory = "<memory unit='GiB'>2</memory>";
        let locked = format!("{memory}<memoryBacking><locked/></memoryBacking>");
        let limit = "<memtune><hard_limit unit='GiB'>4</hard_limit></memtune>";
        for (inner, devices, expected) in [
            (memory.to_owned(), 1, &["LimitMEMLOCK=3221225472"][..]),
            (locked.clone(), 0, &["LimitMEMLOCK=infinity"]),
            (format!("{locked}{limit}"), 0, &["MemoryMax=4294967296", "LimitMEMLOCK=4294967296"]),
            (format!("{memory}{limit}"), 0, &["MemoryMax=4294967296"]),
            (String::new(), 2, &[]),
        ] {
            assert_eq!(written(&inner, devices), expected, "{inner} {devices}");
        }
    }
}
