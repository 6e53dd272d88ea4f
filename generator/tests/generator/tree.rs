//! A directory as a value, to compare whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Everything below a directory but directories: an empty one is as good as none.
pub(crate) type Tree = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    File(String),
    Link(String),
}

/// Reads what is below `directory`; one that isn't there is empty.
pub(crate) fn read(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    read_into(directory, "", &mut tree);
    tree
}

fn read_into(directory: &Path, prefix: &str, tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_into(&entry.path(), &format!("{name}/"), tree);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            tree.insert(name, Entry::Link(target.into_os_string().into_string().unwrap()));
        } else {
            tree.insert(name, Entry::File(fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// Makes `directory` hold the tree and nothing else.
pub(crate) fn write(directory: &Path, tree: &Tree) {
    if directory.exists() {
        fs::remove_dir_all(directory).unwrap();
    }
    for (name, entry) in tree {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry {
            Entry::File(text) => fs::write(path, text).unwrap(),
            Entry::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        }
    }
}

/// The tree as text, for a message about a difference.
pub(crate) fn show(tree: &Tree) -> String {
    let mut text = String::new();
    for (name, entry) in tree {
        match entry {
            Entry::File(content) => text.push_str(&format!("=== {name}\n{content}")),
            Entry::Link(target) => text.push_str(&format!("=== {name} -> {target}\n")),
        }
    }
    text
}
