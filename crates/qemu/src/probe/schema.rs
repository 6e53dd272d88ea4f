//! QMP's description of itself (QEMU's `docs/devel/qapi-code-gen.rst`, "Client JSON Protocol introspection").

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The description, by the names of commands and the numbers of types.
pub(super) struct Schema(BTreeMap<String, Entry>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    name: String,
    arg_type: Option<String>,
    #[serde(default)]
    members: Vec<Member>,
    #[serde(default)]
    variants: Vec<Variant>,
}

/// A member of an object. Enumerations and alternatives have members without a name.
#[derive(Deserialize)]
struct Member {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Variant {
    case: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Schema {
    /// Reads the description; none has nothing.
    pub(super) fn new(answer: Option<&Value>) -> Self {
        let entries = answer.and_then(Value::as_array).into_iter().flatten();
        let entries = entries.filter_map(|entry| Entry::deserialize(entry).ok());
        Self(entries.map(|entry| (entry.name.clone(), entry)).collect())
    }

    /// Whether there is such a path: a command, then members, or with `=` in front variants, of its arguments.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        let Some((command, steps)) = path.split_first() else { return false };
        let arguments = self.0.get(*command).and_then(|entry| entry.arg_type.as_ref());
        let end = steps.iter().try_fold(arguments.map(String::as_str), |kind, step| {
            let entry = self.0.get(kind?)?;
            Some(Some(entry.step(step)?))
        });
        end.flatten().is_some()
    }
}

impl Entry {
    /// The type to which a step leads.
    fn step(&self, step: &str) -> Option<&str> {
        match step.strip_prefix('=') {
            Some(case) => Some(&self.variants.iter().find(|variant| variant.case == case)?.kind),
            None => Some(&self.members.iter().find(|member| member.name == step)?.kind),
        }
    }
}
