//! Users without privilege: each registers and manages guests of its own with the system's daemon, and none of another's.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Definition, Host, Output, PATIENCE, Root, guest};

use crate::manage::{DOMAIN, MANAGER, METHODS, ROOT, as_user, call, events_since, property, text};

tests::on_root!(bookworm, Bookworm, users_have_their_own_guests_and_no_others);
tests::on_root!(
    trixie,
    Trixie,
    users_have_their_own_guests_and_no_others,
    the_system_s_guests_come_first
);

const JOB: &str = "org.glassbox.Glassbox1.Job";

/// For what it is not enough to own a guest: root opens the devices, and the definition is root's.
const OF_ROOT: [&str; 4] = ["AttachDevice", "DetachDevice", "UpdateDevice", "GetXML"];

fn users_have_their_own_guests_and_no_others(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.add_user("alice")?;
    host.sh("useradd bob")?;
    let mine = its_own("alice", "mine")?;
    start(&host, "alice", &mine)?;
    let path = text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", "mine"])?)?;
    host.wait_for("the guest to run", PATIENCE, || {
        property(&host, &path, "Reason").is_ok_and(|reason| reason == "booted")
    })?;
    assert!(host.machine("mine").is_err(), "machinectl terminate would stop all that alice has");

    reboots(&host, &path)?;
    for (method, words) in METHODS {
        let whose = if OF_ROOT.contains(&method) { "guests" } else { "guest 'mine'" };
        refused(&as_user(&host, "bob", &path, DOMAIN, method, words)?, method, whose)?;
    }
    jobs_are_canceled_by_who_manages_the_guest(&host, &path)?;
    for (method, words) in METHODS {
        let words = if method == "MonitorCommand" { &["ss", "query-name", ""] } else { words };
        if OF_ROOT.contains(&method) {
            refused(&as_user(&host, "alice", &path, DOMAIN, method, words)?, method, "guests")?;
            continue;
        }
        // Its last job may still be running.
        let done = || as_user(&host, "alice", &path, DOMAIN, method, words);
        if method == "Destroy" || method == "Reboot" {
            continue;
        }
        host.wait_for(method, PATIENCE, || done().is_ok_and(|answer| answer.status == 0))?;
    }
    for (method, words) in [("SetVCPUs", ["uu", "1", "2"]), ("SetMemory", ["tu", "134217728", "3"])]
    {
        refused(&as_user(&host, "alice", &path, DOMAIN, method, &words)?, method, "guests")?;
    }
    for (method, words) in [
        ("StartDomain", &["s", "db"][..]),
        ("Create", &["s", "<domain/>"]),
        ("Define", &["s", "<domain/>"]),
        ("Undefine", &["s", "mine"]),
        ("SetAutostart", &["sb", "mine", "true"]),
        ("GetDefinition", &["s", "mine"]),
    ] {
        let answer = as_user(&host, "alice", ROOT, MANAGER, method, words)?;
        refused(&answer, method, "guests")?;
    }
    for (method, words) in [
        ("ListDomains", &[][..]),
        ("GetDomain", &["s", "mine"]),
        ("GetDomainByUUID", &["s", &mine.uuid()]),
        ("ListDefined", &[]),
        ("ListJobs", &[]),
        ("EventsSince", &["t", "0"]),
        ("GetHostInformation", &[]),
    ] {
        as_user(&host, "bob", ROOT, MANAGER, method, words)?
            .success()
            .context("reading is free")?;
    }
    ends_as_its_owner_wants(&host, &path)
}

/// No unit's main process is its shim's alone to signal, so the shim is told otherwise.
fn reboots(host: &Host, path: &str) -> Result<()> {
    let is_ready = |times: usize| {
        host.wait_for(&format!("the guest to be ready {times} times"), PATIENCE, || {
            let console = host.read("/home/alice/mine-serial0.log");
            console.is_ok_and(|text| text.matches(guest::READY).count() == times)
        })
    };
    let qemu = || host.sh("pgrep --uid alice qemu-system");
    is_ready(1)?;
    let before = qemu()?.stdout;
    as_user(host, "alice", path, DOMAIN, "Reboot", &[])?.success()?;
    is_ready(2)?;
    assert_eq!(qemu()?.stdout, before, "in the same QEMU");
    Ok(())
}

/// Alice's guest in her session has no unit that the system's manager could signal; it ends by its monitor.
fn ends_as_its_owner_wants(host: &Host, path: &str) -> Result<()> {
    host.wait_for("Destroy", PATIENCE, || {
        as_user(host, "alice", path, DOMAIN, "Destroy", &[]).is_ok_and(|answer| answer.status == 0)
    })?;
    host.wait_for("the guest to end", PATIENCE, || {
        call(host, ROOT, MANAGER, "GetDomain", &["s", "mine"]).is_err()
    })?;
    let (_, events) = events_since(host, 0)?;
    ensure!(events.iter().any(|event| event == "lifecycle stopped"), "{events:?}");
    Ok(())
}

/// The job hangs as its QEMU does.
fn jobs_are_canceled_by_who_manages_the_guest(host: &Host, path: &str) -> Result<()> {
    let qemu = host.sh("pgrep --uid alice qemu-system")?.stdout.trim().to_owned();
    host.sh(&format!("kill -STOP {qemu}"))?;
    let begun = as_user(host, "alice", path, DOMAIN, "Suspend", &[])?.success()?.stdout;
    let job = text(&serde_json::from_str::<Value>(&begun)?["data"])?;
    let answer = as_user(host, "bob", &job, JOB, "Cancel", &[])?;
    refused(&answer, "Cancel", "guest 'mine'")?;
    let answer = as_user(host, "alice", &job, JOB, "Cancel", &[])?;
    ensure!(answer.stderr.contains("a suspend cannot be canceled"), "{answer:?}");
    host.sh(&format!("kill -CONT {qemu}")).map(drop)
}

fn the_system_s_guests_come_first(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    for name in ["alice", "bob"] {
        host.add_user(name)?;
    }
    Definition::new("web")?.install(&host)?;
    host.write_file("/etc/glassbox/qemu/worker@.xml", "<domain/>")?;
    host.reload()?;
    for name in ["web", "worker@3"] {
        let told =
            start(&host, "alice", &its_own("alice", name)?).err().context("it is refused")?;
        let expected = format!("the name '{name}' is that of a guest of the system");
        ensure!(format!("{told:#}").contains(&expected), "{told:#}");
    }
    let squats = |own: &str, name: &str| -> Result<Definition> {
        let (theirs, own) = (Definition::new(name)?.uuid(), its_own("alice", own)?);
        own.clone().replace(&own.uuid(), &theirs)
    };
    let told = start(&host, "alice", &squats("refused", "web")?).err().context("it is refused")?;
    let expected = format!("the UUID {} is that of a guest", Definition::new("web")?.uuid());
    ensure!(format!("{told:#}").contains(&expected), "{told:#}");
    // Name and UUID may be defined later.
    start(&host, "alice", &squats("squat", "soon")?)?;
    start(&host, "alice", &its_own("alice", "later")?)?;
    let told = start(&host, "bob", &its_own("bob", "later")?).err().context("it is refused")?;
    ensure!(format!("{told:#}").contains("the name 'later' is held by pid"), "{told:#}");
    let qemus = || host.sh("pgrep --uid alice --full qemu-system | sort").map(|it| it.stdout);
    let before = qemus()?;

    host.start_guest("web")?;
    let listed = || call(&host, ROOT, MANAGER, "ListDomains", &[]).map(|it| it.to_string());
    for name in ["later", "soon"] {
        Definition::new(name)?.install(&host)?;
    }
    host.reload()?;
    let started = call(&host, ROOT, MANAGER, "StartDomain", &["s", "later"])?;
    ensure!(text(&started)?.contains("/job/"), "{started}");
    host.unit("qemu@later.service").wait("active")?;
    let soon = host.start_guest("soon")?;
    host.wait_for("all to be machines", PATIENCE, || {
        host.machines().is_ok_and(|it| it.len() == 3)
    })?;
    ensure!(!listed()?.contains("squat"), "{}", listed()?);
    assert_eq!(qemus()?, before, "alice's run on");
    // Hers is listed again when its UUID is free and nothing defines it.
    host.sh("rm /etc/glassbox/qemu/soon.xml")?;
    soon.quit()?;
    host.wait_for("alice's guest", PATIENCE, || listed().is_ok_and(|it| it.contains("squat")))
}

fn refused(answer: &Output, method: &str, whose: &str) -> Result<()> {
    let told = format!("may not manage {whose}");
    ensure!(answer.status != 0 && answer.stderr.contains(&told), "{method}: {answer:?}");
    Ok(())
}

/// A guest whose files are its user's.
fn its_own(user: &str, name: &str) -> Result<Definition> {
    Definition::new(name)?
        .replace("<vcpu>1</vcpu>", "<vcpu current=\"1\">2</vcpu>")?
        .replace(&format!("/var/lib/glassbox/images/{name}.qcow2"), &disk(user, name))?
        .replace(&format!("/var/log/glassbox/qemu/{name}-"), &format!("/home/{user}/{name}-"))
}

fn disk(user: &str, name: &str) -> String {
    format!("/home/{user}/{name}.qcow2")
}

/// Starts a guest as a service of a user's own manager that is registered with the system's daemon.
fn start(host: &Host, user: &str, guest: &Definition) -> Result<()> {
    let name = guest.name();
    let file = format!("/home/{user}/{name}.xml");
    host.write(&file, guest.xml(), "0644", &format!("{user}:{user}"))?;
    let as_user = |words: &[&str]| host.command(words).user(user).output()?.success();
    as_user(&["qemu-img", "create", "-q", "-f", "qcow2", &disk(user, name), "64M"])?;
    let unit = format!("--unit={}", name.replace('@', "-"));
    let run = ["systemd-run", "--user", "--quiet", "--property=Type=notify", &unit];
    let shim = ["glassbox-qemu", "--register", "required", &file];
    let words: Vec<&str> = run.into_iter().chain(shim).collect();
    if let Err(error) = as_user(&words) {
        return Err(error.context(host.journal()?));
    }
    Ok(())
}
