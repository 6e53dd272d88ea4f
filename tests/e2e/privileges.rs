//! What glassboxd may do: nothing by itself, and by its broker only what guests need.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Definition, Host, Output, PATIENCE, Root};

use crate::compromise::exposure;

tests::on_each_root!(the_daemon_and_its_broker_have_no_privilege_that_guests_do_not_need);
tests::on_root!(
    trixie_only,
    Trixie,
    the_broker_ends_when_nobody_calls,
    files_of_a_former_daemon_stay_in_use
);

const BROKER: &str = "org.glassbox.Broker1";
const DAEMON: &str = "glassboxd";

/// What `systemd-analyze security` may say at most, of 10.
const MOST_EXPOSED: f64 = 1.5;

fn the_daemon_and_its_broker_have_no_privilege_that_guests_do_not_need(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    // Nobody then answers for accounts other than root.
    host.sh("systemctl mask --now polkit.service 2>&1")?;
    Definition::new("web")?.install(&host)?;
    host.reload()?;
    let manager = "org.glassbox.Glassbox1 /org/glassbox/Glassbox1 org.glassbox.Glassbox1.Manager";
    let started = format!("busctl call {manager} StartDomain s web");
    host.sh(&started)?;
    let unit = host.unit("qemu@web.service");
    unit.wait("active")?;
    host.wait_for("machined to list the guest", PATIENCE, || host.machine("web").is_ok())?;

    let [daemon] = host.unit("glassboxd.service").show(["MainPID"])?;
    let status = host.process(daemon.parse()?)?;
    let account = host.run(["id", "--user", DAEMON])?.success()?.stdout.trim().to_owned();
    assert_eq!(status["Uid"], [&*account; 4].join("\t"));
    assert_ne!(account, "0");
    let [broker] = host.unit("glassbox-broker.service").show(["MainPID"])?;
    for status in [status, host.process(broker.parse()?)?] {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(status[set], "0".repeat(16), "{set}");
        }
    }
    for unit in ["glassboxd.service", "glassbox-broker.service"] {
        let exposure = exposure(&host, unit)?;
        eprintln!("{unit}: exposure {exposure}");
        assert!(exposure <= MOST_EXPOSED, "{unit}: {exposure} is more than {MOST_EXPOSED}");
    }
    the_account_has_no_way_around_the_broker(&host)?;
    nobody_else_calls_the_broker(&host)?;
    the_broker_does_what_guests_need_and_no_more(&host)?;

    host.sh(&format!(
        "busctl call org.glassbox.Glassbox1 /org/glassbox/Glassbox1/domain/{} \
         org.glassbox.Glassbox1.Domain Destroy",
        Definition::new("web")?.uuid().replace('-', "_")
    ))?;
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    host.wait_for_no_machine()
}

/// What whoever took over the daemon would try first.
fn the_account_has_no_way_around_the_broker(host: &Host) -> Result<()> {
    for attempt in [
        "cat /etc/shadow",
        "touch /etc/systemd/system/x.service",
        "touch /run/glassbox/x",
        "touch /var/lib/glassbox/images/x",
        "kill 1",
        "systemctl --no-ask-password start systemd-tmpfiles-clean.service",
        "systemctl --no-ask-password stop qemu@web.service",
        "systemctl --no-ask-password daemon-reload",
        "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 \
         org.freedesktop.machine1.Manager RegisterMachine sayssus x 0 x vm 1 ''",
    ] {
        let done = host.command(["sh", "-c", attempt]).user(DAEMON).output()?;
        ensure!(done.status != 0, "{attempt}: {done:?}");
    }
    Ok(())
}

fn nobody_else_calls_the_broker(host: &Host) -> Result<()> {
    for user in ["root", "nobody"] {
        let answer = broker(host, user, &["Reload"])?;
        ensure!(answer.status != 0 && answer.stderr.contains("denied"), "{user}: {answer:?}");
    }
    broker(host, DAEMON, &["Reload"])?.success().map(drop)
}

/// Without a lifeline, which busctl cannot hand over, these are all.
fn the_broker_does_what_guests_need_and_no_more(host: &Host) -> Result<()> {
    host.sh("systemd-run --quiet --unit=foreign sleep infinity
         pid=$(systemctl show --property=MainPID --value foreign)
         busctl call org.freedesktop.machine1 /org/freedesktop/machine1 \
            org.freedesktop.machine1.Manager RegisterMachine sayssus foreign 0 other vm $pid ''
         systemd-run --quiet --no-block --unit=slow --property=Type=notify sleep infinity")?;
    let job = host.sh("systemctl list-jobs --no-legend slow.service | awk '{ print $1 }'")?.stdout;
    let job = format!("/org/freedesktop/systemd1/job/{}", job.trim());
    for (words, refusal) in [
        (&["UnregisterMachine", "s", "foreign"][..], "machine foreign is another program's"),
        (&["CancelJob", "o", &job], "a job with slow.service is none with a guest"),
        (&["StartGuest", "s", "../foreign"], "contains '/'"),
    ] {
        let answer = broker(host, DAEMON, words)?;
        ensure!(answer.status != 0 && answer.stderr.contains(refusal), "{words:?}: {answer:?}");
    }
    assert!(host.machine("foreign").is_ok());
    assert_eq!(host.unit("slow.service").state()?, "activating");
    host.sh("systemctl stop foreign slow").map(drop)
}

fn the_broker_ends_when_nobody_calls(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    broker(&host, DAEMON, &["Reload"])?.success()?;
    let unit = host.unit("glassbox-broker.service");
    assert_eq!(unit.state()?, "active");
    let limit = Duration::from_secs(30) + PATIENCE;
    host.wait_for("the broker to end", limit, || unit.state().is_ok_and(|it| it == "inactive"))?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    // At the moment it ends, too, nobody's call is lost.
    for _ in 0..20 {
        host.sh("systemctl kill --signal=TERM glassbox-broker || :")?;
        broker(&host, DAEMON, &["Reload"])?.success()?;
    }
    Ok(())
}

/// What an administrator wrote for root alone, and what a daemon left that ran as root.
fn files_of_a_former_daemon_stay_in_use(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?;
    web.install(&host)?;
    host.sh("chmod 0600 /etc/glassbox/qemu/web.xml
         chown --recursive root:root /run/glassbox/transient
         mv /etc/glassbox/qemu/web.xml /run/glassbox/transient/old.xml
         ln -s /run/glassbox/transient/old.xml /run/glassbox/qemu/old.xml
         install -m 0600 /run/glassbox/transient/old.xml /etc/glassbox/qemu/web.xml
         systemd-tmpfiles --create")?;
    let call = |method: &str, words: &[&str]| {
        let start = ["busctl", "call", "org.glassbox.Glassbox1", "/org/glassbox/Glassbox1"];
        let start = start.into_iter().chain(["org.glassbox.Glassbox1.Manager", method]);
        host.run(start.chain(words.iter().copied()))
    };
    let listed = call("ListDefined", &[])?.success()?.stdout;
    ensure!(listed.contains("/etc/glassbox/qemu/web.xml"), "{listed}");
    call("GetDefinition", &["s", "old"])?.success()?;
    let refused = call("GetDefinition", &["s", "web"])?;
    let told = "/etc/glassbox/qemu/web.xml: glassboxd may not read it; let its group: \
                chgrp glassboxd FILE && chmod g+r FILE";
    ensure!(refused.status != 0 && refused.stderr.contains(told), "{refused:?}");
    host.sh("chmod g+r /etc/glassbox/qemu/web.xml")?;
    call("GetDefinition", &["s", "web"])?.success()?;
    host.sh("chmod 0600 /etc/glassbox/qemu/web.xml")?;
    call("Define", &["s", web.xml()])?.success()?;
    let owner = || host.run(["stat", "--format=%U", "/etc/glassbox/qemu/web.xml"]);
    host.wait_for("the definition", PATIENCE, || {
        owner().is_ok_and(|it| it.stdout == "glassboxd\n")
    })?;
    host.reload()?;
    host.start_guest("web")?.quit()?;
    call("Undefine", &["s", "web"])?.success()?;
    host.wait_for("its end", PATIENCE, || {
        host.exists("/etc/glassbox/qemu/web.xml").is_ok_and(|there| !there)
    })
}

fn broker(host: &Host, user: &str, words: &[&str]) -> Result<Output> {
    let start = ["busctl", "call", BROKER, "/org/glassbox/Broker1", BROKER];
    host.command(start.iter().chain(words)).user(user).output()
}
