//! A user's guest, without root.
//!
//! What does not work there: machined takes registrations from root alone before systemd 258, so no version's
//! `machinectl list` shows a user's guest.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tests::{Definition, Host, Output, PATIENCE, Root, guest};

tests::on_each_root!(a_user_runs_a_guest_without_root);

const LOG: &str = "/home/alice/web-serial0.log";

fn a_user_runs_a_guest_without_root(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.add_user("alice")?;
    let web = Definition::new("web")?
        .replace("/var/lib/glassbox/images/web.qcow2", "/home/alice/web.qcow2")?
        .replace("/var/log/glassbox/qemu/web-serial0.log", LOG)?;
    let file = "/home/alice/.config/glassbox/qemu/web.xml";
    alice(&host, &["qemu-img", "create", "-q", "-f", "qcow2", "web.qcow2", "64M"])?.success()?;
    alice(&host, &["mkdir", "-p", "/home/alice/.config/glassbox/qemu"])?.success()?;
    host.write(file, web.xml(), "0644", "alice:alice")?;
    systemctl(&host, &["daemon-reload"])?;
    systemctl(&host, &["start", "qemu@web"])?;
    let [state, source, shim] = show(&host, ["ActiveState", "SourcePath", "MainPID"])?;
    assert_eq!((&*state, &*source), ("active", file));

    let qemu = host.run(["pgrep", "--parent", &shim])?.success()?.stdout.trim().to_owned();
    let uid = alice(&host, &["id", "-u"])?.stdout.trim().to_owned();
    for pid in [&shim, &qemu] {
        let status = host.process(pid.parse()?)?;
        assert_eq!(status["Uid"], [&*uid; 4].join("\t"));
        assert_eq!(status["CapEff"], "0".repeat(16));
    }
    let directory = format!("/run/user/{uid}/glassbox/guest/web");
    assert!(host.exists(&format!("{directory}/serial0"))?, "the console's link");
    is_claimed(&host, &shim)?;
    is_managed(&host)?;
    assert_eq!(host.machines()?, BTreeSet::new(), "machined knows the system's guests only");

    let console = || host.read(LOG).unwrap_or_default();
    host.wait_for("the guest", PATIENCE, || console().contains(guest::READY))?;
    is_reloaded(&host, &web, file, &qemu)?;
    systemctl(&host, &["stop", "qemu@web"])?;
    let ended = show(&host, ["ActiveState", "Result", "ExecMainStatus"])?;
    assert_eq!(ended, ["inactive", "success", "0"]);
    assert!(console().contains(guest::POWERDOWN), "{}", console());
    assert!(!host.exists(&directory)?, "nothing remains");
    Ok(())
}

/// The user's own daemon has the guest, and refuses its name to another shim.
fn is_claimed(host: &Host, shim: &str) -> Result<()> {
    let file = ".config/glassbox/qemu/web.xml";
    let second = alice(host, &["glassbox-qemu", "--user", "--register", "required", file])?;
    let held = format!("glassbox-qemu: the name 'web' is held by pid {shim} (qemu@web.service)\n");
    assert_eq!((second.status, second.stderr), (5, held));
    let manager =
        ["org.glassbox.Glassbox1", "/org/glassbox/Glassbox1", "org.glassbox.Glassbox1.Manager"];
    let mut call = vec!["busctl", "--user", "--json=short", "call"];
    call.extend(manager);
    call.push("ListDomains");
    let listed = alice(host, &call)?.success()?.stdout;
    ensure!(listed.contains("\"web\"") && listed.contains("\"qemu@web.service\""), listed);
    Ok(())
}

/// The user manages the guest by the user's own daemon, without asking anybody.
fn is_managed(host: &Host) -> Result<()> {
    let name = "org.glassbox.Glassbox1";
    let root = "/org/glassbox/Glassbox1";
    let manager = format!("{name}.Manager");
    let busctl = |verb: &str, path: &str, interface: &str, words: &[&str]| -> Result<String> {
        let fixed = ["busctl", "--user", verb, name, path, interface];
        let words: Vec<&str> = fixed.iter().chain(words).copied().collect();
        Ok(alice(host, &words)?.success()?.stdout)
    };
    let found = busctl("call", root, &manager, &["GetDomain", "s", "web"])?;
    let path = found.trim().trim_start_matches("o ").trim_matches('"').to_owned();
    let domain = format!("{name}.Domain");
    for (method, state) in [("Suspend", "paused"), ("Resume", "running")] {
        busctl("call", &path, &domain, &[method])?;
        host.wait_for(&format!("the guest to be {state}"), PATIENCE, || {
            busctl("get-property", &path, &domain, &["State"])
                .is_ok_and(|now| now.trim() == format!("s \"{state}\""))
        })?;
    }
    Ok(())
}

/// A disk comes by a reload, and goes by another. QEMU opens it by itself.
fn is_reloaded(host: &Host, web: &Definition, file: &str, qemu: &str) -> Result<()> {
    alice(host, &["truncate", "--size=1M", "data"])?.success()?;
    let disk = "<disk type=\"file\"><source file=\"/home/alice/data\"/><target dev=\"vdb\" bus=\"virtio\"/></disk>
    <controller type=\"usb\"";
    let more = web.clone().replace("<controller type=\"usb\"", disk)?;
    for (definition, is_open) in [(&more, true), (web, false)] {
        host.write(file, definition.xml(), "0644", "alice:alice")?;
        systemctl(host, &["reload", "qemu@web"])?;
        let open = host.sh(&format!("readlink /proc/{qemu}/fd/* || :"))?.stdout;
        ensure!(open.lines().any(|line| line == "/home/alice/data") == is_open, "{open}");
    }
    Ok(())
}

fn alice(host: &Host, words: &[&str]) -> Result<Output> {
    host.command(words).user("alice").limit(PATIENCE).output()
}

fn systemctl(host: &Host, words: &[&str]) -> Result<()> {
    let words: Vec<&str> = ["systemctl", "--user"].iter().chain(words).copied().collect();
    let done = alice(host, &words)?;
    if done.status != 0 {
        eprintln!("{}", host.journal()?);
    }
    done.success().map(|_| ())
}

fn show<const N: usize>(host: &Host, keys: [&str; N]) -> Result<[String; N]> {
    let mut values = Vec::new();
    for key in keys {
        let words = ["systemctl", "--user", "show", "--value", "--property", key, "qemu@web"];
        values.push(alice(host, &words)?.success()?.stdout.trim().to_owned());
    }
    Ok(values.try_into().expect("one value for each key"))
}
