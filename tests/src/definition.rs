//! Definitions of guests, each a variation of the one that `tests/e2e/domains/web.xml` has.

use anyhow::{Context, Result, ensure};

use crate::{Host, cache, guest};

/// What Debian 12's virt-install printed for a guest of ours, but for paths and the `<cpu>` and `<console>` that
/// it writes with `--cpu maximum` and without `--serial`.
const WEB: &str = include_str!("../e2e/domains/web.xml");

/// Where the administrator's definitions are.
pub const DEFINITIONS: &str = "/etc/glassbox/qemu";

/// The domain XML of a guest that runs the image of [`guest`] on a disk of its own.
#[derive(Debug, Clone)]
pub struct Definition {
    name: String,
    xml: String,
    disk: String,
}

impl Definition {
    /// The guest `name`, which shares neither UUID, MAC address, disk nor log with another.
    ///
    /// # Errors
    ///
    /// Never, as long as [`Self::replace`] finds what it looks for in the file.
    pub fn new(name: &str) -> Result<Self> {
        let disk = format!("{}/{name}.qcow2", guest::IMAGES);
        let definition = Self { name: name.to_owned(), xml: WEB.to_owned(), disk: disk.clone() };
        let id = cache::fingerprint(name.as_bytes());
        let [.., a, b, c] = id.to_be_bytes();
        definition
            .replace("<name>web<", &format!("<name>{name}<"))?
            .replace("3bc0b8b8-8849-4f68-a58b-c38ae2e8e579", &uuid(name))?
            .replace("52:54:00:a3:2c:78", &format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"))?
            .replace("/var/lib/glassbox/images/web.qcow2", &disk)?
            .replace("/var/log/glassbox/qemu/web-serial0.log", &log(name))
    }

    /// Adds a word to the command line of the guest's kernel; `tests/guest/init` tells which it obeys.
    ///
    /// # Errors
    ///
    /// When the file has no such line.
    pub fn word(self, word: &str) -> Result<Self> {
        self.replace("</cmdline>", &format!(" {word}</cmdline>"))
    }

    /// Replaces a text that is in the document once.
    ///
    /// # Errors
    ///
    /// When it isn't there, or more than once: the test would not test what it says.
    pub fn replace(mut self, from: &str, to: &str) -> Result<Self> {
        let count = self.xml.matches(from).count();
        ensure!(count == 1, "{}: {from:?} is there {count} times, not once", self.name);
        self.xml = self.xml.replace(from, to);
        Ok(self)
    }

    /// The guest's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The document.
    #[must_use]
    pub fn xml(&self) -> &str {
        &self.xml
    }

    /// The guest's UUID.
    #[must_use]
    pub fn uuid(&self) -> String {
        uuid(&self.name)
    }

    /// The path of the guest's disk.
    #[must_use]
    pub fn disk(&self) -> &str {
        &self.disk
    }

    /// Line and column of a text in the document, both counted from 1 and the columns in characters, as
    /// messages have it.
    ///
    /// # Errors
    ///
    /// When the text isn't in the document.
    pub fn place(&self, text: &str) -> Result<String> {
        let at = self.xml.find(text).with_context(|| format!("{text:?} is not in the document"))?;
        let before = &self.xml[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Ok(format!("{line}:{column}"))
    }

    /// Puts the definition into [`DEFINITIONS`] and makes its disk; systemd doesn't know of it yet.
    ///
    /// # Errors
    ///
    /// When the container lacks the product, or one of the two cannot be written.
    pub fn install(&self, host: &Host) -> Result<()> {
        self.make_disk(host)?;
        host.write_file(&format!("{DEFINITIONS}/{}.xml", self.name), self.xml())
    }

    /// Makes an empty disk for the guest, owned by the guests' account.
    ///
    /// # Errors
    ///
    /// When qemu-img fails.
    pub fn make_disk(&self, host: &Host) -> Result<()> {
        let script = "qemu-img create -q -f qcow2 \"$1\" 64M; chown glassbox-qemu: \"$1\"";
        host.run(["/bin/sh", "-euc", script, "sh", &self.disk])?.success().map(|_| ())
    }
}

/// The file to which QEMU writes what the guest says on its serial console.
#[must_use]
pub fn log(name: &str) -> String {
    format!("/var/log/glassbox/qemu/{name}-serial0.log")
}

fn uuid(name: &str) -> String {
    let id = format!("{:016x}", cache::fingerprint(name.as_bytes()));
    format!("67626f78-{}-4{}-8{}-{}", &id[..4], &id[4..7], &id[7..10], &id[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_in_messages() {
        let definition = Definition::new("ü").unwrap();
        assert_eq!(definition.place("<domain").unwrap(), "1:1");
        assert_eq!(definition.place("<uuid>").unwrap(), "3:3");
        assert_eq!(definition.place("</name>").unwrap(), "2:10");
        assert!(definition.place("<nothing>").is_err());
    }

    #[test]
    fn guests_share_nothing() {
        let [one, two] = ["one", "two"].map(|name| Definition::new(name).unwrap());
        let differing = one.xml().lines().zip(two.xml().lines()).filter(|(a, b)| a != b);
        assert_eq!(differing.count(), 5, "name, UUID, disk, MAC address, log");
        assert!(one.clone().replace("<controller", "").is_err());
    }
}
