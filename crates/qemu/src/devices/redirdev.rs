//! USB devices of a remote client, `<redirdev>`.

use domain::devices::{RedirRule, Redirdev};

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, placed};
use crate::json::Object;

/// Adds the connection to the client and the device.
pub(crate) fn arguments(command: &mut Command<'_>, redirdev: &Redirdev) {
    let alias = redirdev.info.alias();
    let backend = chardev::arguments(command, &redirdev.chardev, alias, Purpose::Redirection);
    let filters = &command.domain.devices.redirfilters;
    if filters.len() > 1 {
        let what = "a guest has one <redirfilter>; put all <usbdev> into one";
        command.refuse(&command.domain.place.child("devices/redirfilter"), what);
    }
    let rules: Vec<String> = filters.iter().flat_map(|filter| &filter.rules).map(rule).collect();
    let filter = (!rules.is_empty()).then(|| rules.join("|"));
    let device = Object::new("driver", "usb-redir").set("chardev", backend).some("filter", filter);
    command.device(&placed(command, &redirdev.info, device));
}

/// A rule in QEMU's words; -1 fits everything.
fn rule(rule: &RedirRule) -> String {
    let any = || "-1".to_owned();
    let word = |number: Option<u16>| number.map_or_else(any, |number| format!("0x{number:04X}"));
    let class = rule.class.map_or_else(any, |class| format!("0x{class:02X}"));
    let (vendor, product, version) = (word(rule.vendor), word(rule.product), word(rule.version));
    format!("{class}:{vendor}:{product}:{version}:{}", u8::from(rule.allow))
}
