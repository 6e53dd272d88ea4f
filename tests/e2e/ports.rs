//! What is the guest's, reached by those who may manage it: its console as a file descriptor, and its agent.

use anyhow::{Context, Result, ensure};
use tests::{Definition, Host, PATIENCE, Root, Setup, guest};

tests::on_root!(trixie, Trixie, a_console_and_the_agent_are_reached_over_d_bus);

const NAME: &str = "org.glassbox.Glassbox1";
const DOMAIN: &str = "org.glassbox.Glassbox1.Domain";

/// A client that takes file descriptors, which busctl does not.
const CLIENT: &str = include_str!("console.py");

/// How the test guest shows that it lives, `tests/guest/init`.
const TICK: &str = "GLASSBOX-GUEST-TICK";

fn a_console_and_the_agent_are_reached_over_d_bus(root: Root) -> Result<()> {
    let host =
        Setup::new(root).product()?.packages("dbus-client", &["python3-dbus"])?.guest()?.boot()?;
    host.write_file("/root/console.py", CLIENT)?;
    let web = Definition::new("web")?;
    web.install(&host)?;
    host.reload()?;
    let path = format!("/org/glassbox/Glassbox1/domain/{}", web.uuid().replace('-', "_"));
    shutoff(&host, &path)?;
    host.start_guest("web")?;
    host.wait_for_console("web", guest::READY, 1)?;
    types(&host, &path, "typed-by-fd")?;
    agent_answers(&host, &path)?;
    let account = host.unit("qemu@web.service").show(["User", "DynamicUser"])?;
    eprintln!("the guest's account: {account:?}");

    let [former] = host.unit("glassboxd.service").show(["MainPID"])?;
    host.sh(&format!("kill -KILL {former}"))?;
    host.wait_for("a new daemon", PATIENCE, || {
        let now = host.unit("glassboxd.service").show(["ActiveState", "MainPID"]);
        now.is_ok_and(|[state, pid]| state == "active" && pid != former && pid != "0")
    })?;
    types(&host, &path, "typed-after-a-kill")?;
    agent_answers(&host, &path)?;
    let said = host.unit("qemu@web.service").journal()?;
    ensure!(!said.contains("the management daemon is gone"), "a request is no end: {said}");

    // The guest ends by its agent's hand, and is defined still.
    call(&host, &path, "AgentCommand", &["ssu", "guest-shutdown", "", "0"])?;
    host.unit("qemu@web.service").wait("inactive")?;
    shutoff(&host, &path)
}

/// A guest that is defined and does not run has an object, and no console.
fn shutoff(host: &Host, path: &str) -> Result<()> {
    host.wait_for("the guest to be shut off", PATIENCE, || {
        let words = ["busctl", "get-property", NAME, path, DOMAIN, "State"];
        host.run(words).is_ok_and(|told| told.stdout.trim() == "s \"shutoff\"")
    })?;
    let refused = call(host, path, "OpenConsole", &["s", ""]).err().context("it is refused")?;
    ensure!(refused.to_string().contains("guest 'web' does not run"), "{refused}");
    Ok(())
}

/// A line is typed on the console, echoed by the guest's kernel, and nobody else has the console meanwhile.
fn types(host: &Host, path: &str, line: &str) -> Result<()> {
    let said = host.run(["python3", "/root/console.py", path, line, TICK])?.success()?.stdout;
    let refused = "guest 'web': serial0 is open already; close it there first";
    ensure!(said.lines().next() == Some(refused), said);
    ensure!(said.contains(line) && said.contains(TICK), said);
    Ok(())
}

fn agent_answers(host: &Host, path: &str) -> Result<()> {
    host.wait_for("the agent to answer", PATIENCE, || {
        let ping = call(host, path, "AgentCommand", &["ssu", "guest-ping", "", "5"]);
        ping.is_ok_and(|answer| answer.trim() == "s \"{}\"")
    })?;
    let info = call(host, path, "AgentCommand", &["ssu", "guest-info", "", "0"])?;
    ensure!(info.contains("guest-sync-delimited"), info);
    let refused = call(host, path, "AgentCommand", &["ssu", "guest-nonsense", "", "0"]);
    let refused = refused.err().context("it is refused")?.to_string();
    ensure!(refused.contains("its guest agent refuses: "), refused);
    Ok(())
}

fn call(host: &Host, path: &str, method: &str, words: &[&str]) -> Result<String> {
    let fixed = ["busctl", "call", NAME, path, DOMAIN, method];
    Ok(host.run(fixed.into_iter().chain(words.iter().copied()))?.success()?.stdout)
}
