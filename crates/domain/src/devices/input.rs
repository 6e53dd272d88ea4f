//! Input devices, `<input>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// What the device is.
    pub enum InputType {
        /// A mouse: moves.
        Mouse = "mouse",
        /// A tablet: positions.
        Tablet = "tablet",
        /// A keyboard.
        Keyboard = "keyboard",
        /// A device of the host.
        Passthrough = "passthrough",
        /// Events of a device of the host.
        Evdev = "evdev",
    }
}

crate::keywords! {
    /// The bus of an input device.
    pub enum InputBus {
        /// The PC's keyboard controller.
        Ps2 = "ps2",
        /// USB.
        Usb = "usb",
        /// Xen's.
        Xen = "xen",
        /// virtio.
        Virtio = "virtio",
        /// None: the device is no bus's.
        None = "none",
    }
}

crate::keywords! {
    /// Interfaces of a virtio input device.
    pub enum InputModel {
        /// What suits the bus.
        Virtio = "virtio",
        /// With the old interface.
        Transitional = "virtio-transitional",
        /// Without it.
        NonTransitional = "virtio-non-transitional",
    }
}

/// An input device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where the element stands.
    pub place: Place,
    /// What it is.
    pub kind: InputType,
    /// Its bus.
    pub bus: Option<InputBus>,
    /// Its virtio interface.
    pub model: Option<InputModel>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Input {
    /// A device that defaults add.
    #[must_use]
    pub fn new(kind: InputType, bus: InputBus) -> Self {
        let (place, info) = (Place::default(), DeviceInfo::default());
        Self { place, kind, bus: Some(bus), model: None, virtio: VirtioOptions::default(), info }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "tablet"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        match kind {
            InputType::Mouse | InputType::Tablet | InputType::Keyboard => {}
            InputType::Passthrough | InputType::Evdev => {
                let _ = reader.raw(); // The device is refused whole.
                reader.refuse_attribute("type", "not supported yet by glassbox; remove the device");
                return None;
            }
        }
        let driver = reader.child("driver");
        Some(Self {
            place: reader.place(),
            kind,
            bus: reader.keyword("bus"),
            model: reader.keyword("model"),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info: DeviceInfo::parse(reader),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("input")
            .attribute("type", self.kind)
            .optional("bus", self.bus)
            .optional("model", self.model)
            .children(|w| {
                self.virtio.write("driver", w);
                self.info.write(w);
            });
    }
}
