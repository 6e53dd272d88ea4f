//! `glassboxctl import`.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::home::{Home, Tree};

const LIBVIRT: &str = ".config/libvirt/qemu";

/// A definition as libvirt writes it, with this in `<os>` and after it.
fn of_libvirt(name: &str, os: &str, more: &str) -> String {
    format!(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\nOVERWRITTEN AND LOST.\n-->\n\n{}",
        ours(name, os, more)
    )
}

fn ours(name: &str, os: &str, more: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n  \
         <!-- kept -->\n  <os>{os}</os>\n  {more}\n</domain>\n"
    )
}

/// The variables of UEFI in this file.
fn nvram(path: &str) -> String {
    format!("<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>{path}</nvram>")
}

/// A libvirt with the guests `plain`, and `uefi` with variables, which starts at boot.
fn home() -> Home {
    let home = Home::new();
    home.write(&format!("{LIBVIRT}/plain.xml"), &of_libvirt("plain", "<type>hvm</type>", "<odd/>"));
    let variables = home.path(&format!("{LIBVIRT}/nvram/uefi_VARS.fd"));
    let uefi = of_libvirt("uefi", &nvram(variables.to_str().unwrap()), "");
    home.write(&format!("{LIBVIRT}/uefi.xml"), &uefi);
    home.write(&format!("{LIBVIRT}/nvram/uefi_VARS.fd"), "boot order");
    home.link(&format!("~/{LIBVIRT}/uefi.xml"), &format!("{LIBVIRT}/autostart/uefi.xml"));
    home.write(&format!("{LIBVIRT}/networks/default.xml"), "<network/>");
    home
}

/// What becomes of [`home`].
fn taken(home: &Home) -> [Tree; 2] {
    let variables = home.path(".local/share/glassbox/nvram/uefi_VARS.fd");
    let uefi = ours("uefi", &nvram(variables.to_str().unwrap()), "");
    let plain = ours("plain", "<type>hvm</type>", "<odd/>");
    let definitions = Tree::from([
        ("autostart/uefi.xml".to_owned(), (b"../uefi.xml".to_vec(), 0)),
        ("plain.xml".to_owned(), (plain.into_bytes(), 0o600)),
        ("uefi.xml".to_owned(), (uefi.into_bytes(), 0o600)),
    ]);
    let variables = ("uefi_VARS.fd".to_owned(), (b"boot order".to_vec(), 0o600));
    [definitions, Tree::from([variables])]
}

fn present(home: &Home) -> [Tree; 2] {
    [".config/glassbox/qemu", ".local/share/glassbox"].map(|directory| home.tree(directory)).map(
        |tree| {
            let plain = |(name, found): (String, _)| (name.replace("nvram/", ""), found);
            tree.into_iter().map(plain).collect()
        },
    )
}

const STEPS: &str = "\
~/.config/libvirt/qemu/plain.xml -> ~/.config/glassbox/qemu/plain.xml
~/.config/libvirt/qemu/nvram/uefi_VARS.fd -> ~/.local/share/glassbox/nvram/uefi_VARS.fd
~/.config/libvirt/qemu/uefi.xml -> ~/.config/glassbox/qemu/uefi.xml
~/.config/glassbox/qemu/autostart/uefi.xml: the guest starts at boot; virsh autostart --disable keeps libvirt from starting it, too
";

/// What the stand-in says, at the line of the new file: libvirt's comment is gone.
const ODD: &str = "~/.config/glassbox/qemu/plain.xml:6:1: /domain/odd: left out; remove it\n";

#[test]
fn guests_are_taken_with_their_variables_and_libvirt_keeps_its_own() {
    let home = home();
    let before = home.tree(LIBVIRT);
    let (status, out, error) = home.run(&["import", "--user", "--all", "--dry-run"]);
    assert_eq!((status, out.as_str()), (0, STEPS), "{error}");
    assert_eq!(error, format!("{ODD}glassboxctl: nothing was changed\n"));
    assert_eq!(present(&home), [Tree::new(), Tree::new()]);

    let (status, out, error) = home.run(&["import", "--user", "--all"]);
    assert_eq!((status, out.as_str()), (0, STEPS), "{error}");
    assert_eq!(error, format!("{ODD}glassboxctl: now: systemctl --user daemon-reload\n"));
    assert_eq!(present(&home), taken(&home));
    assert_eq!(home.tree(LIBVIRT), before);
}

#[test]
fn what_is_there_is_replaced_only_by_force() {
    let home = home();
    home.run(&["import", "--user", "uefi", "plain"]);
    fs::remove_file(home.path(".config/glassbox/qemu/uefi.xml")).unwrap();
    home.write(".config/glassbox/qemu/plain.xml", "mine");
    home.write(".local/share/glassbox/nvram/uefi_VARS.fd", "changed since");
    let before = present(&home);
    let (status, out, error) = home.run(&["import", "--user", "uefi", "plain"]);
    assert_eq!((status, out.as_str()), (1, ""));
    let told = "\
glassboxctl: guest 'uefi' is left out: ~/.local/share/glassbox/nvram/uefi_VARS.fd exists; replace it with --force
glassboxctl: guest 'plain' is left out: ~/.config/glassbox/qemu/plain.xml exists; replace it with --force
";
    assert_eq!(error, told);
    assert_eq!(present(&home), before);
    let (status, _, error) = home.run(&["import", "--user", "--force", "uefi", "plain"]);
    assert_eq!(status, 0, "{error}");
    assert_eq!(present(&home), taken(&home));
}

#[test]
fn one_guest_that_cannot_be_taken_keeps_no_other_from_it() {
    let home = home();
    home.write(
        &format!("{LIBVIRT}/broken.xml"),
        "<domain type='kvm'>\n  <name>other</name></domain>",
    );
    home.write(&format!("{LIBVIRT}/refused.xml"), &of_libvirt("refused", "", "<bad/>"));
    let (status, out, error) = home.run(&["import", "--user", "--all"]);
    assert_eq!(status, 1);
    let refused = "~/.config/libvirt/qemu/refused.xml -> ~/.config/glassbox/qemu/refused.xml\n";
    assert_eq!(out, STEPS.replacen('\n', &format!("\n{refused}"), 1));
    let broken =
        "glassboxctl: ~/.config/libvirt/qemu/broken.xml:2:3: /domain/name: the name is 'other' but";
    assert!(error.starts_with(broken), "{error}");
    // It is there to be mended, and says where.
    let bad = "~/.config/glassbox/qemu/refused.xml:6:1: /domain/bad: refused; remove it\n";
    assert!(error.contains(bad), "{error}");
    let (status, _, error) = home.run(&["import", "--user", "none", "a/b", "worker@"]);
    assert_eq!(status, 1);
    assert!(error.starts_with("glassboxctl: ~/.config/libvirt/qemu/none.xml: "), "{error}");
    assert!(error.contains("glassboxctl: guest 'a/b': the name contains '/'"), "{error}");
    let template = "glassboxctl: guest 'worker@' would be a template by its name; rename it";
    assert!(error.contains(template), "{error}");
}

/// A stand-in for QEMU that libvirt runs: a shell that was told libvirt's first option.
fn running(guest: &str) -> Child {
    let words = ["-c", "read line", "sh", "-name", &format!("guest={guest},debug-threads=on")];
    Command::new("sh").args(words).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_guest_that_runs_under_libvirt_is_left_alone() {
    let home = home();
    let mut qemu = running("uefi");
    let pid = qemu.id();
    for (file, text) in [
        ("run/libvirt/qemu/run/uefi.pid", format!("{pid}\n")),
        ("run/libvirt/qemu/run/uefi.xml", format!("<domstatus state='running' pid='{pid}'/>")),
    ] {
        home.write(file, &text);
        let (status, _, error) = home.run(&["import", "--user", "--force", "uefi"]);
        let told = format!(
            "guest 'uefi' runs under libvirt as process {pid}; shut it down with virsh first"
        );
        assert_eq!((status, error), (1, format!("glassboxctl: {told}\n")), "{file}");
        assert_eq!(present(&home), [Tree::new(), Tree::new()]);
        fs::remove_file(home.path(file)).unwrap();
    }
    // What a libvirtd that was stopped left behind when the guest ended.
    home.write("run/libvirt/qemu/run/uefi.pid", &format!("{pid}\n"));
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert_eq!(home.run(&["import", "--user", "uefi"]).0, 0);
}

#[test]
fn a_guest_that_runs_as_a_unit_keeps_what_it_uses() {
    let home = home();
    home.run(&["import", "--user", "uefi"]);
    fs::create_dir_all(home.path("run/glassbox/guest/uefi")).unwrap();
    let before = present(&home);
    let (status, _, error) = home.run(&["import", "--user", "--force", "uefi"]);
    let told = "guest 'uefi' runs as a unit; stop it first, for it uses what would be replaced";
    assert_eq!((status, error), (1, format!("glassboxctl: {told}\n")));
    assert_eq!(present(&home), before);
}

#[test]
fn what_stays_behind_is_told() {
    let home = home();
    home.write(&format!("{LIBVIRT}/save/plain.save"), "memory");
    home.write(&format!("{LIBVIRT}/snapshot/plain/first.xml"), "");
    home.write(&format!("{LIBVIRT}/checkpoint/uefi/first.xml"), "");
    home.write(&format!("{LIBVIRT}/swtpm/c7a5fdbd-edaf-9455-926a-d65c16db1809/tpm2/state"), "");
    let (status, _, error) = home.run(&["import", "--user", "plain"]);
    let told = "\
~/.config/libvirt/qemu/save/plain.save: not taken: the guest's memory, saved while it ran; start and shut it down with virsh first to keep it
~/.config/libvirt/qemu/snapshot/plain: not taken: its snapshots; virsh snapshot-list shows them
~/.config/libvirt/qemu/swtpm/c7a5fdbd-edaf-9455-926a-d65c16db1809: not taken: the state of its TPM; a guest that must keep it needs a copy of it
";
    assert_eq!(status, 0);
    assert_eq!(error, format!("{told}{ODD}glassboxctl: now: systemctl --user daemon-reload\n"));
}

#[test]
fn a_definition_that_cannot_be_written_leaves_no_variables() {
    let home = home();
    home.write(".config/glassbox/qemu", "no directory");
    let (status, out, error) = home.run(&["import", "--user", "uefi"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(error.starts_with("glassboxctl: ~/.config/glassbox/qemu: "), "{error}");
    assert_eq!(home.tree(".local"), Tree::new());
}

#[test]
fn another_directory_than_libvirts_own_may_be_given() {
    let home = home();
    fs::rename(home.path(".config/libvirt/qemu"), home.path("backup")).unwrap();
    let (status, out, error) = home.run(&["import", "--user", "--all", "--from", "backup"]);
    assert_eq!(status, 0, "{error}");
    let expected = STEPS.replace("~/.config/libvirt/qemu/", "backup/");
    // The definition says where the variables were, and there they are no longer.
    let expected: Vec<&str> = expected.lines().filter(|line| !line.contains("VARS")).collect();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}
