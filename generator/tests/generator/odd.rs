//! What git can't hold or nobody should have: the program logs a line and goes on.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::call::Call;
use crate::tree::{self, Tree};

const SOUND: &str = "<domain type='kvm'><name>web</name></domain>";

/// A root with the sound guest `web` and what `prepare` adds to its directory of definitions; returns the
/// units beside those of `web`, and the messages.
fn beside_a_sound_guest(prepare: impl FnOnce(&Path)) -> (Tree, String) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/glassbox/qemu");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("web.xml"), SOUND).unwrap();
    prepare(&directory);
    let outcome = Call::new(root.path()).run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let mut tree = tree::read(&outcome.directory().join("normal"));
    assert!(tree.remove("qemu@web.service.d/50-glassbox.conf").is_some(), "{}", outcome.stderr);
    (tree, outcome.stderr)
}

/// What is found under the name of a definition is a guest whose unit says so, whatever it is.
fn is_a_guest_that_cannot_start(prepare: impl FnOnce(&Path), message: &str) {
    let (tree, stderr) = beside_a_sound_guest(prepare);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["qemu@odd.service.d/50-glassbox.conf"]);
    assert_eq!(stderr, format!("<3>/etc/glassbox/qemu/odd.xml{message}\n"));
}

#[test]
fn a_directory_is_no_definition() {
    is_a_guest_that_cannot_start(
        |directory| fs::create_dir(directory.join("odd.xml")).unwrap(),
        ": not a regular file; the guest does not start until the file can be read",
    );
}

#[test]
fn a_fifo_does_not_block() {
    is_a_guest_that_cannot_start(
        |directory| {
            let mode = nix::sys::stat::Mode::S_IRWXU;
            nix::unistd::mkfifo(&directory.join("odd.xml"), mode).unwrap();
        },
        ": not a regular file; the guest does not start until the file can be read",
    );
}

#[test]
fn a_loop_of_links_ends() {
    is_a_guest_that_cannot_start(
        |directory| {
            symlink("odd.xml", directory.join("b")).unwrap();
            symlink("b", directory.join("odd.xml")).unwrap();
        },
        ": Too many levels of symbolic links (os error 40); the guest does not start until the file can be read",
    );
}

#[test]
fn a_huge_file_is_not_read_whole() {
    is_a_guest_that_cannot_start(
        |directory| {
            let file = File::create(directory.join("odd.xml")).unwrap();
            file.set_len(64 << 20).unwrap();
        },
        ":1:1: the file has more than 4194304 bytes; shorten it",
    );
}

#[test]
fn text_that_is_not_utf8_has_its_place_told() {
    is_a_guest_that_cannot_start(
        |directory| fs::write(directory.join("odd.xml"), b"<domain>\n\xff").unwrap(),
        ":2:1: the text is not UTF-8 here; save the file as UTF-8",
    );
}

#[test]
fn elements_may_nest_deep_and_wide() {
    let deep = format!("{}{}", "<a>".repeat(300_000), "</a>".repeat(300_000));
    is_a_guest_that_cannot_start(
        |directory| fs::write(directory.join("odd.xml"), deep).unwrap(),
        ":1:769: elements nest deeper than 256 levels",
    );
    let wide = "<disk type='file'><source file='/a'/></disk>".repeat(60_000);
    let text = format!("<domain type='kvm'><name>odd</name><devices>{wide}</devices></domain>");
    let (tree, stderr) =
        beside_a_sound_guest(|directory| fs::write(directory.join("odd.xml"), text).unwrap());
    assert_eq!((tree.len(), stderr.as_str()), (1, ""));
}

#[test]
fn a_file_that_may_not_be_read_is_a_guest_that_cannot_start() {
    let name = "a_file_that_may_not_be_read_is_a_guest_that_cannot_start";
    if nix::unistd::geteuid().is_root() {
        return eprintln!("SKIP {name}: root reads every file");
    }
    is_a_guest_that_cannot_start(
        |directory| {
            fs::write(directory.join("odd.xml"), SOUND).unwrap();
            fs::set_permissions(directory.join("odd.xml"), Permissions::from_mode(0o000)).unwrap();
        },
        ": Permission denied (os error 13); the guest does not start until the file can be read",
    );
}

#[test]
fn a_name_that_is_not_utf8_stands_for_no_guest() {
    let (tree, stderr) = beside_a_sound_guest(|directory| {
        fs::write(directory.join(OsStr::from_bytes(b"\xff.xml")), SOUND).unwrap();
    });
    assert!(tree.is_empty());
    assert_eq!(
        stderr,
        "<3>/etc/glassbox/qemu/\u{fffd}.xml: the file stands for no guest: the name is not UTF-8; rename it\n"
    );
}

#[test]
fn a_name_cannot_forge_a_line_of_the_log() {
    let (tree, stderr) = beside_a_sound_guest(|directory| {
        fs::write(directory.join("a\n<0>panic\u{1b}[2J.xml"), SOUND).unwrap();
    });
    assert!(tree.is_empty());
    assert_eq!(
        stderr,
        "<3>/etc/glassbox/qemu/a\\n<0>panic\\u{1b}[2J.xml: the file stands for no guest: \
         the name contains '\\n'; use letters, digits, '-', '_', '.' or spaces\n"
    );
}

#[test]
fn a_directory_of_definitions_may_be_a_file() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/glassbox")).unwrap();
    fs::write(root.path().join("etc/glassbox/qemu"), "").unwrap();
    let outcome = Call::new(root.path()).run();
    assert_eq!(outcome.status, 0);
    let reason = "Not a directory (os error 20)";
    assert_eq!(
        outcome.stderr,
        format!(
            "<3>/etc/glassbox/qemu: {reason}; its definitions are left out\n\
             <3>/etc/glassbox/qemu/autostart: {reason}; its definitions are left out\n"
        )
    );
}

#[test]
fn a_root_that_is_not_there_is_empty() {
    let outcome = Call::new(Path::new("/nonexistent")).run();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(tree::read(&outcome.directory()).is_empty());
}

#[test]
fn one_directory_will_do_and_is_made() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/lib/glassbox/qemu")).unwrap();
    fs::write(root.path().join("usr/lib/glassbox/qemu/web.xml"), SOUND).unwrap();
    let outcome = Call::new(root.path()).run_with(&["@a/b"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let tree = tree::read(&outcome.directory());
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["a/b/qemu@web.service.d/50-glassbox.conf"]);
}

#[test]
fn a_second_run_replaces_the_first() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/glassbox/qemu");
    fs::create_dir_all(directory.join("autostart")).unwrap();
    fs::write(directory.join("web.xml"), SOUND).unwrap();
    fs::write(directory.join("autostart/web.xml"), "").unwrap();
    symlink("/dev/null", directory.join("off.xml")).unwrap();
    let output = root.path().join("out");
    let run = || {
        let outcome = Call::new(root.path()).run_with(&[output.to_str().unwrap()]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        tree::read(&output)
    };
    let first = run();
    assert_eq!(first.len(), 3);
    assert_eq!(run(), first);
}

#[test]
fn output_that_cannot_be_written_fails_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/glassbox/qemu");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("web.xml"), SOUND).unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let output = root.path().join("file");
    let outcome = Call::new(root.path()).run_with(&[output.to_str().unwrap()]);
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stderr,
        format!(
            "<3>{}/qemu@web.service.d/50-glassbox.conf: Not a directory (os error 20); \
             this part of a unit is missing\n",
            output.display()
        )
    );
}

#[test]
fn a_wrong_call_is_told_the_usage() {
    for arguments in [&[][..], &["@a", "@b"], &["@a", "@b", "@c", "@d"], &["--help"]] {
        let outcome = Call::new(Path::new("/nonexistent")).run_with(arguments);
        assert_eq!(outcome.status, 2, "{arguments:?}");
        let usage = "usage: glassbox-generator NORMAL-DIR [EARLY-DIR LATE-DIR]\n       \
                     glassbox-generator --dry-run [--user]\n";
        assert_eq!(outcome.stderr, usage);
        assert!(tree::read(&outcome.directory()).is_empty());
    }
}
