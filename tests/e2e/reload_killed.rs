//! Reloads that are killed at each command that they tell QEMU, and each file that they put in place: the next one
//! makes the guest what an undisturbed one makes it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::{Definition, Host, Root, Unit};

use crate::lan;
use crate::reload::{PRIVATE, become_, boot, cpus, disk, live, open_files, started, wait_for};

tests::on_root!(trixie, Trixie, a_killed_reload_is_settled_by_the_next);

/// Where the container has strace(1) with its libraries.
const TRACER: &str = "/usr/local/lib/strace";

/// At which system call a reload is killed; reloads are left alone without this file.
const KILL: &str = "/run/kill-at";

/// Has the guest's reloads run under strace(1), which kills them before a system call takes effect.
fn bring_killer(host: &Host) -> Result<()> {
    tests::require_packages(&[("strace", "strace")])?;
    let needed = std::process::Command::new("ldd").arg("/usr/bin/strace").output()?;
    let needed = String::from_utf8(needed.stdout)?;
    let is_own = |path: &&str| path.contains("/libunwind") || path.contains("/liblzma");
    let libraries = needed.split_whitespace().filter(|word| word.starts_with('/')).filter(is_own);
    for path in libraries.chain(["/usr/bin/strace"]) {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).context("a name")?;
        host.copy_in(Path::new(path), &format!("{TRACER}/{name}"))?;
    }
    let script = format!(
        "#!/bin/sh\n\
         [ -e {KILL} ] || exec \"$@\"\n\
         LD_LIBRARY_PATH={TRACER} exec {TRACER}/strace -o /run/strace.log -e trace=sendmsg,rename,unlink \
         -e \"inject=$(cat {KILL})\" \"$@\"\n"
    );
    host.write("/usr/local/bin/killed", script, "0755", "root:root")?;
    let unit = "[Service]\nExecReload=\nExecReload=+/usr/local/bin/killed /usr/bin/glassbox-qemu --instance %i --reload\n";
    lan::drop_in(host, "web", unit)
}

/// What QEMU and the host have of the guest, but for numbers that are given anew each time.
pub(crate) fn state(host: &Host, unit: &Unit<'_>) -> Result<String> {
    let ask = |command: &str| format!("{{\"execute\": \"{command}\"}}\n");
    let list = |path: &str| {
        format!("{{\"execute\": \"qom-list\", \"arguments\": {{\"path\": \"{path}\"}}}}\n")
    };
    let input = [
        ask("qmp_capabilities"),
        ask("query-named-block-nodes"),
        ask("query-block"),
        ask("query-fdsets"),
        list("/machine/peripheral"),
        list("/objects"),
        ask("query-cpus-fast"),
        ask("query-rx-filter"),
    ];
    let socket = "UNIX-CONNECT:/run/glassbox/guest/web/monitor";
    let asked = host.command(["socat", "-t", "1", "-", socket]).input(input.concat());
    let said = asked.output()?.success()?.stdout;
    // The words that have the names of what is there.
    let keys =
        ["node-name", "filename", "opaque", "name", "qdev", "type", "cpu-index", "tray_open"];
    let mut lines = Vec::new();
    for answer in said.lines().filter(|line| line.starts_with("{\"return\"")) {
        let found = answer.split("\"").collect::<Vec<_>>();
        let pairs = found.windows(3).filter(|it| keys.contains(&it[0]) && it[1].starts_with(':'));
        let mut words: Vec<String> = pairs.map(|it| without_numbers(&it.concat())).collect();
        words.sort();
        lines.push(words.join("\n"));
    }
    ensure!(lines.len() == input.len(), "an answer is missing in {said}");
    let (_, qemu) = unit.processes()?;
    let open = host.sh(&format!("ls -l /proc/{qemu}/fd | grep -c net/tun || :"))?.stdout;
    let taps = host.sh("ls /sys/class/net | grep -c vnet || :")?.stdout;
    let files = open_files(host, unit)?.join(" ");
    let live: BTreeSet<String> = live(host)?.lines().map(without_numbers).collect();
    let live: Vec<String> = live.into_iter().collect();
    lines.push(format!("{files}\ntaps open {open}taps {taps}{}", live.join("\n")));
    Ok(lines.join("\n--\n"))
}

/// A text without the numbers of block nodes and of sets of files.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    let starts = ["libvirt-", "index='", "/dev/fdset/", "#block"];
    while let Some((at, start)) =
        starts.iter().filter_map(|start| Some((rest.find(start)?, *start))).min()
    {
        let (before, after) = rest.split_at(at + start.len());
        kept.push_str(before);
        kept.push('N');
        rest = after.trim_start_matches(|sign: char| sign.is_ascii_digit());
    }
    kept + rest
}

/// The two definitions between which the guest goes to and fro: little, and much.
fn definitions(web: &Definition) -> Result<[Definition; 2]> {
    let below = format!(
        "<backingStore type=\"file\"><format type=\"qcow2\"/><source file=\"{PRIVATE}/base.qcow2\"/><backingStore/></backingStore>"
    );
    let devices = format!(
        "{}\n    \
         <interface type=\"bridge\"><mac address=\"52:54:00:00:00:77\"/><source bridge=\"br0\"/><model type=\"virtio\"/></interface>\n    \
         <rng model=\"virtio\"><backend model=\"random\">/dev/random</backend></rng>\n    \
         <controller type=\"usb\"",
        disk("vdb", "qcow2", "layer.qcow2", &below),
    );
    let much = web
        .clone()
        .replace("<controller type=\"usb\"", &devices)?
        .replace("<interface type=\"user\">", "<interface type=\"user\"><link state=\"down\"/>")?
        .replace("/one.iso", "/two.iso")?;
    Ok([web.clone(), much])
}

/// The last messages of the unit.
fn said(unit: &Unit<'_>) -> String {
    let messages = unit.messages().unwrap_or_default();
    messages[messages.len().saturating_sub(20)..].join("\n")
}

fn a_killed_reload_is_settled_by_the_next(root: Root) -> Result<()> {
    let host = boot(root)?;
    lan::start(&host, &[], &[])?;
    bring_killer(&host)?;
    let (web, unit) = started(&host)?;
    wait_for(&host, &["vda:", "eth0"], &[])?;
    let definitions = definitions(&web)?;
    let mut undisturbed = Vec::new();
    let there = |which: usize| {
        let much = ["vdb:more-", "eth1", "rngs:2"];
        let little = ["vda:", "rngs:1"];
        match which {
            0 => wait_for(&host, &little, &["vdb:more-", "eth1"]),
            _ => wait_for(&host, &much, &[]),
        }
    };
    for which in [1, 0, 1, 0] {
        become_(&host, &definitions[which])?.success().with_context(|| said(&unit))?;
        there(which)?;
        undisturbed.push(state(&host, &unit)?);
    }
    assert_eq!(undisturbed[0], undisturbed[2], "there and back");
    assert_eq!(undisturbed[1], undisturbed[3], "there and back");
    ensure!(undisturbed[0].contains("virtio-disk1"), "{}", undisturbed[0]);

    let mut killed = 0;
    for call in ["rename", "unlink", "sendmsg"] {
        for number in 1.. {
            let mut lived = 0;
            for which in [1, 0] {
                become_(&host, &definitions[1 - which])?.success()?;
                host.write_file(KILL, format!("{call}:signal=KILL:when={number}"))?;
                lived += i32::from(become_(&host, &definitions[which])?.status == 0);
                host.sh(&format!("rm {KILL}"))?;
                // The next one goes on, or back.
                let to = if number % 2 == 0 { which } else { 1 - which };
                let settled = become_(&host, &definitions[to])?.success();
                settled.with_context(|| format!("after {call} {number}: {}", said(&unit)))?;
                there(to)?;
                let (now, expected) = (state(&host, &unit)?, &undisturbed[1 - to]);
                ensure!(
                    now == *expected,
                    "killed at {call} {number}:\n{now}\nis not\n{expected}\n{}",
                    said(&unit)
                );
            }
            if lived == 2 {
                break;
            }
            killed += 2 - lived;
            eprintln!("killed at {call} {number}, settled");
        }
    }
    ensure!(killed > 40, "only {killed} reloads were killed");
    killed_beside_cpus(&host, &unit, &web)?;
    ensure!(!host.exists("/run/glassbox/live/web.step")?, "nothing is left to settle");
    Ok(())
}

/// An emulator takes each CPU once only, and so none comes twice.
fn killed_beside_cpus(host: &Host, unit: &Unit<'_>, web: &Definition) -> Result<()> {
    for (count, at) in [(2, "rename:signal=KILL:when=1"), (3, "rename:signal=KILL:when=2")] {
        let more = web.clone().replace("current=\"1\">4", &format!("current=\"{count}\">4"))?;
        host.write_file(KILL, at)?;
        become_(host, &more)?;
        host.sh(&format!("rm {KILL}"))?;
        host.systemctl(["reload", "qemu@web"])?.success().with_context(|| said(unit))?;
        assert_eq!(cpus(host)?, count);
        wait_for(host, &[&format!("cpus:{count}")], &[])?;
        let said = format!("current='{count}'");
        ensure!(live(host)?.contains(&said), "{said} is not in {}", live(host)?);
    }
    Ok(())
}
