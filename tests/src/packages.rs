//! Debian packages that the test host itself needs on this machine.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::stream;
use crate::skip::is_root;

/// Sees to it that programs are there, each given as (program, Debian package that has it).
///
/// What is missing is installed with apt-get, and said so.
///
/// # Errors
///
/// When something is missing and this process isn't root or apt-get cannot install it.
pub fn require(programs: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || !is_installed("apt-get") {
        bail!("the packages {list} are missing; install them as root with apt-get install {list}");
    }
    eprintln!("[packages] installing {list}, which this machine lacks");
    let install = || {
        let words = ["apt-get", "install", "-y", "--no-install-recommends"];
        let log = Path::new("/var/tmp/glassbox-test-packages.log");
        stream("packages", log, words.iter().chain(&missing))
    };
    // A fresh machine has no package lists, an old one stale lists; the update takes a while, so it comes second.
    if install().is_ok() {
        return Ok(());
    }
    let update = Path::new("/var/tmp/glassbox-test-packages.log");
    stream("packages", update, ["apt-get", "update"])?;
    install()
}

/// Whether a program is found in the PATH.
fn is_installed(program: &str) -> bool {
    Command::new("/bin/sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
