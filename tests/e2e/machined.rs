//! Guests as machines of systemd-machined, controlled by stock tools over Varlink.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Definition, Host, Output, PATIENCE, Root, Unit, guest};

tests::on_root!(forky, Forky, machinectl_controls_a_guest_by_its_socket);
tests::on_root!(trixie, Trixie, a_control_socket_is_served_where_machined_knows_none);

const SOCKET: &str = "/run/glassbox/machine/web";
const MACHINED: &str = "/run/systemd/machine/io.systemd.Machine";
const INSTANCE: &str = "io.systemd.MachineInstance";

fn machinectl_controls_a_guest_by_its_socket(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let processes = unit.processes()?;
    is_the_machine(&host, processes.0)?;
    let listed = varlink(&host, MACHINED, "io.systemd.Machine.List", "{\"name\":\"web\"}")?;
    assert_eq!(json(&listed)?["controlAddress"], SOCKET, "{}", listed.stdout);
    host.wait_for_console("web", guest::READY, 1)?;

    machinectl(&host, "pause")?;
    assert_eq!(status(&host)?, "paused");
    machinectl(&host, "resume")?;
    assert_eq!(status(&host)?, "running");
    machinectl(&host, "reboot")?;
    host.wait_for_console("web", guest::READY, 2)?;
    assert_eq!(unit.processes()?, processes, "a reboot keeps QEMU");

    // The address is served again by a daemon that was killed, and machined that was restarted knows it still.
    host.systemctl(["kill", "--signal=KILL", "glassboxd"])?.success()?;
    host.wait_for("the socket of a new daemon", PATIENCE, || status(&host).is_ok())?;
    host.systemctl(["restart", "systemd-machined"])?.success()?;
    host.wait_for("machined to know the guest", PATIENCE, || machinectl(&host, "pause").is_ok())?;
    machinectl(&host, "resume")?;
    assert_eq!(unit.processes()?, processes);

    machinectl(&host, "poweroff")?;
    ends_by_its_power_button(&host, &unit)?;
    host.start_guest("web")?;
    host.wait_for_console("web", guest::READY, 1)?;
    machinectl(&host, "terminate")?;
    ends_by_its_power_button(&host, &unit)?;
    let gone = machinectl(&host, "pause").err().context("there is no such machine")?;
    ensure!(gone.to_string().contains("NoSuchMachine"), "{gone}");
    Ok(())
}

/// What machined and machinectl show.
fn is_the_machine(host: &Host, leader: u32) -> Result<()> {
    let machine = host.machine("web")?;
    let uuid = Definition::new("web")?.uuid().replace('-', "");
    for (property, value) in [
        ("Id", uuid.as_str()),
        ("Class", "vm"),
        ("Service", "glassbox"),
        ("Unit", "qemu@web.service"),
        ("Leader", &leader.to_string()),
    ] {
        assert_eq!(machine[property], value, "{property}");
    }
    let row = ["web", "vm", "glassbox"].map(str::to_owned);
    assert!(host.machines()?.contains(&row));
    let status = host.run(["machinectl", "--no-pager", "status", "web"])?.success()?.stdout;
    ensure!(status.contains("qemu@web.service"), "{status}");
    Ok(())
}

fn a_control_socket_is_served_where_machined_knows_none(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("web")?.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    is_the_machine(&host, unit.processes()?.0)?;
    host.wait_for_console("web", guest::READY, 1)?;
    assert_eq!(status(&host)?, "running");
    follow(&host)?;
    call(&host, "Pause", "{}")?.success()?;
    assert_eq!(status(&host)?, "paused");
    call(&host, "Resume", "{}")?.success()?;
    told(&host, ["READY", "STOP", "RESUME"])?;
    let shown = host.run(["varlinkctl", "introspect", SOCKET, INSTANCE])?.success()?.stdout;
    ensure!(shown.contains("method PowerOff() -> ()"), "{shown}");

    for (method, arguments, error) in [
        ("ReplaceStorage", "{}", "io.systemd.MachineInstance.NotSupported"),
        ("SubscribeEvents", "{}", "org.varlink.service.ExpectedMore"),
        ("Pause", "{\"a\":1}", "org.varlink.service.InvalidParameter"),
        ("Explode", "{}", "org.varlink.service.MethodNotFound"),
    ] {
        refuses(&call(&host, method, arguments)?, error)?;
    }
    let as_other = |method: &str| {
        let name = format!("{INSTANCE}.{method}");
        host.command(["varlinkctl", "call", SOCKET, &name, "{}"]).user("nobody").output()
    };
    for method in ["Pause", "SubscribeEvents", "AddStorage", "RemoveStorage"] {
        refuses(&as_other(method)?, "org.varlink.service.PermissionDenied")?;
    }
    assert_eq!(json(&as_other("Describe")?)?["status"], "running", "reading is free");

    call(&host, "PowerOff", "{}")?.success()?;
    ends_by_its_power_button(&host, &unit)?;
    told(&host, ["READY", "STOP", "RESUME", "POWERDOWN"])?;
    host.unit("events.service").wait("inactive")?;
    assert!(!host.exists(SOCKET)?);
    host.wait_for_no_machine()
}

/// Has the guest's events told to a file, until it is hung up on.
fn follow(host: &Host) -> Result<()> {
    let method = format!("{INSTANCE}.SubscribeEvents");
    let filter = "{\"filter\":[\"STOP\",\"RESUME\",\"POWERDOWN\"]}";
    let output = "--property=StandardOutput=file:/root/events";
    let words = ["systemd-run", "--unit=events", "--property=SuccessExitStatus=1", output];
    let client = ["varlinkctl", "-E", "--json=short", "call", SOCKET, &method, filter];
    host.run(words.iter().chain(&client))?.success()?;
    told(host, ["READY"])
}

/// Waits until the client was told these events first.
fn told<const N: usize>(host: &Host, events: [&str; N]) -> Result<()> {
    let name = |line: &str| -> Option<String> {
        // A JSON text sequence, RFC 7464.
        let told: Value = serde_json::from_str(line.trim_start_matches('\u{1e}')).ok()?;
        Some(told["event"].as_str()?.to_owned())
    };
    host.wait_for(&format!("the client to be told {events:?}"), PATIENCE, || {
        let lines = host.read("/root/events").unwrap_or_default();
        let names: Vec<String> = lines.lines().filter_map(name).collect();
        names.starts_with(&events.map(str::to_owned))
    })
}

fn refuses(answer: &Output, error: &str) -> Result<()> {
    ensure!(answer.status != 0 && answer.stderr.contains(error), "{error}: {answer:?}");
    Ok(())
}

fn ends_by_its_power_button(host: &Host, unit: &Unit<'_>) -> Result<()> {
    unit.wait("inactive")?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    let console = host.console("web");
    assert_eq!(console.matches(guest::POWERDOWN).count(), 1, "{console}");
    Ok(())
}

fn machinectl(host: &Host, verb: &str) -> Result<()> {
    host.run(["machinectl", verb, "web"])?.success().map(drop)
}

/// The state that the control socket tells.
fn status(host: &Host) -> Result<String> {
    let told = json(&call(host, "Describe", "{}")?.success()?)?;
    Ok(told["status"].as_str().context("it has a state")?.to_owned())
}

fn call(host: &Host, method: &str, arguments: &str) -> Result<Output> {
    varlink(host, SOCKET, &format!("{INSTANCE}.{method}"), arguments)
}

fn varlink(host: &Host, socket: &str, method: &str, arguments: &str) -> Result<Output> {
    host.run(["varlinkctl", "--json=short", "call", socket, method, arguments])
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}
