//! What a device that is gone has left in QEMU and on the host.

use domain::devices::Interface;
use serde_json::{Value, json};

use super::intent::Set;
use super::monitor::{Monitor, Refusal};
use crate::log;
use crate::tap::Taps;

/// The sets of file descriptors that are for these.
pub(super) fn sets_for(monitor: &mut Monitor, purposes: &[&str]) -> Result<Vec<Set>, Refusal> {
    if purposes.is_empty() {
        return Ok(Vec::new());
    }
    let sets = monitor.ask("query-fdsets", Value::Null)?;
    Ok(sets.as_array().into_iter().flatten().filter_map(|set| set_for(set, purposes)).collect())
}

fn set_for(set: &Value, purposes: &[&str]) -> Option<Set> {
    let mut fds = set.get("fds")?.as_array()?.iter();
    let purpose = fds.find_map(|fd| {
        let purpose = fd.get("opaque")?.as_str()?;
        purposes.contains(&purpose).then(|| purpose.to_owned())
    })?;
    Some(Set { number: set_number(set)?, purpose })
}

/// The number of a set.
pub(super) fn set_number(set: &Value) -> Option<u64> {
    set.get("fdset-id")?.as_u64()
}

/// Removes what a device has left.
pub(super) fn clear(monitor: &mut Monitor, afterwards: Vec<(&'static str, Value)>, sets: &[Set]) {
    let remove = |set: &Set| ("remove-fd", json!({ "fdset-id": set.number }));
    for (command, arguments) in afterwards.into_iter().chain(sets.iter().map(remove)) {
        if let Err(refusal) = monitor.release(command, &arguments) {
            log::warning(format_args!("QEMU keeps something: {command} {arguments}: {refusal}"));
        }
    }
}

/// Removes an interface's macvtap device.
pub(super) fn remove_macvtap(interface: &Interface) {
    let name = Taps::macvtap_name(interface);
    if let Err(error) = Taps::remove_macvtap(&name) {
        log::warning(format_args!("the network device '{name}' stays: {error}"));
    }
}
