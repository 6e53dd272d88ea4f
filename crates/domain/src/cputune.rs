//! How much CPU time the guest gets, and on which CPUs of the host, `<cputune>`.

use std::ops::RangeInclusive;

use crate::cpuset::CpuSet;
use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// A policy of the host's scheduler.
    pub enum SchedulerPolicy {
        /// For work that nobody waits for.
        Batch = "batch",
        /// For work that has time.
        Idle = "idle",
        /// Real time, each until it waits.
        Fifo = "fifo",
        /// Real time, in turns.
        RoundRobin = "rr",
    }
}

/// Threads that run on chosen CPUs of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Where the element stands.
    pub place: Place,
    /// The number of the virtual CPU or the I/O thread; none for QEMU's own threads.
    pub thread: Option<u32>,
    /// The host's CPUs.
    pub cpus: CpuSet,
}

/// Threads with a policy of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduling {
    /// Where the element stands.
    pub place: Place,
    /// The numbers of the threads; none for QEMU's own.
    pub threads: Option<CpuSet>,
    /// The policy.
    pub policy: SchedulerPolicy,
    /// The priority in real time.
    pub priority: Option<i32>,
}

/// Whose CPU time is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaOf {
    /// Each virtual CPU.
    Vcpu,
    /// All of the guest together.
    Guest,
    /// QEMU's own threads together.
    Emulator,
    /// Each I/O thread.
    IoThread,
}

/// The CPU time that may be used in each period, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// The time, of all CPUs together.
    pub time: u64,
    /// The period; the kernel's own where the document has none.
    pub period: u64,
}

/// How much CPU time the guest gets, and on which CPUs of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTuning {
    /// Where the element stands.
    pub place: Place,
    /// The weight against other guests.
    pub shares: Option<u64>,
    /// Periods in microseconds and what may run in one; -1 is no limit. Their names are those of the elements.
    pub limits: Vec<(&'static str, i64)>,
    /// CPUs of virtual CPUs.
    pub vcpu_pins: Vec<Pin>,
    /// CPUs of QEMU's own threads.
    pub emulator_pin: Option<Pin>,
    /// CPUs of I/O threads.
    pub iothread_pins: Vec<Pin>,
    /// Policies of virtual CPUs.
    pub vcpu_scheduling: Vec<Scheduling>,
    /// The policy of QEMU's own threads.
    pub emulator_scheduling: Option<Scheduling>,
    /// Policies of I/O threads.
    pub iothread_scheduling: Vec<Scheduling>,
}

/// Elements with a period or a quota, in the order in which they are written.
const LIMITS: [&str; 8] = [
    "period",
    "quota",
    "global_period",
    "global_quota",
    "emulator_period",
    "emulator_quota",
    "iothread_period",
    "iothread_quota",
];

/// The periods that the kernel takes, in microseconds (`max_cfs_runtime` and its like in `kernel/sched`).
const PERIOD: RangeInclusive<i64> = 1000..=1_000_000;

/// The time in a period that the kernel takes, in microseconds.
const QUOTA: RangeInclusive<i64> = 1000..=18_446_744_073_709_551;

/// What a period is where only a quota is given, in microseconds: the kernel's own (`cpu.max` of
/// `Documentation/admin-guide/cgroup-v2.rst`).
const USUAL_PERIOD: u64 = 100_000;

/// The shares that the kernel takes.
const SHARES: RangeInclusive<u64> = 2..=262_144;

impl CpuTuning {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        reader.refuse_children(&["cachetune", "memorytune"]);
        let limit = |name: &'static str| {
            let limit = reader.child(name)?;
            let value = limit.text_value::<i64>()?;
            let range = if name.ends_with("period") { PERIOD } else { QUOTA };
            if value > 0 && !range.contains(&value) {
                let (least, most) = range.into_inner();
                limit.refuse(format!("the kernel takes {least} to {most}; give one of these"));
            }
            Some((name, value)).filter(|(_, value)| *value != 0)
        };
        let (vcpus, iothreads) = (reader.children("vcpupin"), reader.children("iothreadpin"));
        let vcpu_scheduling = Scheduling::parse_all(reader, "vcpusched", Some("vcpus"));
        let tuning = Self {
            place: reader.place(),
            shares: reader.child("shares").and_then(|shares| shares.text_number()),
            limits: LIMITS.into_iter().filter_map(limit).collect(),
            vcpu_pins: pins(&vcpus, "vcpu"),
            emulator_pin: reader.child("emulatorpin").and_then(|pin| Pin::parse(&pin, None)),
            iothread_pins: pins(&iothreads, "iothread"),
            vcpu_scheduling,
            emulator_scheduling: Scheduling::parse_all(reader, "emulatorsched", None).pop(),
            iothread_scheduling: Scheduling::parse_all(reader, "iothreadsched", Some("iothreads")),
        };
        if tuning.shares.is_some_and(|shares| shares > 0 && !SHARES.contains(&shares)) {
            reader.refuse("<shares> is a number of 2 to 262144; give one of these");
        }
        let nothing = Self { place: tuning.place.clone(), ..Self::default() };
        (tuning != nothing).then_some(tuning)
    }

    /// The limit for these threads; none where there is no quota, or one of -1.
    #[must_use]
    pub fn quota(&self, of: QuotaOf) -> Option<CpuQuota> {
        let (quota, _) = of.elements();
        let time = self.limit(quota).filter(|time| *time > 0)?;
        Some(CpuQuota { time, period: self.period(of).unwrap_or(USUAL_PERIOD) })
    }

    /// The period that the document gives for these threads, in microseconds.
    #[must_use]
    pub fn period(&self, of: QuotaOf) -> Option<u64> {
        let (_, period) = of.elements();
        self.limit(period).filter(|period| *period > 0)
    }

    /// A period or quota by its element's name; none when it is negative.
    fn limit(&self, element: &str) -> Option<u64> {
        let (_, value) = self.limits.iter().find(|(name, _)| *name == element)?;
        u64::try_from(*value).ok()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("cputune").children_if_any(|w| {
            if let Some(shares) = self.shares {
                w.element("shares").text(shares);
            }
            for (name, value) in &self.limits {
                w.element(name).text(value);
            }
            self.vcpu_pins.iter().for_each(|pin| pin.write("vcpupin", Some("vcpu"), w));
            if let Some(pin) = &self.emulator_pin {
                pin.write("emulatorpin", None, w);
            }
            for pin in &self.iothread_pins {
                pin.write("iothreadpin", Some("iothread"), w);
            }
            for scheduling in &self.vcpu_scheduling {
                scheduling.write("vcpusched", Some("vcpus"), w);
            }
            if let Some(scheduling) = &self.emulator_scheduling {
                scheduling.write("emulatorsched", None, w);
            }
            for scheduling in &self.iothread_scheduling {
                scheduling.write("iothreadsched", Some("iothreads"), w);
            }
        });
    }
}

impl QuotaOf {
    /// The elements with the quota and its period.
    fn elements(self) -> (&'static str, &'static str) {
        match self {
            Self::Vcpu => ("quota", "period"),
            Self::Guest => ("global_quota", "global_period"),
            Self::Emulator => ("emulator_quota", "emulator_period"),
            Self::IoThread => ("iothread_quota", "iothread_period"),
        }
    }
}

/// The pins of one kind of thread, each thread once, ascending.
fn pins(readers: &[Reader<'_>], name: &str) -> Vec<Pin> {
    let mut pins: Vec<Pin> = Vec::new();
    for reader in readers {
        let Some(pin) = Pin::parse(reader, Some(name)) else { continue };
        if pins.iter().any(|other| other.thread == pin.thread) {
            reader.refuse(format!("this {name} is pinned above already; remove one"));
        }
        pins.push(pin);
    }
    pins.sort_by_key(|pin| pin.thread);
    pins
}

impl Pin {
    /// Reads a pin whose attribute `thread` numbers what is pinned.
    fn parse(reader: &Reader<'_>, thread: Option<&str>) -> Option<Self> {
        let number = thread.map(|name| {
            let _ = reader.required(name, "0"); // The number itself is read next.
            reader.number(name)
        });
        let _ = reader.required("cpuset", "0-1"); // The set itself is read next.
        let cpus = reader.value("cpuset")?;
        let thread = match number {
            Some(number) => Some(number?),
            None => None,
        };
        Some(Self { place: reader.place(), thread, cpus })
    }

    fn write(&self, element: &'static str, thread: Option<&'static str>, w: &mut Writer) {
        let open = w.element(element);
        let open = match thread {
            Some(name) => open.optional(name, self.thread),
            None => open,
        };
        open.attribute("cpuset", &self.cpus).empty();
    }
}

impl Scheduling {
    fn parse_all(reader: &Reader<'_>, element: &str, threads: Option<&str>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for child in reader.children(element) {
            let Some(scheduling) = Self::parse(&child, threads) else { continue };
            for other in &all {
                let threads = |of: &Self| of.threads.clone();
                let (Some(own), Some(other)) = (threads(&scheduling), threads(other)) else {
                    continue;
                };
                if own.iter().any(|number| other.contains(number)) {
                    child.refuse(format!("threads {own} have a policy above already; remove one"));
                }
            }
            all.push(scheduling);
        }
        Self::one_for_each_thread(all)
    }

    /// The same with an entry for each thread, ascending, as libvirt writes them.
    fn one_for_each_thread(all: Vec<Self>) -> Vec<Self> {
        let mut each = Vec::new();
        for scheduling in all {
            match &scheduling.threads {
                None => each.push(scheduling),
                Some(threads) => each.extend(threads.iter().filter_map(|number| {
                    let threads = Some(CpuSet::from_numbers([number])?);
                    Some(Self { threads, ..scheduling.clone() })
                })),
            }
        }
        each.sort_by_key(|one| one.threads.as_ref().and_then(|threads| threads.iter().next()));
        each
    }

    fn parse(reader: &Reader<'_>, threads: Option<&str>) -> Option<Self> {
        let set = match threads {
            Some(name) => {
                let _ = reader.required(name, "0-1"); // The set itself is read next.
                Some(reader.value::<CpuSet>(name))
            }
            None => None,
        };
        let priority = reader.value("priority");
        let _ = reader.required("scheduler", "fifo"); // The keyword itself is read next.
        let policy = reader.keyword("scheduler")?;
        let real_time = matches!(policy, SchedulerPolicy::Fifo | SchedulerPolicy::RoundRobin);
        if real_time && priority.is_none() {
            reader.refuse("a policy in real time needs attribute 'priority'; give such as '1'");
        }
        let threads = match set {
            Some(set) => Some(set?),
            None => None,
        };
        let priority = priority.filter(|_| real_time);
        Some(Self { place: reader.place(), threads, policy, priority })
    }

    fn write(&self, element: &'static str, threads: Option<&str>, w: &mut Writer) {
        let open = w.element(element);
        let open = match threads {
            Some(name) => open.optional(name, self.threads.as_ref()),
            None => open,
        };
        open.attribute("scheduler", self.policy).optional("priority", self.priority).empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_has_the_period_of_its_kind() {
        let limits = [
            ("period", 50_000),
            ("quota", 25_000),
            ("global_quota", 30_000),
            ("emulator_quota", -1),
            ("iothread_period", 10_000),
        ];
        let tuning = CpuTuning { limits: limits.into(), ..CpuTuning::default() };
        for (of, expected) in [
            (QuotaOf::Vcpu, Some((25_000, 50_000))),
            (QuotaOf::Guest, Some((30_000, 100_000))),
            (QuotaOf::Emulator, None),
            (QuotaOf::IoThread, None),
        ] {
            let quota = tuning.quota(of).map(|quota| (quota.time, quota.period));
            assert_eq!(quota, expected, "{of:?}");
        }
        assert_eq!(tuning.period(QuotaOf::IoThread), Some(10_000));
    }
}
