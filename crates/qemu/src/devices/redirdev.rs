//! USB devices of a remote client.

use domain::devices::{RedirRule, Redirdev};

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, placed};
use crate::json::Object;

/// Adds the way to the client and the device, with the rules that hold for all of them.
pub(crate) fn arguments(command: &mut Command<'_>, redirdev: &Redirdev) {
    let alias = redirdev.info.alias();
    let backend = chardev::arguments(command, &redirdev.chardev, alias, Purpose::Redirection);
    let rules = command.domain.devices.redirfilters.iter().flat_map(|filter| &filter.rules);
    let rules: Vec<String> = rules.map(rule).collect();
    let filter = (!rules.is_empty()).then(|| rules.join("|"));
    let device = Object::new("driver", "usb-redir").set("chardev", backend).some("filter", filter);
    command.device(&placed(command, &redirdev.info, device));
}

/// `CLASS:VENDOR:PRODUCT:VERSION:ALLOW` of usbredir's filters, -1 for any.
fn rule(rule: &RedirRule) -> String {
    let word = |number: Option<u16>| match number {
        Some(number) => format!("0x{number:04X}"),
        None => "-1".to_owned(),
    };
    let class = rule.class.map_or_else(|| "-1".to_owned(), |class| format!("0x{class:02X}"));
    let (vendor, product) = (word(rule.vendor), word(rule.product));
    format!("{class}:{vendor}:{product}:{}:{}", word(rule.version), u8::from(rule.allow))
}
