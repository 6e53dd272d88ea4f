//! A guest of systemd-run on a terminal, as libvirt-sandbox runs one: its root is a directory of the host.

use std::time::Duration;

use anyhow::{Context, Result};
use tests::{Host, Output, Root};

use crate::{directory, embedding};

tests::on_root!(trixie, Trixie, a_terminal_is_the_console_of_a_guest_in_a_unit);

/// The guest boots twice in that time without KVM, on a machine with other work.
const LIMIT: Duration = Duration::from_secs(180);

/// A kernel, an initial RAM disk, a directory, and the terminal.
fn definition() -> String {
    directory::definition(
        "sandbox",
        "socket='/run/sandbox-root'",
        "panic=-1",
        "<on_reboot>destroy</on_reboot>",
        "<console type='stdio'/><panic model='isa'/>",
    )
}

/// The program of the guest: asks on its console, writes the answer into its root, and ends as it is told.
const INIT: &str = "#!/bin/busybox sh
echo \"SANDBOX $(/bin/busybox cat /greeting), your word:\"
read -r word
echo \"$word\" >/heard
[ \"$word\" = poweroff ] && /bin/busybox poweroff -f
/bin/busybox mount -t proc proc /proc
echo c >/proc/sysrq-trigger
";

/// virtiofsd is the caller's, and serves one guest.
const SERVE: &str = "rm -f /run/sandbox-root
systemd-run --quiet --unit=sandbox-root --collect /usr/libexec/virtiofsd \
    --socket-path=/run/sandbox-root --shared-dir=/srv/sandbox --sandbox=none
until [ -S /run/sandbox-root ]; do sleep 0.1; done
";

fn a_terminal_is_the_console_of_a_guest_in_a_unit(root: Root) -> Result<()> {
    let host = embedding::setup(root)?.guest()?.boot()?;
    directory::make(&host, "/srv/sandbox", INIT, "hello")?;
    host.write_file("/root/sandbox.xml", definition())?;
    host.write_file("/root/typed", format!("{}\u{4}", definition()))?;

    // The definition is typed on the terminal, which is the guest's console from then on.
    let ended = on_terminal(&host, "-", "poweroff")?;
    assert_eq!(ended.status, 0, "{}", ended.stdout);
    assert!(ended.stdout.contains("SANDBOX hello, your word:"), "{}", ended.stdout);
    assert_eq!(host.read("/srv/sandbox/heard")?, "poweroff\n");

    let ended = on_terminal(&host, "/root/sandbox.xml", "panic")?;
    assert_eq!(ended.status, 8, "the guest panicked: {}", ended.stdout);
    assert_eq!(host.read("/srv/sandbox/heard")?, "panic\n");
    Ok(())
}

/// What is done on the terminal, and looked at meanwhile: $1 is the shim's argument, $2 the word for the guest.
const TYPE: &str = "cd /root
until systemctl is-active --quiet sandbox.service; do sleep 0.1; done
[ \"$1\" != - ] || cat typed
until grep -q 'your word' screen || [ -s status ]; do sleep 0.1; done
systemctl show --property=MemoryMax sandbox.service >facts
cat /proc/$(pgrep --exact qemu-system-x86)/cgroup >>facts
echo \"$2\"
until [ -s status ]; do sleep 0.1; done
";

/// What runs on the terminal; its status is that of the run.
const RUN: &str =
    "systemd-run --quiet --pty --unit=sandbox --property=MemoryMax=512M glassbox-qemu --register=no $1
echo $? >/root/status
";

/// Runs the sandbox by systemd-run on a terminal of script(1)'s; the output is what the terminal showed.
fn on_terminal(host: &Host, input: &str, word: &str) -> Result<Output> {
    host.write_file("/root/type", TYPE)?;
    host.write_file("/root/run", RUN)?;
    let script = format!(
        "{SERVE} rm -f /root/screen /root/status
        sh -eu /root/type {input} {word} |
            script --quiet --flush --command 'sh /root/run {input}' /root/screen
        exit $(cat /root/status)"
    );
    let ended = host.command(["sh", "-euc", &script]).limit(LIMIT).output()?;
    let facts = host.read("/root/facts").with_context(|| ended.stdout.clone())?;
    assert!(facts.contains("MemoryMax=536870912\n"), "{facts}");
    assert!(facts.contains(":/system.slice/sandbox.service\n"), "{facts}");
    Ok(ended)
}
