//! What the domain says to QEMU past all elements: arguments, variables, changed properties, deprecation.

use domain::Domain;
use domain::devices::DeviceKind;
use domain::{DeprecationBehavior, PropertyOverride, PropertyType};

use crate::command::Command;
use crate::json::{Json, Object};

/// The properties of a device with the domain's changes; none when there are no changes.
pub(crate) fn applied(domain: &Domain, device: &Object) -> Option<Object> {
    let Some(Json::Text(id)) = device.get("id") else { return None };
    let mut changes = domain.qemu.overrides.iter().filter(|change| change.alias == *id).peekable();
    changes.peek()?;
    let mut device = device.clone();
    for property in changes.flat_map(|change| &change.properties) {
        device = match value(property) {
            Some(value) => device.replace(&property.name, value),
            None => device.without(&property.name),
        };
    }
    Some(device)
}

/// The value as JSON; none for a property that goes. The crate `domain` has checked that it is of its type.
fn value(property: &PropertyOverride) -> Option<Json> {
    let text = property.value.as_deref().unwrap_or_default();
    match property.kind {
        PropertyType::String => Some(text.into()),
        PropertyType::Unsigned => Some(text.parse::<u64>().unwrap_or_default().into()),
        PropertyType::Signed => Some(text.parse::<i64>().unwrap_or_default().into()),
        PropertyType::Bool => Some((text == "true").into()),
        PropertyType::Remove => None,
    }
}

/// Adds what QEMU does about what it is going to lose.
pub(crate) fn deprecation_arguments(command: &mut Command<'_>) {
    let input = match command.domain.qemu.deprecation {
        None | Some(DeprecationBehavior::None) => return,
        Some(DeprecationBehavior::Omit) => None,
        Some(DeprecationBehavior::Reject) => Some("reject"),
        Some(DeprecationBehavior::Crash) => Some("crash"),
    };
    let compat = Object::new("deprecated-output", "hide").some("deprecated-input", input);
    command.argv.json("-compat", &compat);
}

/// Adds the arguments and variables, and refuses changes to devices that are not there.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    for argument in &domain.qemu.arguments {
        command.argv.flag(argument);
    }
    for (name, value) in &domain.qemu.environment {
        command.sets_variable(name, value.as_deref().unwrap_or_default());
    }
    let devices = &domain.devices;
    let known = |alias: &str| {
        let all = DeviceKind::ALL.into_iter().flat_map(|kind| devices.all(kind));
        all.into_iter().any(|device| devices.info(device).alias() == alias)
    };
    for change in &domain.qemu.overrides {
        if !known(&change.alias) {
            let what = format!("no device has the alias '{}'; give it <alias>", change.alias);
            command.refuse(&change.place, what);
        }
    }
}
