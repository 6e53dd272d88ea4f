//! Which CPUs to add or to take away, by what QEMU has slots for.

use serde_json::{Value, json};

/// One command of QEMU's.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `device_add` or `device_del`.
    pub command: &'static str,
    /// Its arguments.
    pub arguments: Value,
}

/// A number of CPUs that a guest cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VcpusFault {
    /// There are not so many.
    #[error("it can have 1 to {most} CPUs while it runs; a definition gives more by <vcpu>")]
    Range {
        /// The most that it can have.
        most: usize,
    },
    /// Those that could go are too few.
    #[error("{fixed} of its CPUs cannot be taken away while it runs")]
    Fixed {
        /// How many are there from the start.
        fixed: usize,
    },
}

/// What is to be done with the answer to `query-hotpluggable-cpus` until there are so many CPUs. CPUs that were added
/// last go first.
///
/// # Errors
/// [`VcpusFault`] when no steps lead there.
pub fn steps(slots: &Value, count: u32) -> Result<Vec<Step>, VcpusFault> {
    // QEMU lists the last slot first.
    let slots: Vec<&Value> = slots.as_array().into_iter().flatten().rev().collect();
    let used = slots.iter().filter(|slot| slot.get("qom-path").is_some()).count();
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    if wanted == 0 || wanted > slots.len() {
        return Err(VcpusFault::Range { most: slots.len() });
    }
    if wanted >= used {
        let free = slots.iter().enumerate().filter(|(_, slot)| slot.get("qom-path").is_none());
        return Ok(free.take(wanted - used).map(|(number, slot)| add(number, slot)).collect());
    }
    let removable: Vec<Step> = slots.iter().rev().filter_map(|slot| remove(slot)).collect();
    if removable.len() < used - wanted {
        return Err(VcpusFault::Fixed { fixed: used - removable.len() });
    }
    Ok(removable.into_iter().take(used - wanted).collect())
}

fn add(number: usize, slot: &Value) -> Step {
    let mut arguments = slot.get("props").cloned().unwrap_or_else(|| json!({}));
    arguments["driver"] = slot.get("type").cloned().unwrap_or_default();
    // The name that libvirt gives a CPU, too.
    arguments["id"] = Value::String(format!("vcpu{number}"));
    Step { command: "device_add", arguments }
}

/// Taking a CPU away, if it was added by a command: others have no id to name them by.
fn remove(slot: &Value) -> Option<Step> {
    let id = slot.get("qom-path")?.as_str()?.strip_prefix("/machine/peripheral/")?;
    Some(Step { command: "device_del", arguments: json!({ "id": id }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four slots as QEMU lists them, of which the first two are used; the second one was added.
    fn slots() -> Value {
        let slot = |number: u32, path: Option<&str>| {
            let mut slot = json!({
                "type": "max-x86_64-cpu", "vcpus-count": 1, "props": { "socket-id": number }
            });
            if let Some(path) = path {
                slot["qom-path"] = json!(path);
            }
            slot
        };
        json!([
            slot(3, None),
            slot(2, None),
            slot(1, Some("/machine/peripheral/vcpu1")),
            slot(0, Some("/machine/unattached/device[0]")),
        ])
    }

    #[test]
    fn cpus_are_added_in_order_and_the_last_goes_first() {
        let told = |count| {
            let steps = steps(&slots(), count).map_err(|fault| fault.to_string())?;
            Ok(steps
                .iter()
                .map(|step| format!("{} {}", step.command, step.arguments["id"]))
                .collect::<Vec<_>>())
        };
        let range = "it can have 1 to 4 CPUs while it runs; a definition gives more by <vcpu>";
        let added = ["device_add \"vcpu2\"".to_owned(), "device_add \"vcpu3\"".to_owned()];
        assert_eq!(told(0), Err(range.to_owned()));
        assert_eq!(told(1), Ok(vec!["device_del \"vcpu1\"".to_owned()]));
        assert_eq!(told(2), Ok(vec![]));
        assert_eq!(told(3), Ok(added[..1].to_vec()));
        assert_eq!(told(4), Ok(added.to_vec()));
        assert_eq!(told(5), Err(range.to_owned()));
        let first = &steps(&slots(), 3).unwrap()[0].arguments;
        let whole = json!({ "driver": "max-x86_64-cpu", "id": "vcpu2", "socket-id": 2 });
        assert_eq!(*first, whole);
    }

    #[test]
    fn what_is_there_from_the_start_stays() {
        let mut slots = slots();
        slots[2]["qom-path"] = json!("/machine/unattached/device[1]");
        assert_eq!(steps(&slots, 1), Err(VcpusFault::Fixed { fixed: 2 }));
    }
}
