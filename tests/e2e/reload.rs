//! A running guest that becomes what its definition says: `systemctl reload`, and devices by D-Bus.

use anyhow::{Context, Result, ensure};
use tests::{Definition, Host, PATIENCE, Root, Setup, Unit, definition};

use crate::manage::{DOMAIN, MANAGER, ROOT, call, ends, text};
use crate::{lan, manage};

tests::on_root!(
    trixie,
    Trixie,
    a_reload_makes_a_guest_what_its_definition_says,
    a_reload_that_fails_leaves_the_guest_as_it_was,
    devices_come_and_go_by_d_bus,
    reloads_know_what_d_bus_has_set,
);

/// A host whose guests take CPUs into use that come later.
pub(crate) fn boot(root: Root) -> Result<Host> {
    Setup::new(root).product()?.guest_of(Root::Bookworm)?.boot()
}

/// A folder that only root opens.
pub(crate) const PRIVATE: &str = "/srv/private";

/// What a guest with the word `glassbox.inventory` says.
pub(crate) const HAS: &str = "GLASSBOX-GUEST-HAS ";

/// Room for CPUs and memory, and a drive for media.
fn definition() -> Result<Definition> {
    let drive = "<disk type=\"file\" device=\"cdrom\"><source file=\"/srv/private/one.iso\"/>
      <target dev=\"sda\" bus=\"sata\"/></disk>
    <controller type=\"usb\"";
    let numa =
        "<cpu mode=\"maximum\"><numa><cell id=\"0\" cpus=\"0-3\" memory=\"262144\"/></numa></cpu>";
    Definition::new("web")?
        .word("glassbox.inventory")?
        .replace(
            "<vcpu>1<",
            "<maxMemory slots=\"4\" unit=\"GiB\">2</maxMemory>\n  <vcpu current=\"1\">4<",
        )?
        .replace("<cpu mode=\"maximum\"/>", numa)?
        .replace("<controller type=\"usb\"", drive)
}

/// Images of root's that nobody else may open: a word, and zeroes behind it.
fn make_images(host: &Host) -> Result<()> {
    host.sh(&format!(
        "mkdir -m 0700 {PRIVATE}; cd {PRIVATE}
         for word in one two data more; do printf \"$word-\" >$word; truncate -s 8M $word; chmod 0600 $word; done
         mv one one.iso; mv two two.iso
         qemu-img convert -q -f raw -O qcow2 more base.qcow2
         qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 layer.qcow2; chmod 0600 *"
    ))?;
    Ok(())
}

/// A disk of a definition.
pub(crate) fn disk(target: &str, format: &str, file: &str, below: &str) -> String {
    format!(
        "<disk type=\"file\" device=\"disk\"><driver name=\"qemu\" cache=\"none\" type=\"{format}\"/>\
         <source file=\"{PRIVATE}/{file}\"/>{below}<target dev=\"{target}\" bus=\"virtio\"/></disk>"
    )
}

/// Puts the definition into its file, and has systemd read it and reload the unit.
pub(crate) fn become_(host: &Host, web: &Definition) -> Result<tests::Output> {
    host.write_file(&format!("{}/web.xml", definition::DEFINITIONS), web.xml())?;
    host.reload()?;
    host.systemctl(["reload", "qemu@web"])
}

/// Waits until the guest says that it has all of these and none of those.
pub(crate) fn wait_for(host: &Host, has: &[&str], lacks: &[&str]) -> Result<()> {
    host.wait_for(&format!("the guest to have {has:?} and not {lacks:?}"), PATIENCE * 2, || {
        let console = host.console("web");
        let last = console.lines().rev().find_map(|line| line.split_once(HAS));
        let Some((_, parts)) = last else { return false };
        let words: Vec<&str> = parts.split_whitespace().collect();
        has.iter().all(|part| words.contains(part))
            && !lacks.iter().any(|part| words.contains(part))
    })
}

/// The files below [`PRIVATE`] that QEMU has open.
pub(crate) fn open_files(host: &Host, unit: &Unit<'_>) -> Result<Vec<String>> {
    let (_, qemu) = unit.processes()?;
    let listed =
        host.sh(&format!("ls -l /proc/{qemu}/fd | grep -o '{PRIVATE}/.*' | sort -u || :"))?;
    Ok(listed.stdout.lines().filter_map(|line| Some(line.rsplit('/').next()?.to_owned())).collect())
}

/// How many CPUs QEMU has. When the guest's kernel takes them into use is its own affair.
pub(crate) fn cpus(host: &Host) -> Result<usize> {
    Ok(host.qmp("web", "query-cpus-fast")?.matches("cpu-index").count())
}

pub(crate) fn live(host: &Host) -> Result<String> {
    host.read("/run/glassbox/live/web.xml")
}

fn a_reload_makes_a_guest_what_its_definition_says(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, &[], &[])?;
    let (web, unit) = started(&host)?;
    wait_for(&host, &["vda:", "sr0:one-", "eth0", "cpus:1", "memory:256"], &[])?;
    let started = live(&host)?;
    let (shim, qemu) = unit.processes()?;

    // Nothing has changed, and nothing changes.
    become_(&host, &web)?.success()?;
    assert_eq!(live(&host)?, started);

    // Everything comes that can come, and what cannot is told with its place.
    let below = format!(
        "<backingStore type=\"file\"><format type=\"qcow2\"/><source file=\"{PRIVATE}/base.qcow2\"/><backingStore/></backingStore>"
    );
    let devices = format!(
        "{}\n    {}\n    \
         <interface type=\"bridge\"><mac address=\"52:54:00:00:00:77\"/><source bridge=\"br0\"/><model type=\"virtio\"/></interface>\n    \
         <memory model=\"dimm\"><target><size unit=\"MiB\">128</size><node>0</node></target></memory>\n    \
         <controller type=\"usb\"",
        disk("vdb", "raw", "data", ""),
        disk("vdc", "qcow2", "layer.qcow2", &below),
    );
    let more = web
        .clone()
        .replace("<controller type=\"usb\"", &devices)?
        .replace("current=\"1\">4", "current=\"3\">4")?
        .replace("/one.iso", "/two.iso")?
        .replace("<on_crash>destroy", "<on_crash>restart")?;
    become_(&host, &more)?.success()?;
    let parts = ["vdb:data-", "vdc:more-", "sr0:two-", "eth1", "memory:384"];
    wait_for(&host, &parts, &[])?;
    assert_eq!(unit.processes()?, (shim, qemu), "in the same QEMU");
    assert_eq!(cpus(&host)?, 3);
    assert_eq!(open_files(&host, &unit)?, ["base.qcow2", "data", "layer.qcow2", "two.iso"]);
    let owners = host.sh(&format!("stat -c '%U %a' {PRIVATE}/* | sort -u"))?;
    assert_eq!(owners.stdout, "root 600\n", "images stay their owner's");
    assert!(lan::link(&host, "vnet0")?.contains("master br0"), "the tap device is on its bridge");
    let told = format!(
        "{}/web.xml:{}: /domain/on_crash: needs a restart of the guest",
        definition::DEFINITIONS,
        more.place("<on_crash>")?
    );
    ensure!(unit.messages()?.contains(&told), "{told} is not among {:?}", unit.messages()?);
    let now = live(&host)?;
    for part in ["virtio-disk1", "virtio-disk2", "net1", "dimm0", "current='3'", "two.iso"] {
        ensure!(now.contains(part), "{part} is not in {now}");
    }
    ensure!(now.contains("<on_crash>destroy<"), "what needs a restart is not in it: {now}");

    // And goes again, but for memory, which the guest's kernel may keep.
    let fewer = more
        .replace(&format!("{}\n    ", disk("vdb", "raw", "data", "")), "")?
        .replace(&format!("{}\n    ", disk("vdc", "qcow2", "layer.qcow2", &below)), "")?
        .replace(
            "<interface type=\"bridge\"><mac address=\"52:54:00:00:00:77\"/>",
            "<interface type=\"bridge\"><mac address=\"52:54:00:00:00:78\"/>",
        )?
        .replace("<on_crash>restart", "<on_crash>destroy")?;
    become_(&host, &fewer)?.success()?;
    wait_for(&host, &["vda:", "sr0:two-"], &["vdb:data-", "vdc:more-"])?;
    assert_eq!(open_files(&host, &unit)?, ["two.iso"]);
    let sets = host.qmp("web", "query-fdsets")?;
    ensure!(!sets.contains("vdb") && !sets.contains("vdc"), "QEMU keeps files: {sets}");
    let nodes = host.qmp("web", "query-named-block-nodes")?;
    ensure!(!nodes.contains("base.qcow2"), "QEMU keeps nodes: {nodes}");
    let mac = |number: u32| format!("fe:54:00:00:00:{number}");
    let links = host.run(["ip", "-oneline", "link"])?.stdout;
    ensure!(links.contains(&mac(78)) && !links.contains(&mac(77)), "{links}");

    host.systemctl(["stop", "qemu@web"])?.success()?;
    ensure!(!host.exists("/run/glassbox/live/web.xml")?, "it goes with the guest");
    let refused = host.systemctl(["reload", "qemu@web"])?;
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    Ok(())
}

/// The guest as it is defined at first, and its unit, which runs.
pub(crate) fn started(host: &Host) -> Result<(Definition, Unit<'_>)> {
    make_images(host)?;
    let web = definition()?;
    web.install(host)?;
    host.reload()?;
    Ok((web, host.start_guest("web")?))
}

fn a_reload_that_fails_leaves_the_guest_as_it_was(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let (web, unit) = started(&host)?;
    let before = live(&host)?;
    let sets = host.qmp("web", "query-fdsets")?;
    let with = |disk: &str| {
        web.clone()
            .replace("<controller type=\"usb\"", &format!("{disk}\n    <controller type=\"usb\""))
    };
    let missing = with(&disk("vdb", "raw", "missing", ""))?;
    let no_image = with(&disk("vdb", "qcow2", "data", ""))?;
    let twice = with(&disk("vda", "raw", "data", ""))?;
    for (changed, place, words) in [
        (
            &missing,
            "<source file=\"/srv/private/missing",
            "'/srv/private/missing' does not exist; create it or correct the path",
        ),
        (&no_image, "<disk type=\"file\" device=\"disk\"><driver", "Image is not in qcow2 format"),
        (&twice, "<disk type=\"file\" device=\"disk\"><driver", "another disk has this target"),
    ] {
        let failed = become_(&host, changed)?;
        assert_eq!(failed.status, 1, "{words}");
        assert_eq!(unit.state()?, "active");
        let told = unit.messages()?.pop().context("the failure is told")?;
        let start = format!("{}/web.xml:{}: ", definition::DEFINITIONS, changed.place(place)?);
        ensure!(
            told.starts_with(&start) && told.contains(words),
            "{told}\nis not {start}..{words}"
        );
        assert_eq!(live(&host)?, before, "{words}");
        assert_eq!(host.qmp("web", "query-fdsets")?, sets, "{words}");
        assert_eq!(open_files(&host, &unit)?, ["one.iso"], "{words}");
    }
    // What stands beside a step that fails is done.
    let half = missing.replace("current=\"1\">4", "current=\"2\">4")?;
    assert_eq!(become_(&host, &half)?.status, 1);
    ensure!(live(&host)?.contains("current='2'"), "the CPU is there");
    assert_eq!(cpus(&host)?, 2, "and QEMU has it");
    Ok(())
}

fn devices_come_and_go_by_d_bus(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let (web, unit) = started(&host)?;
    manage::follow_signals(&host)?;
    let path = text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", "web"])?)?;
    let change = |method: &str, xml: &str, flags: &str, result: &str| {
        let job = call(&host, &path, DOMAIN, method, &["su", xml, flags])?;
        ends(&host, &job, result)
    };
    let data = disk("vdb", "raw", "data", "");
    let file = format!("{}/web.xml", definition::DEFINITIONS);

    // The running guest only.
    change("AttachDevice", &data, "1", "done")?;
    wait_for(&host, &["vdb:data-"], &[])?;
    assert_eq!(host.read(&file)?, web.xml());
    let xml = |live| text(&call(&host, &path, DOMAIN, "GetXML", &["b", live])?);
    let live_xml = || xml("true");
    ensure!(live_xml()?.contains("virtio-disk1"), "{}", live_xml()?);
    let told = change("AttachDevice", &data, "1", "failed")?;
    ensure!(told.contains("the guest has a disk 'vdb' already"), "{told}");
    change("DetachDevice", &data, "1", "done")?;
    wait_for(&host, &["vda:"], &["vdb:data-"])?;
    assert_eq!(open_files(&host, &unit)?, ["one.iso"]);

    // Both, and by a daemon that was killed meanwhile.
    host.sh("kill -9 $(systemctl show --value --property=MainPID glassboxd)")?;
    manage::forget_signals(&host)?;
    host.wait_for("the next daemon to know the guest", PATIENCE, || live_xml().is_ok())?;
    change("AttachDevice", &data, "3", "done")?;
    wait_for(&host, &["vdb:data-"], &[])?;
    let kept = host.read(&file)?;
    ensure!(kept.contains(&data) && kept.contains("<on_crash>destroy"), "{kept}");
    assert_eq!(xml("false")?, kept);
    host.systemctl(["reload", "qemu@web"])?.success()?;
    assert_eq!(open_files(&host, &unit)?, ["data", "one.iso"], "the file says the same");

    // What fails changes neither.
    let missing = disk("vdd", "raw", "missing", "");
    let told = change("AttachDevice", &missing, "3", "failed")?;
    ensure!(told.contains("'/srv/private/missing' does not exist"), "{told}");
    assert_eq!(host.read(&file)?, kept);
    ensure!(!live_xml()?.contains("vdd"), "{}", live_xml()?);

    // A medium.
    let medium = "<disk type=\"file\" device=\"cdrom\"><source file=\"/srv/private/two.iso\"/><target dev=\"sda\" bus=\"sata\"/></disk>";
    change("UpdateDevice", medium, "1", "done")?;
    wait_for(&host, &["sr0:two-"], &[])?;
    // The definition only.
    change("DetachDevice", &data, "2", "done")?;
    ensure!(!host.read(&file)?.contains("vdb"), "it is gone from the file");
    assert_eq!(open_files(&host, &unit)?, ["data", "two.iso"], "and not from the guest");
    ensure!(!host.exists("/run/glassbox/wanted/web.xml")?, "nothing is left behind");
    Ok(())
}

fn reloads_know_what_d_bus_has_set(root: Root) -> Result<()> {
    let host = boot(root)?;
    let (_, unit) = started(&host)?;
    wait_for(&host, &["vda:", "cpus:1", "memory:256"], &[])?;
    manage::follow_signals(&host)?;
    let path = text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", "web"])?)?;
    let set = |method: &str, arguments: &[&str]| {
        let job = call(&host, &path, DOMAIN, method, arguments)?;
        ends(&host, &job, "done")
    };
    let shown = || text(&call(&host, &path, DOMAIN, "GetXML", &["b", "true"])?);
    let has = |xml: &str, parts: [&str; 2]| {
        ensure!(parts.iter().all(|part| xml.contains(part)), "{parts:?} are not in {xml}");
        Ok(())
    };
    let kib = |xml: &str| {
        let line = xml.lines().find(|line| line.contains("<currentMemory"));
        line.map(|line| line.trim().to_owned()).context("there is no <currentMemory>")
    };
    let begun = kib(&live(&host)?)?;
    let less = begun.replace("262144", "204800");
    assert_ne!(begun, less);

    set("SetVCPUs", &["uu", "3", "1"])?;
    set("SetMemory", &["tu", "209715200", "1"])?;
    has(&shown()?, ["current='3'", &less])?;

    // A device that comes meanwhile changes neither, and what is kept has both.
    let data = disk("vdb", "raw", "data", "");
    set("AttachDevice", &["su", &data, "1"])?;
    has(&live(&host)?, ["current='3'", &less])?;
    has(&shown()?, ["current='3'", &less])?;
    assert_eq!(cpus(&host)?, 3);
    wait_for(&host, &["cpus:3", "vdb:data-"], &[])?;

    // The definition has another number, and a device less.
    host.systemctl(["reload", "qemu@web"])?.success()?;
    assert_eq!(cpus(&host)?, 1);
    has(&live(&host)?, ["current='1'", &begun])?;
    has(&shown()?, ["current='1'", "<currentMemory"])?;
    assert_eq!(open_files(&host, &unit)?, ["one.iso"]);
    host.wait_for("the balloon to be empty", PATIENCE, || {
        host.qmp("web", "query-balloon").is_ok_and(|said| said.contains("268435456"))
    })
}
