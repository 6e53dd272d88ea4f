//! What a QEMU that was broken into can do to the host: nothing but what is its guest's own.

use anyhow::{Context, Result, ensure};
use tests::{Definition, Host, Root, Setup};

use crate::lan::{self, LEASE};

tests::on_root!(
    bookworm,
    Bookworm,
    a_qemu_that_was_broken_into_reaches_nothing,
    images_stay_their_owners_and_are_open_to_their_guests
);

tests::on_root!(
    trixie,
    Trixie,
    a_qemu_that_was_broken_into_reaches_nothing,
    images_stay_their_owners_and_are_open_to_their_guests,
    guests_are_exposed_as_little_as_their_definitions_allow,
    root_goes_by_nothing_that_a_guest_may_have_written,
    a_reload_is_led_nowhere_by_the_guests_monitor,
    a_guest_that_systemd_does_not_know_yet_is_refused,
);

/// The stand-in for a QEMU that was broken into.
const HOSTILE: &str = include_str!("hostile-qemu.pl");

/// Where it is in the container.
const EMULATOR: &str = "/usr/local/bin/hostile-qemu";

/// What the stand-in must be able to do.
const OWN: [&str; 3] =
    ["own image is open for writing", "own runtime directory is writable", "programs can be read"];

/// How many attempts beyond that it makes.
const ATTEMPTS: usize = 36;

fn a_qemu_that_was_broken_into_reaches_nothing(root: Root) -> Result<()> {
    let host = Setup::new(root).product()?.guest()?.file(EMULATOR, HOSTILE, 0o755).boot()?;
    // In the reach of all but for the sandbox: what others may read, and homes.
    host.sh("useradd --create-home alice; mkdir -p /home/alice /root/x; touch /root/x/y")?;
    Definition::new("other")?.install(&host)?;
    let web = Definition::new("web")?
        .replace(
            "<interface type=\"user\">",
            "<interface type=\"bridge\"><source bridge=\"br0\"/>",
        )?
        .replace("/usr/bin/qemu-system-x86_64", EMULATOR)?;
    web.install(&host)?;
    private(&host, &web)?;
    lan::start(&host, &[], &[])?;
    host.reload()?;
    host.start_guest("other")?;
    let unit = host.unit("qemu@web.service");
    ensure!(host.systemctl(["start", unit.name()])?.status == 1, "the stand-in runs no guest");
    let journal = unit.journal()?;
    ensure!(journal.contains("ATTEMPTS END"), "it did not try all:\n{journal}");
    let attempts: Vec<&str> =
        journal.lines().filter_map(|line| line.split_once("ATTEMPT ").map(|it| it.1)).collect();
    let (achieved, refused): (Vec<&str>, Vec<&str>) =
        attempts.iter().partition(|attempt| attempt.ends_with(": achieved"));
    let own = OWN.map(|name| format!("{name}: achieved"));
    assert_eq!(achieved, own, "beside {refused:#?}");
    assert_eq!(refused.len(), ATTEMPTS, "{refused:#?}");
    let told = unit.status_line()?;
    assert!(!told.contains("taken over"), "{told}");
    // The one that it could hurt by its own account runs on.
    let other = host.unit("qemu@other.service");
    assert_eq!(other.state()?, "active");
    other.quit()
}

/// Makes the guest's disk root's alone.
fn private(host: &Host, definition: &Definition) -> Result<()> {
    let script = format!("chown root:root {0}; chmod 0600 {0}", definition.disk());
    host.sh(&script).map(|_| ())
}

fn images_stay_their_owners_and_are_open_to_their_guests(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    // Two guests on layers of their own above one base, firmware with variables of its own, a disk of the host's.
    let images = "/root/images";
    host.sh(&format!(
        "mkdir -m 0700 {images}; cd {images}; qemu-img create -q -f qcow2 base 64M
         for name in web db; do qemu-img create -q -f qcow2 -F qcow2 -b {images}/base $name; done
         truncate -s 1M raw; truncate -s 4M code vars-template; chmod 0600 *"
    ))?;
    let block = loop_device(&host, &format!("{images}/raw"))?;
    for name in ["web", "db"] {
        layered(name, images, (name == "web").then_some(block.as_str()))?.install(&host)?;
    }
    let owners = || -> Result<String> {
        Ok(host.sh(&format!("stat -c '%n %u:%g %a' {images}/* {block} {images}/vars"))?.stdout)
    };
    host.sh(&format!("cp {images}/vars-template {images}/vars; rm {images}/vars"))?;
    host.reload()?;
    let units = [host.start_guest("web")?, host.start_guest("db")?];
    let running = owners()?;
    // The kernel frees it when its last user closes it.
    host.run(["losetup", "--detach", &block])?.success()?;
    let mut accounts = Vec::new();
    for unit in &units {
        let (shim, qemu) = unit.processes()?;
        let account = |pid| -> Result<String> { Ok(host.process(pid)?["Uid"].clone()) };
        assert_eq!(account(shim)?, account(qemu)?);
        let network = host.sh(&format!("readlink /proc/{qemu}/ns/net /proc/1/ns/net"))?.stdout;
        let spaces: Vec<&str> = network.lines().collect();
        assert_ne!(spaces[0], spaces[1], "QEMU is in the host's network");
        accounts.push(account(qemu)?);
    }
    assert_ne!(accounts[0], accounts[1], "each guest has an account of its own");
    let (_, qemu) = units[0].processes()?;
    let open = host.sh(&format!("readlink /proc/{qemu}/fd/*"))?.stdout;
    for path in ["base", "web", "code", "vars"].map(|name| format!("{images}/{name}")) {
        assert!(open.lines().any(|line| line == path), "{path} is not in\n{open}");
    }
    assert!(open.lines().any(|line| line == block), "{block} is not in\n{open}");
    for unit in &units {
        unit.quit()?;
    }
    assert_eq!(owners()?, running, "nothing changed its owner");
    for line in running.lines().filter(|line| line.starts_with(images)) {
        assert!(line.ends_with(" 0:0 600"), "{line}");
    }
    Ok(())
}

/// A disk of the host's, which a container does not make by itself. Other containers look for free ones as well.
pub(crate) fn loop_device(host: &Host, file: &str) -> Result<String> {
    let script = format!(
        "for number in $(seq 0 7); do
             device=/dev/loop$number
             [ -e $device ] || mknod -m 0600 $device b 7 $number
             losetup $device {file} 2>/dev/null && echo $device && exit
         done; exit 1"
    );
    Ok(host.sh(&script)?.stdout.trim().to_owned())
}

/// A guest on a layer above the base, with firmware in flash if it has a disk of the host's.
fn layered(name: &str, images: &str, block: Option<&str>) -> Result<Definition> {
    let definition = Definition::new(name)?;
    let disk = format!("<source file=\"{}\"/>", definition.disk());
    let backing = format!(
        "<source file=\"{images}/{name}\"/><backingStore type=\"file\"><format type=\"qcow2\"/>
         <source file=\"{images}/base\"/><backingStore/></backingStore>"
    );
    let definition = lan::with_interface(definition, "<interface type=\"ethernet\">")?
        .replace(&disk, &backing)?;
    let Some(block) = block else { return Ok(definition) };
    let firmware = format!(
        "<loader readonly=\"yes\" type=\"pflash\">{images}/code</loader>
         <nvram template=\"{images}/vars-template\">{images}/vars</nvram></os>"
    );
    let raw = format!(
        "<disk type=\"block\"><driver name=\"qemu\" type=\"raw\" cache=\"directsync\"/><source dev=\"{block}\"/>
         <target dev=\"vdb\" bus=\"virtio\"/></disk><controller type=\"usb\""
    );
    // One uses the host's cache of what both lie on, and one does not.
    definition
        .replace(
            "<driver name=\"qemu\" type=\"qcow2\"",
            "<driver name=\"qemu\" type=\"qcow2\" cache=\"none\" io=\"native\"",
        )?
        .replace("</os>", &firmware)?
        .replace("<controller type=\"usb\"", &raw)
}

/// The most that `systemd-analyze security` may say, and what a definition has for it.
fn guests_are_exposed_as_little_as_their_definitions_allow(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, &[], &[])?;
    let bridged = "<interface type=\"bridge\"><source bridge=\"br0\"/>";
    let web = lan::with_interface(Definition::new("web")?, bridged)?;
    web.install(&host)?;
    private(&host, &web)?;
    Definition::new("user")?.install(&host)?;
    host.reload()?;
    for (name, most) in [("web", 1.0), ("user", 2.0)] {
        let exposure = exposure(&host, &format!("qemu@{name}.service"))?;
        eprintln!("qemu@{name}: exposure {exposure}");
        assert!(exposure <= most, "{name}: {exposure} is more than {most}");
    }
    // A tap device of root's making and VNC on a Unix socket, with a QEMU that is alone in its network.
    let unit = host.start_guest("web")?;
    host.wait_for_console("web", LEASE, 1)?;
    let (_, qemu) = unit.processes()?;
    let open = host.sh(&format!("readlink /proc/{qemu}/fd/*; cat /proc/{qemu}/net/dev"))?.stdout;
    assert!(open.lines().any(|line| line == "/dev/net/tun"), "{open}");
    assert!(!open.contains("br0"), "{open}");
    host.sh("test -S /run/glassbox/guest/web/vnc.sock")?;
    host.systemctl(["stop", unit.name()])?.success()?;
    assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
    assert_eq!(lan::link(&host, "vnet0")?, "", "its tap device is gone with it");
    Ok(())
}

/// The figure of `systemd-analyze security`, 0 to 10.
pub(crate) fn exposure(host: &Host, unit: &str) -> Result<f64> {
    let told = host.run(["systemd-analyze", "security", "--no-pager", unit])?.success()?.stdout;
    let line = told.lines().last().context("it says nothing")?;
    let figure = line.split(&format!("{unit}: ")).nth(1).and_then(|rest| rest.split(' ').next());
    figure.with_context(|| line.to_owned())?.parse().with_context(|| line.to_owned())
}

/// A guest that broke out of its QEMU can write its image and its state. At its next start root reads neither.
fn root_goes_by_nothing_that_a_guest_may_have_written(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.sh("echo secret >/root/secret; chmod 0600 /root/secret")?;
    host.sh("truncate -s 4M /usr/share/code-image /usr/share/vars-image")?;
    let firmware = "<loader readonly=\"yes\" type=\"pflash\">/usr/share/code-image</loader>
        <nvram template=\"/usr/share/vars-image\"/></os>";
    let web = Definition::new("web")?.replace("</os>", firmware)?;
    web.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let vars = "/var/lib/glassbox/guest/web/nvram/web_VARS.fd";
    let owner = host.run(["stat", "--format=%u", vars])?.success()?.stdout;
    assert_ne!(owner, "0\n", "the guest's account made its own copy");
    unit.quit()?;

    // Links to what only root may open, in the place of the variables and of a copy in the making.
    for link in [vars.to_owned(), format!("{vars}.new")] {
        host.sh(&format!("rm -f {vars}; ln -sfn /root/secret {link}"))?;
        let started = host.systemctl(["start", unit.name()])?.status == 0;
        if started {
            let (_, qemu) = unit.processes()?;
            let open = host.sh(&format!("readlink /proc/{qemu}/fd/*"))?.stdout;
            assert!(!open.contains("/root/secret"), "{link}: {open}");
            unit.quit()?;
        }
        let secret = host.sh("cat /root/secret; stat -c '%u %a' /root/secret")?.stdout;
        assert_eq!(secret, "secret\n0 600\n", "{link}");
        host.sh(&format!("rm -f {link}"))?;
    }

    // An image that says itself that it is a layer of something.
    host.sh(&format!(
        "rm {0}; qemu-img create -q -f qcow2 -F raw -b /root/secret {0}; chmod 0600 {0}",
        web.disk()
    ))?;
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    let told = unit.status_line()?;
    let start = format!(
        "/etc/glassbox/qemu/web.xml:{}: /domain/devices/disk/source: the image is a layer of '/root/secret', which",
        web.place("<source file")?
    );
    assert!(told.starts_with(&start), "{told}");
    Ok(())
}

/// A program of the guest's account that listens where QEMU's monitor was. It begins as QEMU does, with `$1`, and then
/// says `$2` without end.
const FALSE_MONITOR: &str = r#"use Socket; my ($path, $first, $rest) = @ARGV; $SIG{PIPE} = "IGNORE";
unlink $path; socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($path)) or die; listen($s, 5);
while (accept(my $c, $s)) { syswrite $c, $first; 1 while $rest ne "" && syswrite($c, $rest); <$c> while !eof($c); }"#;

/// A guest that broke out of its QEMU owns the directory in which its monitor is.
fn a_reload_is_led_nowhere_by_the_guests_monitor(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.sh("truncate -s 1M /root/data; chmod 0600 /root/data")?;
    let definitions = ["web", "other"].map(Definition::new);
    for definition in definitions {
        definition?.install(&host)?;
    }
    host.reload()?;
    let unit = host.start_guest("web")?;
    host.start_guest("other")?;
    let disk = "<disk type=\"file\"><source file=\"/root/data\"/><target dev=\"vdb\" bus=\"virtio\"/></disk>
    <controller type=\"usb\"";
    let wanted = Definition::new("web")?.replace("<controller type=\"usb\"", disk)?;
    host.write_file("/etc/glassbox/qemu/web.xml", wanted.xml())?;
    host.reload()?;
    let live = host.read("/run/glassbox/live/web.xml")?;
    let [own, others] = ["web", "other"].map(|name| format!("/run/glassbox/guest/{name}/monitor"));
    let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}"#;
    let event = r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#;
    let listens = |first: &str, rest: &str| {
        format!(
            "uid=$(stat -c %u $(dirname {own})); echo '{FALSE_MONITOR}' >/tmp/monitor.pl
             systemctl stop false-monitor || :; rm -f {own}
             systemd-run --quiet --collect --unit=false-monitor setpriv --reuid=$uid --regid=$uid --clear-groups \\
                 perl /tmp/monitor.pl {own} '{first}' '{rest}'
             until [ -S {own} ]; do sleep 0.1; done; sleep 1"
        )
    };
    for (trick, told) in [
        (format!("ln -sfn {others} {own}"), "it is no socket"),
        (format!("ln -f {others} {own}"), "listens there, and not the guest's account"),
        (format!("rm {own}; mkfifo {own}"), "it is no socket"),
        (listens(&format!("{greeting}\n"), ""), "QEMU has not answered in time"),
        (listens(&format!("{greeting}\n"), &format!("{event}\n")), "QEMU has not answered in time"),
        (listens("", "x"), "QEMU sent a line of more than 1048576 bytes"),
    ] {
        host.sh(&trick)?;
        let failed = host.systemctl(["reload", unit.name()])?;
        assert_eq!(failed.status, 1, "{trick}");
        let messages = unit.messages()?;
        ensure!(
            messages.iter().rev().take(2).any(|line| line.contains(told)),
            "{trick}\n{messages:?}"
        );
        assert_eq!(host.read("/run/glassbox/live/web.xml")?, live, "{trick}");
        assert_eq!(unit.state()?, "active", "{trick}");
    }
    let nodes = host.qmp("other", "query-named-block-nodes")?;
    ensure!(!nodes.contains("/root/data") && !nodes.contains("fdset/1"), "{nodes}");
    host.unit("qemu@other.service").quit()
}

fn a_guest_that_systemd_does_not_know_yet_is_refused(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    Definition::new("new")?.install(&host)?;
    let unit = host.unit("qemu@new.service");
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    assert_eq!(
        unit.status_line()?,
        "/etc/glassbox/qemu/new.xml: the service manager does not know the definition yet; run `systemctl daemon-reload`"
    );
    host.reload()?;
    host.start_guest("new")?.quit()
}
