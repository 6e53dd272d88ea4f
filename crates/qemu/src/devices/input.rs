//! Input devices.

use domain::devices::{
    Input, InputBus, InputGrab, InputModel, InputType, VirtioModel, VirtioOptions,
};
use domain::{Domain, Faults};

use crate::board::Board;
use crate::command::Command;
use crate::devices::{placed, virtio, virtio_driver};
use crate::json::Object;
use crate::plan::Access;
use crate::rules::refuse_broken;

/// Adds the mouse and the keyboard that a PC's keyboard controller brings.
pub(crate) fn add_ps2(domain: &mut Domain) {
    complete(domain);
    if domain.features.ps2 == Some(false) || !Board::of_domain(domain).is_pc() {
        return;
    }
    for kind in [InputType::Mouse, InputType::Keyboard] {
        let inputs = &mut domain.devices.inputs;
        if !inputs.iter().any(|input| input.kind == kind && input.bus == Some(InputBus::Ps2)) {
            inputs.push(Input::new(kind, InputBus::Ps2));
        }
    }
}

/// Fills in buses.
pub(crate) fn complete(domain: &mut Domain) {
    let is_pc = Board::of_domain(domain).is_pc();
    for input in &mut domain.devices.inputs {
        input.bus.get_or_insert(match input.kind {
            InputType::Mouse | InputType::Keyboard if is_pc => InputBus::Ps2,
            InputType::Mouse | InputType::Keyboard => InputBus::Usb,
            InputType::Tablet => InputBus::Usb,
            InputType::Passthrough => InputBus::Virtio,
            InputType::Evdev => InputBus::None,
        });
    }
}

/// Refuses words that are of other devices.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    for input in &domain.devices.inputs {
        let emulated =
            matches!(input.kind, InputType::Mouse | InputType::Tablet | InputType::Keyboard);
        let virtio = input.bus == Some(InputBus::Virtio);
        let rules = [
            (
                emulated && input.source.evdev.is_some(),
                "'evdev' is for type='passthrough'; remove <source>",
            ),
            (
                !virtio && input.virtio != VirtioOptions::default(),
                "<driver> is for bus='virtio'; remove it",
            ),
        ];
        refuse_broken(faults, &input.place, rules);
    }
}

/// Whether the device can come and go while a guest runs.
pub(crate) fn is_pluggable(input: &Input) -> bool {
    matches!(input.kind, InputType::Mouse | InputType::Tablet | InputType::Keyboard)
        && matches!(input.bus, Some(InputBus::Usb | InputBus::Virtio))
}

/// Adds an input device; those of the keyboard controller are there already.
pub(crate) fn arguments(command: &mut Command<'_>, input: &Input) {
    if input.kind == InputType::Evdev {
        return evdev(command, input);
    }
    let device = match input.bus.unwrap_or(InputBus::Ps2) {
        InputBus::Ps2 => return,
        InputBus::Usb => usb_name(input.kind).map(|name| Object::new("driver", name)),
        InputBus::Virtio => virtio_name(input.kind).map(|name| {
            let driver = virtio_driver(name, model(input.model));
            virtio(&input.virtio, Object::new("driver", driver))
        }),
        InputBus::Xen | InputBus::None => None,
    };
    let Some(device) = device else {
        command.refuse(&input.place, "no such input device; use bus='usb'");
        return;
    };
    if let Some(path) = &input.source.evdev {
        command.needs_file(path, Access::ReadWrite, &input.place.child("source"));
    }
    let device = device.some("evdev", input.source.evdev.as_ref());
    command.device(&placed(command, &input.info, device));
}

/// Events of a device of the host are an object, not a device.
fn evdev(command: &mut Command<'_>, input: &Input) {
    let source = &input.source;
    if let Some(path) = &source.dev {
        command.needs_file(path, Access::ReadWrite, &input.place.child("source"));
    }
    let object = Object::new("qom-type", "input-linux")
        .set("id", input.info.alias())
        .some("evdev", source.dev.as_ref())
        .some("repeat", source.repeat)
        .some("grab_all", source.grab.map(|InputGrab::All| true))
        .some("grab-toggle", source.grab_toggle.map(|keys| keys.as_str()));
    command.object(&object);
}

fn usb_name(kind: InputType) -> Option<&'static str> {
    match kind {
        InputType::Mouse => Some("usb-mouse"),
        InputType::Tablet => Some("usb-tablet"),
        InputType::Keyboard => Some("usb-kbd"),
        InputType::Passthrough | InputType::Evdev => None,
    }
}

fn virtio_name(kind: InputType) -> Option<&'static str> {
    match kind {
        InputType::Mouse => Some("virtio-mouse"),
        InputType::Tablet => Some("virtio-tablet"),
        InputType::Keyboard => Some("virtio-keyboard"),
        InputType::Passthrough => Some("virtio-input-host"),
        InputType::Evdev => None,
    }
}

fn model(model: Option<InputModel>) -> VirtioModel {
    match model.unwrap_or(InputModel::Virtio) {
        InputModel::Virtio => VirtioModel::Virtio,
        InputModel::Transitional => VirtioModel::Transitional,
        InputModel::NonTransitional => VirtioModel::NonTransitional,
    }
}
