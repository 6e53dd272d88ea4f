//! `make install` and `make uninstall`, with stand-ins for the programs: what goes where, and what is left.

// Clippy's own exception for tests does not reach the functions that several tests share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::install;

/// Mode and path of all that is installed with `PREFIX=/usr`, but for the manual.
const FILES: &str = "\
755 usr/bin/glassbox-qemu
755 usr/bin/glassboxctl
755 usr/lib/glassbox/glassbox-broker
755 usr/lib/glassbox/libguestfs-hv
755 usr/lib/glassbox/network
644 usr/lib/systemd/system/glassbox-broker.service
644 usr/lib/systemd/system/glassbox-instance@.service
644 usr/lib/systemd/system/glassbox-network@.service
644 usr/lib/systemd/system/glassbox-registry.target
644 usr/lib/systemd/system/glassboxd.service
644 usr/lib/systemd/system/glassboxd.socket
644 usr/lib/systemd/system/nbdkit@.service
644 usr/lib/systemd/system/passt@.service
644 usr/lib/systemd/system/qemu-pr-helper@.service
644 usr/lib/systemd/system/qemu@.service
644 usr/lib/systemd/system/swtpm@.service
644 usr/lib/systemd/system/vhost-device-vsock@.service
644 usr/lib/systemd/system/virtiofsd@.service
755 usr/lib/systemd/system-generators/glassbox-generator
644 usr/lib/systemd/user/glassbox-instance@.service
644 usr/lib/systemd/user/glassbox-registry.target
644 usr/lib/systemd/user/glassboxd.service
644 usr/lib/systemd/user/glassboxd.socket
644 usr/lib/systemd/user/qemu@.service
755 usr/lib/systemd/user-generators/glassbox-generator
644 usr/lib/sysusers.d/glassbox.conf
644 usr/lib/tmpfiles.d/glassbox.conf
755 usr/sbin/glassboxd
644 usr/share/bash-completion/completions/glassbox-qemu
644 usr/share/bash-completion/completions/glassboxctl
644 usr/share/dbus-1/system-services/org.glassbox.Broker1.service
644 usr/share/dbus-1/system-services/org.glassbox.Glassbox1.service
644 usr/share/dbus-1/system.d/org.glassbox.Broker1.conf
644 usr/share/dbus-1/system.d/org.glassbox.Glassbox1.conf
644 usr/share/fish/vendor_completions.d/glassbox-qemu.fish
644 usr/share/fish/vendor_completions.d/glassboxctl.fish
644 usr/share/polkit-1/actions/org.glassbox.policy
644 usr/share/zsh/site-functions/_glassbox-qemu
644 usr/share/zsh/site-functions/_glassboxctl
";

#[test]
fn every_file_has_its_place_and_goes_away_again() {
    let place = Place::new("every_file");
    place.stand_ins();
    place.make("install", "/usr");
    let files = place.files();
    let listed: String = files
        .iter()
        .filter(|(path, _)| !path.starts_with("usr/share/man/"))
        .map(|(path, mode)| format!("{mode:o} {}\n", path.display()))
        .collect();
    assert_eq!(listed, FILES);
    for (path, mode) in files.iter().filter(|(path, _)| path.starts_with("usr/share/man/")) {
        let section = path.extension().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        assert_eq!(*mode, 0o644, "{}", path.display());
        assert_eq!(folder, Path::new("usr/share/man").join(format!("man{section}")));
    }
    place.make("uninstall", "/usr");
    assert_eq!(place.files(), BTreeMap::new());
}

#[test]
fn units_name_the_programs_below_the_prefix() {
    let place = Place::new("units_name");
    place.stand_ins();
    place.make("install", "/opt/glassbox");
    assert!(place.root().join("opt/glassbox/bin/glassbox-qemu").is_file());
    for (unit, program) in [
        ("system/qemu@.service", "/opt/glassbox/bin/glassbox-qemu"),
        ("system/glassbox-instance@.service", "/opt/glassbox/bin/glassbox-qemu"),
        ("system/glassbox-network@.service", "/opt/glassbox/lib/glassbox/network"),
        ("system/glassboxd.service", "/opt/glassbox/sbin/glassboxd"),
        ("system/glassbox-broker.service", "/opt/glassbox/lib/glassbox/glassbox-broker"),
        ("user/qemu@.service", "/opt/glassbox/bin/glassbox-qemu"),
        ("user/glassbox-instance@.service", "/opt/glassbox/bin/glassbox-qemu"),
        ("user/glassboxd.service", "/opt/glassbox/sbin/glassboxd"),
    ] {
        let text = fs::read_to_string(place.root().join("usr/lib/systemd").join(unit)).unwrap();
        let starts = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        let programs: Vec<&str> = starts.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(programs, [program], "{unit}");
        assert!(
            !text.contains("=/usr/bin/glassbox") && !text.contains("=/usr/sbin/glassbox"),
            "{text}"
        );
    }
}

#[test]
fn the_wrapper_names_the_program_below_the_prefix() {
    let place = Place::new("the_wrapper_names");
    place.stand_ins();
    place.make("install", "/opt/glassbox");
    let path = place.root().join("opt/glassbox/lib/glassbox/libguestfs-hv");
    let text = fs::read_to_string(path).unwrap();
    let programs = text.lines().filter_map(|line| line.strip_prefix("exec /"));
    let programs: Vec<&str> = programs.map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(programs, ["opt/glassbox/bin/glassbox-qemu"]);
}

#[test]
fn what_is_not_built_is_told_and_not_built() {
    let place = Place::new("what_is_not_built");
    let done = place.run("install", "/usr");
    assert!(!done.status.success());
    let told = String::from_utf8(done.stderr).unwrap();
    let expected = "/release/glassbox-qemu is missing; run 'make build' first";
    assert!(told.lines().next().unwrap().ends_with(expected), "{told}");
    assert_eq!(place.files(), BTreeMap::new());
}

/// A directory with a `target` of stand-ins and a `root` to install in; removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("glassbox-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn stand_ins(&self) {
        let built = self.0.join("target/release");
        fs::create_dir_all(&built).unwrap();
        for program in
            ["glassbox-qemu", "glassboxctl", "glassboxd", "glassbox-broker", "glassbox-generator"]
        {
            fs::write(built.join(program), program).unwrap();
        }
    }

    fn make(&self, target: &str, prefix: &str) {
        let done = self.run(target, prefix);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Runs make with the defaults of a machine without pkg-config's systemd, so that all machines agree.
    fn run(&self, target: &str, prefix: &str) -> Output {
        let mut make = Command::new("make");
        make.args(["--no-print-directory", target, &format!("PREFIX={prefix}")]);
        make.arg(format!("DESTDIR={}", self.root().display()));
        make.env("CARGO_TARGET_DIR", self.0.join("target")).env_remove("PROFILE");
        make.env("PKG_CONFIG_LIBDIR", "/nonexistent").env_remove("PKG_CONFIG_PATH");
        make.current_dir(install::repository()).output().unwrap()
    }

    fn files(&self) -> BTreeMap<PathBuf, u32> {
        let mut files = BTreeMap::new();
        collect(&self.root(), &self.root(), &mut files);
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, u32>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            files.insert(path.strip_prefix(root).unwrap().to_owned(), mode);
        }
    }
}
