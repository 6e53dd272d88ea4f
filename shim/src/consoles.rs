//! Links to the ptys of a guest's consoles, by the names that users know them by.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use qemu::Console;

use crate::guest::ConsolePath;

/// Makes `serial0 -> /dev/pts/3` in the guest's runtime directory for each console that QEMU opened, and says
/// where they are.
pub(crate) fn link(directory: &Path, consoles: &[Console], opened: &[ConsolePath]) -> Vec<String> {
    let mut places = Vec::new();
    for console in consoles {
        let Some(pty) = opened.iter().find(|pty| pty.chardev == console.chardev) else { continue };
        let link = directory.join(&console.alias);
        match replace_link(&pty.path, &link) {
            Ok(()) => places.push(format!("{} at {}", console.alias, link.display())),
            Err(error) => {
                crate::log::warning(format_args!(
                    "{}: {error}; the console is at {} only",
                    link.display(),
                    pty.path
                ));
                places.push(format!("{} at {}", console.alias, pty.path));
            }
        }
    }
    places
}

fn replace_link(target: &str, link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(target, link)
}
