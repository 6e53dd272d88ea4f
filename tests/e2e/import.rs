//! Guests that the stock libvirt of Debian 13 has become units, and keep their hardware.
//!
//! Libvirt itself makes what is taken over: it is told to define what virt-install printed, to start a guest at boot, to
//! save the memory of one that runs on UEFI. What it has of all that on its disk is the same afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tests::{Definition, Host, Root, Setup, guest};

use crate::libvirt::{self, differences, ours, theirs};

tests::on_root!(trixie, Trixie, guests_of_libvirt_become_units,);

fn guests_of_libvirt_become_units(root: Root) -> Result<()> {
    let host = Setup::new(root).product()?.guest()?.libvirt()?.boot()?;
    libvirt::prepare(&host)?;
    let names = define(&host)?;
    use_guests(&host)?;
    host.sh("virsh start web")?;
    let refused = host.run(["glassboxctl", "import", "web"])?;
    let told = "guest 'web' runs under libvirt as process ";
    assert!(refused.status == 1 && refused.stderr.contains(told), "{}", refused.stderr);
    host.sh("virsh destroy web")?;

    let file = |name: &String| format!("/etc/libvirt/qemu/{name}.xml");
    let theirs: Vec<_> = names.iter().map(|name| theirs(&host, &file(name))).collect();
    host.sh("systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd")?;
    let before = of_libvirt(&host)?;
    import(&host, &names)?;
    assert_eq!(of_libvirt(&host)?, before, "libvirt's files are as they were");
    let ours = names.iter().map(|name| ours(&host, &format!("/etc/glassbox/qemu/{name}.xml")));
    let all = names.iter().zip(theirs.into_iter().zip(ours));
    let found: Vec<String> =
        all.flat_map(|(name, (theirs, ours))| differences(name, theirs, ours)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    start(&host)?;
    check(&host)
}

/// Has libvirt define our own guests `web` and `uefi`, and what virt-install printed; gives all their names.
fn define(host: &Host) -> Result<Vec<String>> {
    let mut definitions = libvirt::definitions()?;
    for (name, xml) in &mut definitions {
        // Several cases have the same name and UUID.
        let id = format!("<name>{name}</name><uuid>{}</uuid>", Definition::new(name)?.uuid());
        let xml_of = |xml: &str, tag: &str| {
            let (before, rest) = xml.split_once(&format!("<{tag}>"))?;
            Some(format!("{before}{}", rest.split_once(&format!("</{tag}>"))?.1))
        };
        let nameless = xml_of(xml, "name").context("a case has a name")?;
        let anonymous = xml_of(&nameless, "uuid").unwrap_or(nameless);
        *xml = libvirt::fit(&anonymous.replacen('>', &format!(">{id}"), 1));
    }
    let uefi = Definition::new("uefi")?.replace("<os>", "<os firmware=\"efi\">")?;
    for definition in [Definition::new("web")?, uefi] {
        definition.make_disk(host)?;
        let name = definition.xml().split(['<', '>']).nth(4).context("a name")?.to_owned();
        definitions.push((name, definition.xml().to_owned()));
    }
    for (name, xml) in &definitions {
        std::fs::write(host.path(format!("/root/{name}.xml")), xml)?;
    }
    // One virsh for all is quicker than one for each.
    host.sh("for file in /root/*.xml; do echo \"define $file\"; done | virsh")?;
    Ok(definitions.into_iter().map(|(name, _)| name).collect())
}

/// Has libvirt make of `uefi` all that it keeps of a guest, and start `web` at boot.
fn use_guests(host: &Host) -> Result<()> {
    host.sh("install -d /var/log/glassbox/qemu
        virsh start --paused uefi
        virsh managedsave uefi
        virsh autostart web")?;
    Ok(())
}

/// All that libvirt has on its disk: content, owner, permissions and time of each file.
fn of_libvirt(host: &Host) -> Result<BTreeMap<String, String>> {
    let script = "cd /; for file in $(find etc/libvirt var/lib/libvirt -type f -o -type l); do
        echo \"$file $(stat -c '%U %G %a %Y' $file) $(sha256sum <$file)\"; done";
    let found = host.sh(script)?.stdout;
    let files: BTreeMap<_, _> = found
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(file, rest)| (file.to_owned(), rest.to_owned()))
        .collect();
    for file in ["etc/libvirt/qemu/autostart/web.xml", "var/lib/libvirt/qemu/nvram/uefi_VARS.fd"] {
        assert!(files.contains_key(file), "{file}: {files:#?}");
    }
    Ok(files)
}

/// Takes all guests over, first for show.
fn import(host: &Host, names: &[String]) -> Result<()> {
    let shown = host.run(["glassboxctl", "import", "--all", "--dry-run"])?;
    assert!(!host.exists("/etc/glassbox/qemu/web.xml")?, "nothing was changed");
    let done = host.run(["glassboxctl", "import", "--all"])?;
    assert_eq!((done.status, shown.status), (0, 0), "{}", done.stderr);
    assert_eq!(shown.stdout, done.stdout);
    for name in names {
        let line = format!("/etc/libvirt/qemu/{name}.xml -> /etc/glassbox/qemu/{name}.xml\n");
        assert!(done.stdout.contains(&line), "{name}: {}", done.stdout);
    }
    let saved = "/var/lib/libvirt/qemu/save/uefi.save: not taken: ";
    assert!(done.stderr.contains(saved), "{}", done.stderr);
    Ok(())
}

/// Starts guests as units, with nothing else done to them.
fn start(host: &Host) -> Result<()> {
    host.reload()?;
    assert!(host.exists("/run/systemd/generator/multi-user.target.wants/qemu@web.service")?);
    host.start_guest("web")?;
    let unit = host.start_guest("uefi")?;
    // It is root's, so QEMU has it as a file descriptor.
    let open = host.sh(&format!("ls -l /proc/{}/fd", unit.processes()?.1))?.stdout;
    assert!(open.contains(" -> /var/lib/glassbox/nvram/uefi_VARS.fd\n"), "{open}");
    host.wait_for_console("web", guest::READY, 1)
}

/// All definitions are sound until one is not.
fn check(host: &Host) -> Result<()> {
    let sound = host.run(["glassboxctl", "check"])?;
    assert_eq!((sound.status, sound.stderr.as_str()), (0, ""), "{}", sound.stdout);
    host.write_file(
        "/etc/glassbox/qemu/bad.xml",
        "<domain type='kvm'>\n<name>other</name></domain>",
    )?;
    host.write_file("/etc/glassbox/qemu/autostart/none.xml", "")?;
    let found = host.run(["glassboxctl", "check"])?;
    assert_eq!(found.status, 1);
    for line in
        ["bad.xml:2:1: /domain/name: the name is 'other'", "autostart/none.xml: no guest of this"]
    {
        let count = found.stdout.matches(&format!("\n/etc/glassbox/qemu/{line}")).count()
            + usize::from(found.stdout.starts_with(&format!("/etc/glassbox/qemu/{line}")));
        assert_eq!(count, 1, "{line} in\n{}", found.stdout);
    }
    Ok(())
}
