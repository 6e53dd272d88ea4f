//! What a QEMU binary is, asked of the binary itself over QMP.
//!
//! [`QemuBinary::ask`] puts questions in a fixed order and makes one value of the answers; who runs QEMU, or has a
//! transcript of it, answers them. The value depends on the binary and on the accelerator that the asking account
//! may use, and on nothing else, so that it can be kept. [`QemuBinary::tell`] puts it into [`HostFacts`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::facts::{HostFacts, HostModel, SevFacts};

mod host_model;
mod replies;
mod schema;

use replies::{CpuDefinition, Machine, Sev, Type, read};
use schema::Schema;

/// The first version whose `-accel kvm` takes the path of its device. QMP does not tell of accelerators' properties.
const KVM_BY_PATH: (u32, u32, u32) = (8, 2, 0);

/// A QEMU binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QemuBinary {
    /// The version.
    pub version: QemuVersion,
    /// Whether it was asked with KVM; the CPU of the host is then KVM's, else that of QEMU's translator.
    pub kvm: bool,
    /// The machine type of a domain that names none, by its lasting name.
    pub default_machine: String,
    /// Machine types that stand for others, such as `q35` for `pc-q35-10.0`.
    pub machine_aliases: BTreeMap<String, String>,
    /// The machine types, each with the CPU model of a domain that names none.
    pub machines: BTreeMap<String, Option<String>>,
    /// What host-model means with this accelerator, if a named model comes close.
    pub host_model: Option<HostModel>,
    /// What arguments it takes.
    pub abilities: Abilities,
    /// AMD SEV, if the host has it.
    pub sev: Option<SevFacts>,
    /// The devices that it was built with, by QEMU's names.
    pub devices: BTreeSet<String>,
}

/// QEMU's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuVersion {
    /// Such as 10, 0 and 2.
    pub number: (u32, u32, u32),
    /// Who built it, in words of their own.
    pub package: String,
}

/// What arguments a QEMU takes that older ones do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Abilities {
    /// `reconnect-ms` of sockets of character devices (QEMU 9.2), in place of `reconnect`.
    pub chardev_reconnect_ms: bool,
    /// How the socket of a network device is connected to again.
    pub netdev_reconnect: NetdevReconnect,
    /// `discard-no-unref` of qcow2 (QEMU 8.1).
    pub discard_no_unref: bool,
    /// `iothread-vq-mapping` of virtio disks (QEMU 9.0).
    pub iothread_mapping: bool,
}

/// How `-netdev stream` says that it connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetdevReconnect {
    /// Not at all (QEMU 7.2).
    No,
    /// `reconnect`, in seconds (QEMU 8.0).
    Seconds,
    /// `reconnect-ms` (QEMU 9.2).
    Milliseconds,
}

impl Default for Abilities {
    /// Those of a new QEMU.
    fn default() -> Self {
        Self {
            chardev_reconnect_ms: true,
            netdev_reconnect: NetdevReconnect::Milliseconds,
            discard_no_unref: true,
            iothread_mapping: true,
        }
    }
}

/// A command of QMP.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The name.
    pub command: &'static str,
    /// The arguments, a JSON object or null for none.
    pub arguments: Value,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// QEMU refused it, in these words.
    Refused(String),
    /// QEMU is gone, or does not speak.
    Lost(String),
}

/// Why nothing is known of a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// QEMU is gone, or does not speak.
    Lost(String),
    /// QEMU refused a question that all versions answer.
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's words.
        words: String,
    },
    /// An answer without what it must have.
    Unreadable {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(words) => f.write_str(words),
            Self::Refused { command, words } => write!(f, "QEMU refused {command}: {words}"),
            Self::Unreadable { command, why } => {
                write!(f, "QEMU's answer to {command} cannot be read: {why}")
            }
        }
    }
}

impl std::error::Error for ProbeError {}

/// The arguments with which a binary is started to be asked: no machine, the accelerator that the account may use,
/// and QMP on descriptor 3.
#[must_use]
pub fn probe_arguments(kvm: bool) -> Vec<String> {
    let accelerator = if kvm { "none,accel=kvm:tcg" } else { "none,accel=tcg" };
    let alone = ["-S", "-no-user-config", "-nodefaults", "-display", "none"];
    let quiet = ["-serial", "none", "-parallel", "none", "-machine", accelerator];
    let monitor = ["-chardev", "socket,id=probe,fd=3", "-mon", "chardev=probe,mode=control"];
    let words = alone.iter().chain(&quiet).chain(&monitor);
    words.map(|word| (*word).to_owned()).collect()
}

impl QemuBinary {
    /// Asks a QEMU that was started with [`probe_arguments`].
    ///
    /// # Errors
    /// [`ProbeError`] when QEMU cannot be asked; what an old QEMU does not know is no error.
    pub fn ask(
        ask: &mut dyn FnMut(&Question) -> Result<Value, Unanswered>,
    ) -> Result<Self, ProbeError> {
        let mut asker = Asker(ask);
        asker.must("qmp_capabilities", Value::Null)?;
        let version = replies::version(asker.must("query-version", Value::Null)?)?;
        let kvm = replies::kvm(asker.may("query-kvm", Value::Null)?);
        let machines: Vec<Machine> = asker.read("query-machines", Value::Null)?;
        let types: Vec<Type> = asker.read("qom-list-types", json!({ "implements": "device" }))?;
        let schema = Schema::new(asker.may("query-qmp-schema", Value::Null)?.as_ref());
        let properties = json!({ "typename": "virtio-blk-pci" });
        let disk = asker.may("device-list-properties", properties)?;
        let definitions: Vec<CpuDefinition> = asker.read("query-cpu-definitions", Value::Null)?;
        let host_model = host_model::ask(&mut asker, kvm, &definitions)?;
        let sev = asker.may("query-sev-capabilities", Value::Null)?;
        Ok(Self {
            version,
            kvm,
            default_machine: replies::default_machine(&machines),
            machine_aliases: replies::aliases(&machines),
            machines: replies::default_cpus(machines),
            host_model,
            abilities: Abilities::of(&schema, disk.as_ref()),
            sev: sev.and_then(Sev::read),
            devices: replies::devices(types),
        })
    }

    /// Puts what is known of the binary into the facts of its host.
    pub fn tell(&self, facts: &mut HostFacts) {
        facts.default_machine.clone_from(&self.default_machine);
        facts.machine_aliases.clone_from(&self.machine_aliases);
        if let Some(Some(cpu)) = self.machines.get(&self.default_machine) {
            facts.default_cpu.clone_from(cpu);
        }
        if self.kvm {
            facts.host_models.kvm.clone_from(&self.host_model);
        } else {
            facts.host_models.tcg.clone_from(&self.host_model);
        }
        facts.abilities = self.abilities;
        facts.accelerators.kvm_by_path = self.version.number >= KVM_BY_PATH;
        facts.sev = self.sev;
        facts.devices = Some(self.devices.clone());
    }
}

impl Abilities {
    fn of(schema: &Schema, disk: Option<&Value>) -> Self {
        let backend = &["chardev-add", "backend", "=socket", "data"];
        let stream = |key| schema.has(&["netdev_add", "=stream", key]);
        let netdev_reconnect = match (stream("reconnect-ms"), stream("reconnect")) {
            (true, _) => NetdevReconnect::Milliseconds,
            (false, true) => NetdevReconnect::Seconds,
            (false, false) => NetdevReconnect::No,
        };
        let mut of_disk = disk.and_then(Value::as_array).into_iter().flatten();
        Self {
            chardev_reconnect_ms: schema.has(&[backend.as_slice(), &["reconnect-ms"]].concat()),
            netdev_reconnect,
            discard_no_unref: schema.has(&["blockdev-add", "=qcow2", "discard-no-unref"]),
            iothread_mapping: of_disk.any(|property| property["name"] == "iothread-vq-mapping"),
        }
    }
}

/// Who answers, with what an answer may be.
struct Asker<'a>(&'a mut dyn FnMut(&Question) -> Result<Value, Unanswered>);

impl Asker<'_> {
    /// An answer that every QEMU gives.
    fn must(&mut self, command: &'static str, arguments: Value) -> Result<Value, ProbeError> {
        (self.0)(&Question { command, arguments }).map_err(|unanswered| match unanswered {
            Unanswered::Refused(words) => ProbeError::Refused { command, words },
            Unanswered::Lost(words) => ProbeError::Lost(words),
        })
    }

    /// An answer that not every QEMU gives on every host.
    fn may(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Option<Value>, ProbeError> {
        match (self.0)(&Question { command, arguments }) {
            Ok(value) => Ok(Some(value)),
            Err(Unanswered::Refused(_)) => Ok(None),
            Err(Unanswered::Lost(words)) => Err(ProbeError::Lost(words)),
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T, ProbeError> {
        read(command, self.must(command, arguments)?)
    }
}
