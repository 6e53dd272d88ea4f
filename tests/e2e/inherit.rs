//! QEMU has what the caller of `glassbox-qemu` has, whatever that is, and nothing else.
//!
//! `recorder.pl` writes down what the kernel tells of a process: of the caller just before it becomes the shim, of
//! QEMU's process just before it becomes QEMU, and of QEMU while it runs. The first two are compared to the last
//! character, the third but for what QEMU does to itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tests::{Definition, Host, PATIENCE, Root};

tests::on_root!(
    trixie,
    Trixie,
    qemu_inherits_what_a_unit_gives_its_caller,
    qemu_inherits_what_a_terminal_and_a_shell_give_their_child,
);

const RECORDER: &str = include_str!("recorder.pl");

/// The terminal's signals as a mask, SIGHUP, SIGINT and SIGQUIT: the shim blocks them for QEMU, see glassbox-qemu(1).
const TERMINAL_SIGNALS: u64 = 0b111;

/// What QEMU changes of itself when it runs: its sandbox is a filter more, which needs no_new_privs; its signals have
/// handlers; it raises the number of its files to the limit's limit and has its timers exact.
const QEMUS_OWN: [&str; 7] = [
    "limit Max open files",
    "status NoNewPrivs",
    "status Seccomp",
    "status Seccomp_filters",
    "status SigBlk",
    "status SigIgn",
    "timerslack_ns",
];

/// What a unit can be given, as unlike the defaults as can be: systemd.exec(5), systemd.resource-control(5).
const UNIT: [&str; 35] = [
    "User=alice",
    "Group=audio",
    "SupplementaryGroups=video kvm",
    "UMask=0027",
    "Nice=7",
    "OOMScoreAdjust=321",
    "CPUSchedulingPolicy=batch",
    "CPUAffinity=1",
    "IOSchedulingClass=best-effort",
    "IOSchedulingPriority=6",
    "TimerSlackNSec=77777",
    "LimitNOFILE=5000:6000",
    "LimitNPROC=2000:3000",
    "LimitCORE=0",
    "LimitMEMLOCK=1M:2M",
    "LimitSTACK=4M:16M",
    "LimitNICE=10",
    "CoredumpFilter=0x3b",
    "NoNewPrivileges=yes",
    "SystemCallFilter=~@reboot @swap",
    "LockPersonality=yes",
    "CapabilityBoundingSet=CAP_KILL CAP_NET_BIND_SERVICE",
    "AmbientCapabilities=CAP_KILL",
    "SecureBits=noroot",
    "KeyringMode=private",
    "PrivateUsers=yes",
    "PrivateMounts=yes",
    "PrivateNetwork=yes",
    "PrivateIPC=yes",
    "ProtectHostname=yes",
    "IgnoreSIGPIPE=no",
    "Environment=GLASSBOX_A=one \"GLASSBOX_B=two words\" LC_ALL=C",
    "WorkingDirectory=/var/tmp",
    "Slice=callers.slice",
    "Delegate=yes",
];

fn qemu_inherits_what_a_unit_gives_its_caller(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.run(["useradd", "--create-home", "alice"])?.success()?;
    let place = Place::make(&host, "alice")?;
    let mut words = vec!["systemd-run", "--unit=caller", "--service-type=exec"];
    words.extend(["--property=RuntimeDirectory=caller", "--setenv=XDG_RUNTIME_DIR=/run/caller"]);
    let properties = UNIT.map(|property| format!("--property={property}"));
    words.extend(properties.iter().map(String::as_str));
    words.extend(CALL);
    host.run(words)?.success()?;
    let caller = place.compare()?;
    for (name, value) in [
        ("status Umask", "0027"),
        ("status Cpus_allowed_list", "1"),
        ("status CapEff", "0000000000000020"),
        ("status NoNewPrivs", "1"),
        ("oom_score_adj", "321"),
        ("stat nice", "7"),
        ("stat policy", "3"),
        ("secure bits", "1"),
        ("link cwd", "/var/tmp"),
    ] {
        assert_eq!(caller[name], value, "the caller was given it: {name}");
    }
    ensure!(caller["cgroup"].contains("/callers.slice/caller.service"), "{}", caller["cgroup"]);
    host.systemctl(["kill", "--signal=QUIT", "--kill-whom=main", "caller"])?.success()?;
    host.unit("caller.service").wait("inactive")
}

/// Namespaces, a terminal, signals and all that has a command of its own. What ends in `--` runs what follows.
const SHELL: &str = "umask 0077
    trap '' PIPE USR2 WINCH
    ulimit -c 0; ulimit -n 9000; ulimit -s 4096
    cd /usr/share
    exec unshare --mount --net --ipc --uts --cgroup --time --user --map-root-user -- \
        setpriv --bounding-set -sys_boot,-sys_time --inh-caps +kill --ambient-caps +kill --securebits +noroot -- \
        setarch --addr-no-randomize ionice --class 3 choom --adjust 456 -- nice -n 5 taskset --cpu-list 0 \
        chrt --idle 0 prlimit --memlock=1000000:2000000 -- env -i PATH=/usr/bin RUNTIME_DIRECTORY=/opt/caller/run Z=1 A=2 'S= x' \
        ";

fn qemu_inherits_what_a_terminal_and_a_shell_give_their_child(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let place = Place::make(&host, "root")?;
    let script = format!("{SHELL}{}", CALL.join(" "));
    host.write_file("/opt/caller/script", script)?;
    // A group of its own and a terminal, of which the shell is the session's leader.
    let terminal = "systemd-run --unit=caller --service-type=exec \
        script --quiet --return --command 'sh -eu /opt/caller/script' /opt/caller/typescript";
    host.sh(terminal)?;
    let caller = place.compare()?;
    assert_ne!(caller["stat tty"], "0", "it has a terminal");
    for (name, value) in [
        ("status Umask", "0077"),
        ("status Cpus_allowed_list", "0"),
        ("status NoNewPrivs", "0"),
        ("oom_score_adj", "456"),
        ("personality", "00040000"),
        ("stat nice", "5"),
        ("stat policy", "5"),
        ("link cwd", "/usr/share"),
        ("environ", "PATH=/usr/bin;RUNTIME_DIRECTORY=/opt/caller/run;Z=1;A=2;S= x;"),
    ] {
        assert_eq!(caller[name], value, "the caller was given it: {name}");
    }
    let (shim, _) = place.processes()?;
    host.sh(&format!("kill -QUIT {shim}"))?;
    host.unit("caller.service").wait("inactive")
}

/// What the context of each test runs at its end.
const CALL: [&str; 6] = [
    "/opt/caller/recorder.pl",
    "/opt/caller/caller",
    "/usr/bin/glassbox-qemu",
    "--register",
    "no",
    "/opt/caller/guest.xml",
];

/// What the kernel tells of a process, by name.
type Record = BTreeMap<String, String>;

/// Where a guest's files and the records are.
struct Place<'h> {
    host: &'h Host,
}

impl<'h> Place<'h> {
    /// Makes the directory, owned by the caller, with a guest whose QEMU is recorded.
    fn make(host: &'h Host, owner: &str) -> Result<Self> {
        let disk = "/opt/caller/disk.qcow2";
        let guest = Definition::new("caller")?;
        let guest = guest.clone().replace(guest.disk(), disk)?;
        let guest = guest
            .replace("/usr/bin/qemu-system-x86_64", "/opt/caller/qemu")?
            .replace(&tests::definition::log("caller"), "/opt/caller/serial.log")?;
        host.sh(&format!("mkdir -p /opt/caller/run; qemu-img create -q -f qcow2 {disk} 64M"))?;
        host.write_file("/opt/caller/guest.xml", guest.xml())?;
        for name in ["recorder.pl", "qemu"] {
            host.write(&format!("/opt/caller/{name}"), RECORDER, "0755", "root")?;
        }
        host.sh(&format!("chown -R {owner}: /opt/caller"))?;
        Ok(Self { host })
    }

    fn record(&self, name: &str) -> Result<Record> {
        record(&self.host.read(&format!("/opt/caller/{name}"))?)
    }

    /// The process ids of shim and QEMU.
    fn processes(&self) -> Result<(u32, u32)> {
        let shim = self.host.sh("pgrep --newest --exact glassbox-qemu")?.stdout;
        let qemu = self.host.run(["pgrep", "--parent", shim.trim()])?.success()?.stdout;
        Ok((shim.trim().parse()?, qemu.trim().parse()?))
    }

    /// Waits until QEMU runs, and compares it with its caller, whose record is the result.
    fn compare(&self) -> Result<Record> {
        let running = || self.processes().is_ok_and(|(_, qemu)| self.sandboxed(qemu));
        self.host.wait_for("a QEMU that has set itself up", PATIENCE, running)?;
        let (_, qemu) = self.processes()?;
        let caller = self.record("caller")?;
        let mut executed = self.record("record")?;
        let descriptors = executed.remove("descriptors").context("descriptors")?;
        assert_eq!(Some(descriptors), executed.remove("named"), "it has what the plan names");
        assert!(caller["session keyring"].parse::<u32>().is_ok(), "{}", caller["session keyring"]);
        let mut expected = caller.clone();
        let blocked = u64::from_str_radix(&caller["status SigBlk"], 16)? | TERMINAL_SIGNALS;
        expected.insert("status SigBlk".to_owned(), format!("{blocked:016x}"));
        same(&executed, &expected, "QEMU when it was executed");

        // Numbers and paths are shown as whoever looks would call them, so the look is from QEMU's own namespaces.
        let look = format!(
            "nsenter --target {qemu} --user --cgroup --preserve-credentials -- \
             /opt/caller/recorder.pl --of {qemu}"
        );
        let running = record(&self.host.sh(&look)?.stdout)?;
        let filters = |record: &Record| record["status Seccomp_filters"].parse::<u32>();
        assert_eq!(
            filters(&running)?,
            filters(&caller)? + 1,
            "the caller's filters and QEMU's own"
        );
        let kept = |record: &Record| -> Record {
            let kept = |(name, _): &(&String, &String)| {
                running.contains_key(*name) && !QEMUS_OWN.contains(&name.as_str())
            };
            record.iter().filter(kept).map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        same(&kept(&running), &kept(&caller), "QEMU while it runs");
        Ok(caller)
    }

    /// Whether QEMU has added its own filter to those that it was executed with.
    fn sandboxed(&self, qemu: u32) -> bool {
        let filters = |record: &Record, name: &str| record.get(name)?.parse::<u32>().ok();
        let executed =
            filters(&self.record("record").unwrap_or_default(), "status Seccomp_filters");
        let status = self.host.process(qemu).unwrap_or_default();
        executed.is_some() && filters(&status, "Seccomp_filters") > executed
    }
}

fn record(text: &str) -> Result<Record> {
    let pair = |line: &str| {
        let (name, value) = line.split_once('\t').context("a line has a name")?;
        Ok((name.to_owned(), value.to_owned()))
    };
    text.lines().map(pair).collect()
}

/// Compares two records; what differs is told, and not all the rest.
fn same(found: &Record, expected: &Record, whose: &str) {
    let names: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| format!("{name}: {:?}, not {:?}", found.get(name), expected.get(name)))
        .collect();
    assert!(differing.is_empty(), "{whose} has\n{}", differing.join("\n"));
    assert!(found.len() > 40, "there is something to compare: {found:?}");
}
