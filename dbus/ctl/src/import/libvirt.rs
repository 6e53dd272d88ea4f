//! Where libvirt keeps what belongs to a guest, and what of it there is. Only ever read.
//!
//! The directories are those of `virQEMUDriverConfigNew` in libvirt's `qemu_conf.c`, for libvirtd and virtqemud as
//! Debian and Fedora build them, and for a user's session.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use domain::{DomainName, DomainUuid, LARGEST_DEFINITION};

use crate::cli::Import;

/// The directories of one libvirt, the system's or a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Libvirt {
    /// `NAME.xml`.
    pub(crate) definitions: PathBuf,
    /// `NAME.xml`, links to definitions.
    autostart: PathBuf,
    /// `NAME.pid` and `NAME.xml` of guests that run.
    state: PathBuf,
    /// What is kept of a guest that was saved, its snapshots and checkpoints.
    memories: PathBuf,
    /// The states of emulated TPMs, by UUID.
    tpm: PathBuf,
    /// Scripts that libvirt runs when a guest starts or ends.
    hooks: Option<PathBuf>,
}

impl Libvirt {
    /// The libvirt that is meant.
    ///
    /// # Errors
    /// When a user's is, and the environment has no home.
    pub(crate) fn of(wanted: &Import) -> Result<Self> {
        let mut libvirt = if wanted.user {
            let environment = crate::user_environment();
            let config = environment.config().context("HOME is not set; set it")?;
            Self::user(&config.join("libvirt"), &environment.runtime().unwrap_or_default())
        } else {
            Self::system()
        };
        if let Some(from) = &wanted.from {
            libvirt.definitions.clone_from(from);
            libvirt.autostart = from.join("autostart");
        }
        Ok(libvirt)
    }

    fn system() -> Self {
        Self {
            definitions: "/etc/libvirt/qemu".into(),
            autostart: "/etc/libvirt/qemu/autostart".into(),
            state: "/run/libvirt/qemu".into(),
            memories: "/var/lib/libvirt/qemu".into(),
            tpm: "/var/lib/libvirt/swtpm".into(),
            hooks: Some("/etc/libvirt/hooks".into()),
        }
    }

    fn user(config: &Path, runtime: &Path) -> Self {
        let definitions = config.join("qemu");
        Self {
            autostart: definitions.join("autostart"),
            state: runtime.join("libvirt/qemu/run"),
            memories: definitions.clone(),
            tpm: definitions.join("swtpm"),
            hooks: None,
            definitions,
        }
    }

    /// The file and text of a guest's definition.
    ///
    /// # Errors
    /// When there is none, or none that can be read.
    pub(crate) fn definition(&self, name: &DomainName) -> Result<(PathBuf, String)> {
        let path = self.definitions.join(format!("{name}.xml"));
        let told = || path.display().to_string();
        let length = fs::metadata(&path).with_context(told)?.len();
        if length > LARGEST_DEFINITION as u64 {
            bail!("{}: the file has more than {LARGEST_DEFINITION} bytes; shorten it", told());
        }
        let text = fs::read_to_string(&path).with_context(told)?;
        Ok((path, text))
    }

    /// Whether libvirt starts the guest at boot.
    pub(crate) fn starts_at_boot(&self, name: &DomainName) -> bool {
        // A link is one even when it leads nowhere: libvirt goes by its name.
        fs::symlink_metadata(self.autostart.join(format!("{name}.xml"))).is_ok()
    }

    /// The process of the guest's QEMU if libvirt runs it now. libvirt removes both files when a guest has ended; with
    /// libvirtd stopped they may outlive it, and then no process has the number or another one does.
    ///
    /// # Errors
    /// When one of the files is there and cannot be read: nobody knows then.
    pub(crate) fn running(&self, name: &DomainName) -> Result<Option<u32>> {
        let of_pidfile = self.state_of(name, "pid")?.and_then(|text| text.trim().parse().ok());
        let of_status = self.state_of(name, "xml")?.and_then(|text| status_pid(&text));
        Ok(of_pidfile.or(of_status).filter(|pid| is_qemu_of(*pid, name)))
    }

    fn state_of(&self, name: &DomainName, extension: &str) -> Result<Option<String>> {
        let path = self.state.join(format!("{name}.{extension}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// What libvirt has of the guest and nothing here takes, each with what that means.
    pub(crate) fn left(&self, name: &DomainName, uuid: Option<DomainUuid>) -> Vec<String> {
        let memories = |path: String| self.memories.join(path);
        let tpm = uuid.map(|uuid| {
            let what = "the state of its TPM; a guest that must keep it needs a copy of it";
            (self.tpm.join(uuid.to_string()), what)
        });
        let saved = "the guest's memory, saved while it ran; start and shut it down with virsh first to keep it";
        let all = [
            (memories(format!("save/{name}.save")), saved),
            (memories(format!("snapshot/{name}")), "its snapshots; virsh snapshot-list shows them"),
            (memories(format!("checkpoint/{name}")), "its checkpoints of incremental backups"),
        ];
        let there = all.into_iter().chain(tpm).filter(|(path, _)| holds_something(path));
        there.map(|(path, what)| format!("{}: not taken: {what}", path.display())).collect()
    }

    /// Scripts that libvirt runs for every guest and nobody runs here.
    pub(crate) fn hooks(&self) -> Vec<String> {
        let Some(hooks) = &self.hooks else { return Vec::new() };
        let there = ["qemu", "qemu.d"].map(|name| hooks.join(name));
        let there = there.iter().filter(|path| holds_something(path));
        let what = "not taken: hooks; ExecStartPre= and ExecStopPost= in a drop-in of qemu@.service do the same";
        there.map(|path| format!("{}: {what}", path.display())).collect()
    }
}

/// The process in a status file of libvirt's, `<domstatus state='running' reason='booted' pid='1234'>`.
fn status_pid(text: &str) -> Option<u32> {
    let root = domain::tree::parse(text).ok()?;
    let pid = root.attributes.iter().find(|attribute| attribute.name == "pid")?;
    pid.value.parse().ok()
}

/// Whether a process is the QEMU of a guest: libvirt begins QEMU's arguments with `-name guest=NAME,`.
fn is_qemu_of(pid: u32, name: &DomainName) -> bool {
    let Ok(words) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // QEMU's options have a comma of a value doubled, so a single one ends it.
    let name = format!("guest={},", name.as_str().replace(',', ",,"));
    let is_name = |word: &[u8]| {
        word.strip_prefix(name.as_bytes()).is_some_and(|rest| !rest.starts_with(b","))
    };
    words.split(|byte| *byte == 0).any(is_name)
}

/// Whether there is a file, or a directory with something in it.
fn holds_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() == ErrorKind::NotADirectory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn a_process_is_known_by_its_first_option() {
        // A stand-in for QEMU: a shell that was told the same words.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", "sh", "-name", "guest=a,,b,debug-threads=on"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        // A process has no words for a moment after it was started.
        while fs::read(format!("/proc/{id}/cmdline")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        for (guest, expected) in [("a,b", true), ("a", false), ("b", false)] {
            assert_eq!(is_qemu_of(id, &name(guest)), expected, "{guest}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_qemu_of(id, &name("a,b")), "it has ended");
    }

    #[test]
    fn a_status_file_has_the_process() {
        let text = "<!-- WARNING -->\n<domstatus state='running' reason='booted' pid='77'>\n\
                    <domain type='kvm' id='1'/></domstatus>";
        assert_eq!(status_pid(text), Some(77));
        assert_eq!(status_pid("<domstatus/>"), None);
        assert_eq!(status_pid(""), None);
    }
}
