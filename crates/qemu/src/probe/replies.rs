//! QMP's answers, as far as they are needed. Members that a version leaves out are optional, others are let pass.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::facts::SevFacts;

use super::{ProbeError, QemuVersion};

/// The machine type that libvirt gives a PC that names none, whatever QEMU's own default is.
const DEFAULT_MACHINE: &str = "pc";

/// A machine type.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Machine {
    name: String,
    alias: Option<String>,
    #[serde(default)]
    is_default: bool,
    default_cpu_type: Option<String>,
}

/// A type of QEMU's object model.
#[derive(Deserialize)]
pub(super) struct Type {
    name: String,
}

/// A CPU model that has a name.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CpuDefinition {
    pub(super) name: String,
    pub(super) migration_safe: Option<bool>,
}

#[derive(Deserialize)]
struct Version {
    qemu: Number,
    #[serde(default)]
    package: String,
}

#[derive(Deserialize)]
struct Number {
    major: u32,
    minor: u32,
    micro: u32,
}

/// What AMD SEV needs.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Sev {
    cbitpos: u32,
    reduced_phys_bits: u32,
}

impl Sev {
    /// An answer that lacks one of the numbers is as good as none: guests cannot be started by it.
    pub(super) fn read(answer: Value) -> Option<SevFacts> {
        let Self { cbitpos, reduced_phys_bits } = serde_json::from_value(answer).ok()?;
        Some(SevFacts { cbitpos, reduced_phys_bits })
    }
}

/// An answer as a value.
pub(super) fn read<T: for<'de> Deserialize<'de>>(
    command: &'static str,
    answer: Value,
) -> Result<T, ProbeError> {
    serde_json::from_value(answer)
        .map_err(|error| ProbeError::Unreadable { command, why: error.to_string() })
}

pub(super) fn version(answer: Value) -> Result<QemuVersion, ProbeError> {
    let Version { qemu, package } = read("query-version", answer)?;
    Ok(QemuVersion { number: (qemu.major, qemu.minor, qemu.micro), package })
}

/// Whether KVM is the accelerator.
pub(super) fn kvm(answer: Option<Value>) -> bool {
    answer.is_some_and(|answer| answer["enabled"] == true)
}

/// The machine type of a domain that names none.
pub(super) fn default_machine(machines: &[Machine]) -> String {
    let named = machines.iter().find(|machine| machine.alias.as_deref() == Some(DEFAULT_MACHINE));
    let own = || machines.iter().find(|machine| machine.is_default);
    named.or_else(own).map_or_else(|| DEFAULT_MACHINE.to_owned(), |machine| machine.name.clone())
}

pub(super) fn aliases(machines: &[Machine]) -> BTreeMap<String, String> {
    let pairs = machines.iter().filter_map(|it| Some((it.alias.clone()?, it.name.clone())));
    pairs.collect()
}

/// The machine types with the CPU models that they have when a domain names none.
pub(super) fn default_cpus(machines: Vec<Machine>) -> BTreeMap<String, Option<String>> {
    let cpu = |kind: String| kind.strip_suffix("-cpu").map(|kind| model(kind).to_owned());
    machines.into_iter().map(|it| (it.name, it.default_cpu_type.and_then(cpu))).collect()
}

/// The model in the name of a CPU's type, which on a PC ends in the architecture: `qemu64-x86_64`.
fn model(kind: &str) -> &str {
    ["-x86_64", "-i386"].iter().find_map(|arch| kind.strip_suffix(arch)).unwrap_or(kind)
}

/// The devices that can be made, but for CPUs, which nobody adds as devices.
pub(super) fn devices(types: Vec<Type>) -> BTreeSet<String> {
    types.into_iter().map(|it| it.name).filter(|name| !name.ends_with("-cpu")).collect()
}
