//! Faulty definitions: each is its own unit's failure and nobody else's.

use std::time::Duration;

use anyhow::Result;
use tests::{Definition, Host, Root, definition};

tests::on_each_root!(a_fault_fails_its_own_unit_with_the_place_and_nothing_else);

/// The exit status of glassbox-qemu(1) for a definition with faults.
const DEFINITION: (&str, i32) = ("exit-code", 3);

/// Makes a faulty definition of a sound one.
type Break = fn(Definition) -> Result<Definition>;

/// A faulty definition.
struct Fault {
    name: &'static str,
    make: Break,
    /// The text of the definition that the message's place is of.
    at: &'static str,
    /// The message after the place: the path, what is wrong, and what to do.
    message: &'static str,
}

const FAULTS: [Fault; 5] = [
    Fault {
        name: "open",
        make: |sound| sound.replace("</domain>", ""),
        at: "<domain",
        message: "not well-formed XML: <domain> is never closed; add </domain>",
    },
    Fault {
        name: "network",
        make: |sound| {
            sound.replace("<domain type=\"qemu\">", "<network>")?.replace("</domain>", "</network>")
        },
        at: "<network>",
        message: "/network: the root element is <network>; give a <domain>",
    },
    Fault {
        name: "nameless",
        make: |sound| sound.replace("  <name>nameless</name>\n", ""),
        at: "<domain",
        message: "/domain: <name> is missing; add one such as <name>web</name>",
    },
    Fault {
        name: "unknown",
        make: |sound| sound.replace("<on_crash>destroy", "<on_crash>explode"),
        at: "<on_crash>",
        message: "/domain/on_crash: 'explode' is not known; use one of destroy, restart, preserve, \
                  rename-restart, coredump-destroy, coredump-restart",
    },
    Fault {
        name: "mine",
        make: |sound| sound.replace("<name>mine<", "<name>yours<"),
        at: "<name>",
        message: "/domain/name: the name is 'yours' but the file is 'mine.xml'; \
                  rename the file or change the name",
    },
];

fn a_fault_fails_its_own_unit_with_the_place_and_nothing_else(root: Root) -> Result<()> {
    let mut host = Host::boot(root)?;
    Definition::new("sound")?.install(&host)?;
    host.systemctl(["enable", "qemu@sound"])?.success()?;
    host.reload()?;
    let before = host.systemctl(["is-system-running"])?.stdout;
    let sound = host.start_guest("sound")?;
    let processes = sound.processes()?;
    let mut definitions = Vec::new();
    for fault in &FAULTS {
        let broken = (fault.make)(Definition::new(fault.name)?)?;
        broken.install(&host)?;
        definitions.push(broken);
    }
    generator_is_calm(&host)?;
    host.reload()?;
    assert_eq!(host.systemctl(["is-system-running"])?.stdout, before);
    for (Fault { name, at, message, .. }, broken) in FAULTS.iter().zip(&definitions) {
        let place = broken.place(at)?;
        fails_with(
            &host,
            name,
            &format!("{}/{name}.xml:{place}: {message}", definition::DEFINITIONS),
        )?;
    }
    assert_eq!(sound.processes()?, processes, "the sound guest goes on");
    sound.quit()?;

    // The first of them is to start at boot: its unit fails again, the boot and the sound guest are untouched.
    host.sh(
        "mkdir -p /etc/glassbox/qemu/autostart; ln -s ../open.xml /etc/glassbox/qemu/autostart/",
    )?;
    host.reboot()?;
    host.unit("qemu@sound.service").wait("active")?;
    assert_eq!(host.unit("multi-user.target").state()?, "active");
    host.unit("qemu@open.service").wait("failed")?;
    let failed = host.systemctl(["--failed", "--no-legend", "--plain"])?.stdout;
    assert_eq!(failed.split_whitespace().next(), Some("qemu@open.service"), "{failed}");
    assert_eq!(failed.lines().count(), 1, "{failed}");
    Ok(())
}

fn fails_with(host: &Host, name: &str, line: &str) -> Result<()> {
    let unit = host.unit(&format!("qemu@{name}.service"));
    let start = host.command(["systemctl", "start", unit.name()]).limit(Duration::from_secs(10));
    assert_eq!(start.output()?.status, 1, "{name}");
    assert_eq!(
        (unit.state()?, unit.outcome()?),
        ("failed".into(), (DEFINITION.0.into(), DEFINITION.1))
    );
    assert_eq!(unit.status_line()?, line);
    assert_eq!(unit.messages()?, [line], "one line, and no other");
    Ok(())
}

/// The generator, called as systemd does, tells each fault and fails for none.
fn generator_is_calm(host: &Host) -> Result<()> {
    let script = "mkdir /tmp/generated /tmp/early /tmp/late
        /usr/lib/systemd/system-generators/glassbox-generator /tmp/generated /tmp/early /tmp/late
        ls /tmp/generated";
    let run = host.sh(script)?;
    // It reads no more than the heads of definitions; what else is wrong is the shim's to tell.
    for Fault { name, .. } in FAULTS.iter().filter(|fault| fault.name != "unknown") {
        assert!(run.stdout.contains(&format!("qemu@{name}.service.d\n")), "{}", run.stdout);
        let place = format!("{}/{name}.xml:", definition::DEFINITIONS);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!(run.stderr.contains(&place), "{}", run.stderr);
    }
    Ok(())
}
