//! The stock libvirt of Debian 13 and the product make the same arguments of what virt-install prints.
//!
//! The definitions are those of `crates/qemu/tests/cases/virt-install-*`. Before either sees one, it is made fit
//! for a host without KVM, networks and a swtpm that runs; see [`fit`]. What is left out of the comparison
//! is in [`important`]: where sockets are, descriptors, and what each has for itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;
use tests::{Host, Root, Setup};

/// How many definitions are compared at least, so that a folder that moved is noticed.
const AT_LEAST: usize = 29;

#[test]
fn libvirt_makes_the_same_arguments() -> Result<()> {
    if !tests::ready("libvirt::libvirt_makes_the_same_arguments") {
        return Ok(());
    }
    let setup = Setup::new(Root::Trixie).product()?.libvirt()?;
    let host = setup.boot()?;
    prepare(&host)?;
    let mut compared = 0;
    let mut found = Vec::new();
    for (name, xml) in definitions()? {
        let file = format!("/root/{name}.xml");
        host.write_file(&file, fit(&xml))?;
        found.extend(differences(&name, theirs(&host, &file), ours(&host, &file)));
        compared += 1;
    }
    assert!(compared >= AT_LEAST, "{compared} definitions were compared");
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// Starts libvirtd, and has both know what there is to know.
pub(crate) fn prepare(host: &Host) -> Result<()> {
    // Libvirt looks for a GPU by its name only.
    host.sh("mkdir -p /dev/dri; touch /dev/dri/renderD128; systemctl start libvirtd")?;
    // To print arguments starts no QEMU, so each is asked beforehand, as a guest's first start does.
    let ask = "for qemu in /usr/bin/qemu-system-*; do glassbox-qemu --probe $qemu >/dev/null; done";
    host.sh(ask).map(drop)
}

/// The definitions by the names of their cases, but for those that ask the host what it has.
pub(crate) fn definitions() -> Result<Vec<(String, String)>> {
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/qemu/tests/cases");
    let mut found = Vec::new();
    for entry in fs::read_dir(&cases)? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("virt-install-") || !folder.join("argv.txt").exists() {
            continue;
        }
        let xml = fs::read_to_string(folder.join("domain.xml"))?;
        // The host's CPU is named by libvirt's own table.
        if !xml.contains("mode=\"host-model\"") {
            found.push((name.to_owned(), xml));
        }
    }
    Ok(found)
}

/// Makes a definition fit for the container: without KVM, networks and swtpm, and with machine types that
/// are no aliases. Cases are written with single or double quotes.
pub(crate) fn fit(xml: &str) -> String {
    let tpm = "<backend type='external'>\
        <source type='unix' mode='connect' path='/run/swtpm.sock'/></backend>";
    [
        ("<domain type='kvm'>", "<domain type='qemu'>"),
        ("mode='host-passthrough'", "mode='maximum'"),
        ("machine='pc'", "machine='pc-i440fx-10.0'"),
        ("machine='q35'", "machine='pc-q35-10.0'"),
        ("arch='aarch64' machine='virt'", "arch='aarch64' machine='virt-10.0'"),
        ("<interface type='network'>", "<interface type='bridge'>"),
        ("<source network='default'/>", "<source bridge='virbr0'/>"),
        ("<backend type='emulator'/>", tpm),
        ("<backend type='emulator' version='2.0'/>", tpm),
    ]
    .iter()
    .fold(xml.replace('"', "'"), |xml, (from, to)| xml.replace(from, to))
}

/// The options that libvirt makes of a file.
pub(crate) fn theirs(host: &Host, file: &str) -> Result<BTreeSet<String>> {
    let words = ["virsh", "-c", "qemu:///system", "domxml-to-native", "qemu-argv", "--xml", file];
    Ok(important(&shell_words(&host.run(words)?.success()?.stdout)))
}

/// The options that the product makes of a file.
pub(crate) fn ours(host: &Host, file: &str) -> Result<BTreeSet<String>> {
    let printed = host.run(["glassbox-qemu", "--print-args", file])?.success()?.stdout;
    Ok(important(&printed.lines().map(str::to_owned).collect::<Vec<_>>()))
}

/// In what both differ, each line with the guest's name.
pub(crate) fn differences(
    name: &str,
    theirs: Result<BTreeSet<String>>,
    ours: Result<BTreeSet<String>>,
) -> Vec<String> {
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => {
            let lacks = theirs.difference(&ours).map(|it| format!("{name}: lacks {it}"));
            let has = ours.difference(&theirs).map(|it| format!("{name}: has {it}"));
            lacks.chain(has).collect()
        }
        (Err(error), _) | (_, Err(error)) => vec![format!("{name}: {error:#}")],
    }
}

/// The words of a shell command: libvirt quotes with single quotes only.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.trim().chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is one from the start").push(letter),
        }
    }
    // In front are variables of the environment.
    let program = words.iter().position(|word| word.starts_with("/usr/bin/qemu-system-"));
    words.split_off(program.unwrap_or_default())
}

/// Options with their values in one form, without what is not compared.
fn important(words: &[String]) -> BTreeSet<String> {
    let mut options: Vec<(String, Option<&str>)> = Vec::new();
    for word in words {
        match options.last_mut() {
            Some((_, value @ None)) if !word.starts_with('-') => *value = Some(word),
            _ => options.push((word.clone(), None)),
        }
    }
    let formed = options.into_iter().filter_map(|(option, value)| match value {
        Some(value) => Some(format!("{option} {}", form(&option, value)?)),
        None => Some(option),
    });
    formed.collect()
}

/// One form of a value, with sorted keys; nothing for what each of the two has for itself.
fn form(option: &str, value: &str) -> Option<String> {
    let value = value.replace("/var/lib/libvirt/qemu/nvram/", "/var/lib/glassbox/nvram/");
    let value = value.replace("/var/lib/libvirt/qemu/domain--1-", "/run/glassbox/spawned/");
    let own = ["masterKey0", "charmonitor", "id=charshim", "chardev=charshim", "chardaemon"];
    // A log is opened by virtlogd when the guest starts, and here by the shim.
    let is_log = option == "-add-fd" && value.contains("-log");
    if is_log || own.iter().any(|mark| value.contains(mark)) {
        return None;
    }
    if let Ok(Value::Object(mut object)) = serde_json::from_str(&value) {
        // The host's side of a network is made when the guest starts, and libvirt only prints.
        let kept = |key: &String| option != "-netdev" || key == "id";
        object.retain(|key, _| kept(key) && key != "vhostfd" && key != "vhost");
        return Some(Value::Object(object).to_string());
    }
    let socket = option == "-chardev" && value.starts_with("socket,");
    let mut pairs: Vec<&str> = value.split(',').collect();
    let has = |pair: &str, keys: &[&str]| keys.iter().any(|key| pair.starts_with(key));
    pairs.retain(|pair| !(socket && has(pair, &["path=", "fd="])));
    pairs.retain(|pair| option != "-chardev" || !has(pair, &["logfile=", "logappend="]));
    pairs.sort_unstable();
    Some(pairs.join(","))
}
