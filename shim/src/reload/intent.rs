//! What a reload is about to do, kept beside the live definition, so that the next one settles it.
//!
//! A reload that is killed in the middle of a step leaves QEMU with what the live definition does not say, or half of
//! it: names that are taken, files that stay open. Only what is written here is ever undone: others may have given this
//! QEMU files and nodes of their own, and those stay.

use anyhow::Context;
use qemu::{Attachment, FdKind, Receipt, UnpluggedMedium};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::live::LiveFile;
use crate::tap::Taps;

/// A step that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The live definition for when it is done.
    pub(super) after: String,
    /// What it is.
    pub(super) doing: Doing,
}

/// What a step does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Doing {
    /// A device comes.
    Bring {
        /// Its id. It is there when all before it is there.
        device: String,
        /// What its parts are.
        parts: Parts,
        /// What is told when it is there.
        then: Vec<Told>,
    },
    /// The medium of a drive is changed.
    Exchange {
        /// The drive's id.
        device: String,
        /// The node of the new medium; none when the drive is to be empty.
        node: Option<String>,
        /// What the new medium's parts are.
        comes: Parts,
        /// What closes the old one's, in order.
        goes: Vec<Told>,
        /// The sets of the old one's files.
        sets: Vec<Set>,
    },
    /// Something is told that may be told twice.
    Tell(Told),
}

/// What a device or a medium consists of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Parts {
    /// What takes its parts away, the last one first. What is not there needs no taking away.
    pub(super) undo: Vec<Told>,
    /// Its sets of file descriptors.
    pub(super) sets: Vec<Set>,
    /// The network devices that are made for it and stay by themselves.
    pub(super) links: Vec<String>,
}

/// The network devices that are made for a device and stay by themselves.
pub(super) fn made_links(attachment: &Attachment) -> Vec<String> {
    let mut links = Vec::new();
    for sent in &attachment.fds {
        if let FdKind::MacVtap { interface, queue: 0 } = &sent.kind {
            links.push(Taps::macvtap_name(interface));
        }
    }
    links
}

/// A command of QEMU's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) command: String,
    pub(super) arguments: Value,
}

/// A set of file descriptors. Its number may be another set's when it was never made, so it has to be for the same, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    pub(super) number: u64,
    pub(super) purpose: String,
}

impl Told {
    pub(super) fn new(command: &str, arguments: Value) -> Self {
        Self { command: command.to_owned(), arguments }
    }

    fn all(commands: &[(&'static str, Value)]) -> Vec<Self> {
        commands.iter().map(|(command, arguments)| Self::new(command, arguments.clone())).collect()
    }
}

impl Parts {
    fn of(attachment: &Attachment) -> Self {
        let mut parts = Self::default();
        for sent in &attachment.fds {
            match &sent.receipt {
                Receipt::Name(name) => {
                    parts.undo.push(Told::new("closefd", json!({ "fdname": name })));
                }
                Receipt::Set { number, purpose } => {
                    let purpose = purpose.clone();
                    parts.sets.push(Set { number: u64::from(*number), purpose });
                }
            }
        }
        parts.links = made_links(attachment);
        let undo = attachment.commands.iter().filter_map(|command| command.undo.clone());
        parts.undo.extend(undo.map(|(command, arguments)| Told::new(command, arguments)));
        parts.undo.reverse();
        parts
    }
}

impl Doing {
    /// A device comes so.
    pub(super) fn bring(device: &str, attachment: &Attachment) -> Self {
        let is_device = |name: &str| name == "device_add";
        let commands = attachment.commands.iter();
        let then = commands.skip_while(|command| !is_device(command.name)).skip(1);
        Self::Bring {
            device: device.to_owned(),
            parts: Parts::of(attachment),
            then: then.map(|command| Told::new(command.name, command.arguments.clone())).collect(),
        }
    }

    /// A medium comes so, and the other one goes, whose files are in these sets.
    pub(super) fn exchange(comes: &Attachment, goes: &UnpluggedMedium, sets: Vec<Set>) -> Self {
        Self::Exchange {
            device: goes.device.clone(),
            node: goes.node.clone(),
            comes: Parts::of(comes),
            goes: Told::all(&goes.afterwards),
            sets,
        }
    }

    pub(super) fn tell(command: &str, arguments: &Value) -> Self {
        Self::Tell(Told::new(command, arguments.clone()))
    }
}

impl Intent {
    /// What the last reload left unsettled, if it left something.
    pub(super) fn read(file: &LiveFile) -> anyhow::Result<Option<Self>> {
        let Some(text) = file.step()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).context("it is of another version")
    }

    /// Keeps it until [`LiveFile::settled`].
    pub(super) fn keep(&self, file: &LiveFile) -> anyhow::Result<()> {
        let text = serde_json::to_string(self).context("a step")?;
        file.leave_step(&text).context("a step cannot be noted")
    }
}
