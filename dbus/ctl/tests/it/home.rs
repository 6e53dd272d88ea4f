//! A user's home with libvirt's session and our directories in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const QEMU: &str = include_str!("stand-in-qemu.sh");

/// What a file is: its content or the target of a link, and its permissions.
pub(crate) type Tree = BTreeMap<String, (Vec<u8>, u32)>;

pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.path("bin")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_glassboxctl"), home.path("bin/glassboxctl")).unwrap();
        home.program("glassbox-qemu", QEMU);
        home
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A program beside glassboxctl.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes a file for the user alone, with its directories.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Runs glassboxctl for the user; gives its exit status, output and messages, with `~` for the home.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(self.path("bin/glassboxctl"));
        command.args(words).current_dir(self.0.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.0.path());
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        let Output { status, stdout, stderr } = command.output().unwrap();
        let home = self.0.path().to_str().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(home, "~");
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// All files below a directory.
    pub(crate) fn tree(&self, directory: &str) -> Tree {
        let mut tree = Tree::new();
        collect(&self.path(directory), "", &mut tree);
        tree
    }
}

fn collect(directory: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let found = entry.path().symlink_metadata().unwrap();
        if found.is_dir() {
            collect(&entry.path(), &format!("{name}/"), tree);
        } else if found.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap().into_os_string();
            tree.insert(name, (target.into_encoded_bytes(), 0));
        } else {
            tree.insert(name, (fs::read(entry.path()).unwrap(), found.mode() & 0o7777));
        }
    }
}
