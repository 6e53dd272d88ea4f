//! The named CPU model that comes closest to the host's, for `<cpu mode='host-model'>`.
//!
//! As in libvirt: of the models of the host's vendor, one of the same family and model goes before others, and of
//! those the one with the fewest features to add and to take away. Libvirt has tables of its own; here QEMU itself
//! says what each of its models is.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::facts::HostModel;

use super::replies::CpuDefinition;
use super::{Asker, ProbeError};

/// Models that are no real CPU's.
const UNREAL: [&str; 7] = ["base", "host", "max", "kvm32", "kvm64", "qemu32", "qemu64"];

/// What a CPU is, by QEMU's static expansion of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expansion {
    vendor: String,
    /// Family and model.
    signature: (u64, u64),
    features: BTreeSet<String>,
}

/// Asks for the host's CPU and for each model.
pub(super) fn ask(
    asker: &mut Asker<'_>,
    kvm: bool,
    definitions: &[CpuDefinition],
) -> Result<Option<HostModel>, ProbeError> {
    let Some(host) = expand(asker, if kvm { "host" } else { "max" })? else { return Ok(None) };
    let mut models = Vec::new();
    for definition in definitions.iter().filter(|definition| is_candidate(definition)) {
        if let Some(model) = expand(asker, &definition.name)? {
            models.push((definition.name.clone(), model));
        }
    }
    models.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(closest(&host, &models))
}

/// Whether it is a real CPU's, by the name that users know: versions, `EPYC-v2`, are no names of libvirt's.
fn is_candidate(definition: &CpuDefinition) -> bool {
    let name = definition.name.as_str();
    let version = name.rsplit_once("-v").map(|(_, number)| number);
    let is_version = version.is_some_and(|number| number.bytes().all(|it| it.is_ascii_digit()));
    definition.migration_safe != Some(false) && !is_version && !UNREAL.contains(&name)
}

fn expand(asker: &mut Asker<'_>, name: &str) -> Result<Option<Expansion>, ProbeError> {
    let arguments = json!({ "type": "static", "model": { "name": name } });
    let answer = asker.may("query-cpu-model-expansion", arguments)?;
    let props = answer.as_ref().and_then(|answer| answer["model"]["props"].as_object());
    Ok(props.and_then(Expansion::read))
}

impl Expansion {
    fn read(props: &Map<String, Value>) -> Option<Self> {
        let number = |key: &str| props.get(key)?.as_u64();
        let on = props.iter().filter(|(name, value)| **value == true && is_of_cpu(name));
        Some(Self {
            vendor: props.get("vendor")?.as_str()?.to_owned(),
            signature: (number("family")?, number("model")?),
            features: on.map(|(name, _)| name.clone()).collect(),
        })
    }
}

/// Whether a feature is of the CPU, and not of the accelerator under it.
fn is_of_cpu(name: &str) -> bool {
    !["kvm", "hv-", "x-", "xen-"].iter().any(|start| name.starts_with(start))
}

fn closest(host: &Expansion, models: &[(String, Expansion)]) -> Option<HostModel> {
    let of_vendor = models.iter().filter(|(_, model)| model.vendor == host.vendor);
    let distance = |model: &Expansion| {
        let differing = host.features.symmetric_difference(&model.features).count();
        (model.signature != host.signature, differing)
    };
    let (name, model) = of_vendor.min_by_key(|(_, model)| distance(model))?;
    let added = host.features.difference(&model.features).map(|name| (name.clone(), true));
    let removed = model.features.difference(&host.features).map(|name| (name.clone(), false));
    Some(HostModel { model: name.clone(), features: added.chain(removed).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(vendor: &str, signature: (u64, u64), features: &[&str]) -> Expansion {
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        Expansion { vendor: vendor.to_owned(), signature, features }
    }

    #[test]
    fn the_same_cpu_goes_before_a_closer_one() {
        let host = model("A", (1, 2), &["x", "y", "z"]);
        let named = |name: &str, model| (name.to_owned(), model);
        let closer = named("closer", model("A", (1, 3), &["x", "y", "z"]));
        let other = named("other", model("B", (1, 2), &["x", "y", "z"]));
        let same = named("same", model("A", (1, 2), &["x", "w"]));
        let features = [("y", true), ("z", true), ("w", false)];
        let expected = HostModel {
            model: "same".to_owned(),
            features: features.map(|(name, on)| (name.to_owned(), on)).to_vec(),
        };
        assert_eq!(closest(&host, &[closer.clone(), other.clone(), same]), Some(expected));
        let expected = HostModel { model: "closer".to_owned(), features: Vec::new() };
        assert_eq!(closest(&host, &[closer, other.clone()]), Some(expected));
        assert_eq!(closest(&host, &[other]), None);
    }

    #[test]
    fn versions_and_pretended_cpus_are_no_candidates() {
        for (name, expected) in
            [("EPYC", true), ("EPYC-v2", false), ("qemu64", false), ("Denverton-vx", true)]
        {
            let definition = CpuDefinition { name: name.to_owned(), migration_safe: Some(true) };
            assert_eq!(is_candidate(&definition), expected, "{name}");
        }
    }
}
