//! Which of QEMU's threads runs on which CPUs of the host, and by which policy of the scheduler.
//!
//! ```text
//! before QEMU is started   check: no pin leaves what was inherited
//! before its guest runs    QMP tells the threads -> assignments (pure) -> apply
//! ```
//!
//! QEMU's own threads are pinned with the main thread first: a thread that it makes afterwards inherits its
//! CPUs and its policy, and those that it made before are found in `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;

use domain::{CpuSet, Place, SchedulerPolicy};
use nix::unistd::Pid;
use qemu::{QemuThread, ThreadCpus, ThreadPolicy, TunedThread};
use serde_json::Value;

use crate::prepare::{PrepareError, Prepared};
use crate::sys;

/// How often QEMU's threads are listed until no new one is there. Each time the creator of a new one was itself
/// not pinned yet, and QEMU has few of those.
const LISTINGS: usize = 16;

/// Priorities in real time of Linux (sched(7)).
const PRIORITIES: RangeInclusive<i32> = 1..=99;

/// Refuses what QEMU's threads cannot be given on this host: CPUs that this process, and so QEMU, did not inherit,
/// and priorities that Linux does not have.
///
/// # Errors
/// [`PrepareError::Placement`], one line for each such element.
pub(crate) fn check(prepared: &Prepared) -> Result<(), PrepareError> {
    let Prepared { plan, file, .. } = prepared;
    let mut refused = impossible_priorities(&plan.threads, file);
    if plan.threads.iter().any(|thread| thread.cpus.is_some()) {
        match sys::affinity() {
            Ok(inherited) => refused.extend(outside(&plan.threads, &inherited, file)),
            Err(error) => {
                refused.push(format!("the CPUs that were inherited cannot be asked for: {error}"));
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(PrepareError::Placement(refused)) }
}

/// A line for each policy in real time with a priority that is none.
fn impossible_priorities(threads: &[TunedThread], file: &str) -> Vec<String> {
    let policies = threads.iter().filter_map(|thread| thread.policy.as_ref());
    let wrong = policies.filter(|it| is_real_time(it.policy) && !PRIORITIES.contains(&it.priority));
    let line = |ThreadPolicy { priority, place, .. }: &ThreadPolicy| {
        let what = format!("priority {priority} is not between 1 and 99; give such as '1'");
        place.refused(what).in_file(file)
    };
    let mut lines: Vec<String> = wrong.map(line).collect();
    lines.dedup(); // One element may name many threads.
    lines
}

fn is_real_time(policy: SchedulerPolicy) -> bool {
    match policy {
        SchedulerPolicy::Fifo | SchedulerPolicy::RoundRobin => true,
        SchedulerPolicy::Batch | SchedulerPolicy::Idle => false,
    }
}

/// A line for each element that names a CPU outside of `inherited`.
fn outside(threads: &[TunedThread], inherited: &CpuSet, file: &str) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut lines = Vec::new();
    for thread in threads {
        let Some(ThreadCpus { cpus, place }) = &thread.cpus else { continue };
        // One element, `<vcpu cpuset>`, may be where many threads have their CPUs from.
        if cpus.iter().all(|cpu| inherited.contains(cpu)) || !told.insert(place.path.clone()) {
            continue;
        }
        let who = name(thread.thread);
        let what = format!(
            "{who} is to run on {cpus}, but only {inherited} are inherited; change cpuset, or \
             CPUAffinity= and AllowedCPUs= of the unit"
        );
        lines.push(place.refused(what).in_file(file));
    }
    lines
}

fn name(thread: QemuThread) -> String {
    match thread {
        QemuThread::Emulator => "QEMU itself".to_owned(),
        QemuThread::Vcpu(number) => format!("virtual CPU {number}"),
        QemuThread::IoThread(number) => format!("I/O thread {number}"),
    }
}

/// The threads that QEMU tells of over QMP; all others are its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Threads(BTreeMap<QemuThread, Pid>);

impl Threads {
    /// Takes the reply to `query-cpus-fast` (`CpuInfoFast` of QEMU's qapi/machine.json).
    pub(crate) fn learn_vcpus(&mut self, reply: &Value) {
        self.learn(reply, |entry| {
            let number = entry.get("cpu-index")?.as_u64()?;
            Some(QemuThread::Vcpu(u32::try_from(number).ok()?))
        });
    }

    /// Takes the reply to `query-iothreads` (`IOThreadInfo` of QEMU's qapi/misc.json).
    pub(crate) fn learn_iothreads(&mut self, reply: &Value) {
        self.learn(reply, |entry| {
            let number = entry.get("id")?.as_str()?.strip_prefix("iothread")?;
            Some(QemuThread::IoThread(number.parse().ok()?))
        });
    }

    fn learn(&mut self, reply: &Value, who: impl Fn(&Value) -> Option<QemuThread>) {
        let entries = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        self.0.extend(entries.iter().filter_map(|entry| {
            let id = i32::try_from(entry.get("thread-id")?.as_i64()?).ok()?;
            Some((who(entry)?, Pid::from_raw(id)))
        }));
    }

    /// The threads, virtual CPUs first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QemuThread, Pid)> {
        self.0.iter().map(|(thread, id)| (*thread, *id))
    }

    fn has(&self, thread: Pid) -> bool {
        self.0.values().any(|id| *id == thread)
    }
}

/// Pins QEMU's threads and gives them their policies, as the plan has it.
///
/// # Errors
/// The first element that cannot be carried out, with the reason.
pub(crate) fn apply(
    wanted: &[TunedThread],
    threads: &Threads,
    qemu: Pid,
    file: &str,
) -> Result<(), String> {
    for tuned in wanted {
        match tuned.thread {
            QemuThread::Emulator => apply_to_emulator(tuned, threads, qemu, file)?,
            QemuThread::Vcpu(_) | QemuThread::IoThread(_) => {
                let id = threads.0.get(&tuned.thread).ok_or_else(|| {
                    let what = format!("QEMU tells no thread of {}", name(tuned.thread));
                    place(tuned).refused(what).in_file(file)
                })?;
                apply_to_one(tuned, *id, file)?;
            }
        }
    }
    Ok(())
}

/// The element that says something of the threads.
fn place(tuned: &TunedThread) -> Place {
    let cpus = tuned.cpus.as_ref().map(|cpus| &cpus.place);
    cpus.or(tuned.policy.as_ref().map(|policy| &policy.place)).cloned().unwrap_or_default()
}

/// Sees to the main thread, then to all threads that QEMU does not tell of, until no new one is found.
fn apply_to_emulator(
    tuned: &TunedThread,
    threads: &Threads,
    qemu: Pid,
    file: &str,
) -> Result<(), String> {
    apply_to_one(tuned, qemu, file)?;
    let mut seen = BTreeSet::from([qemu]);
    for _ in 0..LISTINGS {
        let listed =
            list(qemu).map_err(|error| format!("QEMU's threads are not listed: {error}"))?;
        let new: Vec<Pid> =
            listed.into_iter().filter(|id| !threads.has(*id) && seen.insert(*id)).collect();
        if new.is_empty() {
            break;
        }
        new.into_iter().try_for_each(|id| apply_to_one(tuned, id, file))?;
    }
    Ok(())
}

/// The threads of a process, proc_pid_task(5).
fn list(process: Pid) -> io::Result<Vec<Pid>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
        ids.extend(entry?.file_name().to_str().and_then(|id| id.parse().ok()).map(Pid::from_raw));
    }
    Ok(ids)
}

fn apply_to_one(tuned: &TunedThread, id: Pid, file: &str) -> Result<(), String> {
    let who = name(tuned.thread);
    if let Some(ThreadCpus { cpus, place }) = &tuned.cpus {
        gone_is_done(sys::set_affinity(id, cpus)).map_err(|error| {
            let inherited =
                sys::affinity().map_or_else(|_| "no more".to_owned(), |cpus| cpus.to_string());
            let what = format!("{who} cannot run on {cpus}: {error}; {inherited} are inherited");
            place.refused(what).in_file(file)
        })?;
    }
    if let Some(policy) = &tuned.policy {
        gone_is_done(sys::set_scheduler(id, number(policy.policy), policy.priority))
            .map_err(|error| refused_policy(&who, policy, &error, file))?;
    }
    Ok(())
}

fn refused_policy(who: &str, policy: &ThreadPolicy, error: &io::Error, file: &str) -> String {
    let ThreadPolicy { policy, priority, place } = policy;
    let hint = if is_real_time(*policy) {
        format!("set LimitRTPRIO={priority} or more in a drop-in of the unit")
    } else {
        "remove it".to_owned()
    };
    let what =
        format!("{who} cannot have scheduler '{policy}' with priority {priority}: {error}; {hint}");
    place.refused(what).in_file(file)
}

/// A worker of QEMU that has ended since it was listed needs nothing any more.
fn gone_is_done(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// The kernel's number of a policy, sched(7).
fn number(policy: SchedulerPolicy) -> i32 {
    match policy {
        SchedulerPolicy::Batch => libc::SCHED_BATCH,
        SchedulerPolicy::Idle => libc::SCHED_IDLE,
        SchedulerPolicy::Fifo => libc::SCHED_FIFO,
        SchedulerPolicy::RoundRobin => libc::SCHED_RR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn on(thread: QemuThread, cpus: &str, path: &str) -> TunedThread {
        let place = Place { path: path.to_owned(), ..Place::default() };
        let cpus = ThreadCpus { cpus: cpus.parse().unwrap(), place };
        TunedThread { thread, cpus: Some(cpus), policy: None }
    }

    /// A thread that sleeps until it is told to end, and its id.
    fn sleeper() -> (Pid, std::sync::mpsc::Sender<()>) {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv(); // The other end is dropped, which is what ends the wait.
        });
        (told.recv().unwrap(), end)
    }

    fn cpus_of(id: Pid) -> String {
        let status = std::fs::read_to_string(format!("/proc/self/task/{id}/status")).unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap().trim().to_owned()
    }

    /// Field 41 of the thread's `stat`, the 39th behind the name (proc_pid_stat(5)).
    fn policy_of(id: Pid) -> String {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(38).unwrap().to_owned()
    }

    #[test]
    fn a_pin_outside_is_told_once_with_both_sets() {
        let threads = [
            on(QemuThread::Emulator, "0-1", "/domain/cputune/emulatorpin"),
            on(QemuThread::Vcpu(0), "4-7", "/domain/vcpu"),
            on(QemuThread::Vcpu(1), "4-7", "/domain/vcpu"),
            on(QemuThread::IoThread(3), "3-4", "/domain/cputune/iothreadpin[2]"),
        ];
        let hint = "are inherited; change cpuset, or CPUAffinity= and AllowedCPUs= of the unit";
        assert_eq!(
            outside(&threads, &"0-3".parse().unwrap(), "web.xml"),
            [
                format!(
                    "web.xml:0:0: /domain/vcpu: virtual CPU 0 is to run on 4-7, but only 0-3 {hint}"
                ),
                format!(
                    "web.xml:0:0: /domain/cputune/iothreadpin[2]: I/O thread 3 is to run on 3-4, but \
                     only 0-3 {hint}"
                ),
            ]
        );
        assert_eq!(outside(&threads, &"0-9".parse().unwrap(), "web.xml"), [""; 0]);
    }

    #[test]
    fn what_qemu_tells_is_taken_and_what_is_strange_passed_over() {
        let mut threads = Threads::default();
        threads.learn_vcpus(&json!([
            { "cpu-index": 1, "thread-id": 11, "target": "x86_64" },
            { "cpu-index": -1, "thread-id": 12 }, { "cpu-index": 2 }, 7,
        ]));
        threads.learn_vcpus(&json!({ "cpu-index": 3, "thread-id": 13 }));
        threads.learn_iothreads(&json!([
            { "id": "iothread4", "thread-id": 14 }, { "id": "mine", "thread-id": 15 },
        ]));
        let expected = [(QemuThread::Vcpu(1), 11), (QemuThread::IoThread(4), 14)];
        let expected = expected.map(|(thread, id)| (thread, Pid::from_raw(id)));
        assert_eq!(threads, Threads(BTreeMap::from(expected)));
    }

    #[test]
    fn threads_run_where_and_how_they_are_to() {
        let inherited = sys::affinity().unwrap();
        let first = CpuSet::from_numbers(inherited.iter().next()).unwrap();
        let ((vcpu, _end), (worker, _end_too)) = (sleeper(), sleeper());
        let threads = Threads(BTreeMap::from([(QemuThread::Vcpu(0), vcpu)]));
        let mut tuned = on(QemuThread::Vcpu(0), &first.to_string(), "");
        let (policy, place) = (SchedulerPolicy::Batch, Place::default());
        tuned.policy = Some(ThreadPolicy { policy, priority: 0, place });
        apply(&[tuned.clone()], &threads, Pid::this(), "web.xml").unwrap();
        assert_eq!((cpus_of(vcpu), policy_of(vcpu)), (first.to_string(), "3".to_owned()));
        assert_eq!((cpus_of(worker), policy_of(worker)), (inherited.to_string(), "0".to_owned()));

        tuned.thread = QemuThread::IoThread(1);
        let error = apply(&[tuned], &threads, Pid::this(), "web.xml").unwrap_err();
        assert_eq!(error, "web.xml:0:0: QEMU tells no thread of I/O thread 1");
    }

    #[test]
    fn a_priority_that_linux_does_not_have_is_told_once() {
        let tuned = |vcpu, policy, priority| {
            let place = Place { path: "/domain/cputune/vcpusched".to_owned(), ..Place::default() };
            let policy = Some(ThreadPolicy { policy, priority, place });
            TunedThread { thread: QemuThread::Vcpu(vcpu), cpus: None, policy }
        };
        let threads = [
            tuned(0, SchedulerPolicy::Idle, 0),
            tuned(1, SchedulerPolicy::Fifo, 99),
            tuned(2, SchedulerPolicy::RoundRobin, 0),
            tuned(3, SchedulerPolicy::RoundRobin, 0),
        ];
        let told = "web.xml:0:0: /domain/cputune/vcpusched: priority 0 is not between 1 and 99; give such as '1'";
        assert_eq!(impossible_priorities(&threads, "web.xml"), [told]);
    }

    #[test]
    fn a_refusal_tells_what_to_set() {
        let place = Place { path: "/domain/cputune/vcpusched".to_owned(), ..Place::default() };
        let policy = ThreadPolicy { policy: SchedulerPolicy::Fifo, priority: 5, place };
        let error = io::Error::from_raw_os_error(libc::EPERM);
        let told = refused_policy("virtual CPU 2", &policy, &error, "web.xml");
        assert_eq!(
            told,
            "web.xml:0:0: /domain/cputune/vcpusched: virtual CPU 2 cannot have scheduler 'fifo' with \
             priority 5: Operation not permitted (os error 1); set LimitRTPRIO=5 or more in a drop-in of \
             the unit"
        );
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_with_both_sets() {
        let (vcpu, _end) = sleeper();
        let threads = Threads(BTreeMap::from([(QemuThread::Vcpu(0), vcpu)]));
        let wanted = [on(QemuThread::Vcpu(0), "16000", "/domain/vcpu")];
        let inherited = sys::affinity().unwrap();
        assert_eq!(
            apply(&wanted, &threads, Pid::this(), "web.xml").unwrap_err(),
            format!(
                "web.xml:0:0: /domain/vcpu: virtual CPU 0 cannot run on 16000: Invalid argument (os \
                 error 22); {inherited} are inherited"
            )
        );
    }
}
