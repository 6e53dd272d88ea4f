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

crate::keywords! {
    /// Which devices of the host a grab takes along.
    pub enum InputGrab {
        /// All.
        All = "all",
    }
}

crate::keywords! {
    /// The keys that let a grabbed device go and take it again.
    pub enum GrabToggle {
        /// Both control keys.
        CtrlCtrl = "ctrl-ctrl",
        /// Both alt keys.
        AltAlt = "alt-alt",
        /// Both shift keys.
        ShiftShift = "shift-shift",
        /// Both meta keys.
        MetaMeta = "meta-meta",
        /// The key that locks scrolling.
        Scrolllock = "scrolllock",
        /// Control and the key that locks scrolling.
        CtrlScrolllock = "ctrl-scrolllock",
    }
}

crate::attributes! {
    /// The device of the host, `<source>`.
    pub struct InputSource {
        /// The path of a passed-through device, below `/dev/input`.
        pub evdev: String = string "evdev",
        /// The path of a device whose events are taken.
        pub dev: String = string "dev",
        /// Which devices a grab takes along.
        pub grab: InputGrab = keyword "grab",
        /// The keys that let it go.
        pub grab_toggle: GrabToggle = keyword "grabToggle",
        /// Whether keys repeat.
        pub repeat: bool = on_off "repeat",
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
    /// The device of the host.
    pub source: InputSource,
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
        let (source, virtio) = (InputSource::default(), VirtioOptions::default());
        Self { place, kind, bus: Some(bus), model: None, source, virtio, info }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "tablet"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        let driver = reader.child("driver");
        let source = reader.child("source").map(|source| InputSource::parse(&source));
        let input = Self {
            place: reader.place(),
            kind,
            // The format has no word for this bus, which one kind of device is always on.
            bus: reader.keyword("bus").or((kind == InputType::Evdev).then_some(InputBus::None)),
            model: reader.keyword("model"),
            source: source.unwrap_or_default(),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info: DeviceInfo::parse(reader),
        };
        input.check(reader);
        Some(input)
    }

    fn check(&self, reader: &Reader<'_>) {
        match self.kind {
            InputType::Mouse | InputType::Tablet | InputType::Keyboard => {
                if self.model.is_some_and(|model| model != InputModel::Virtio) {
                    reader.refuse_attribute("model", "only type='passthrough' has it; remove it");
                }
                if self.kind == InputType::Tablet && self.bus == Some(InputBus::Ps2) {
                    reader.refuse_attribute("bus", "no PS/2 tablet exists; use usb");
                }
            }
            InputType::Passthrough => {
                if self.source.evdev.is_none() {
                    reader.refuse("<source evdev='/dev/input/event1'/> is missing; add it");
                }
                if self.bus.is_some_and(|bus| bus != InputBus::Virtio) {
                    reader.refuse_attribute("bus", "such a device is on virtio; remove the bus");
                }
            }
            InputType::Evdev => {
                if self.source.dev.is_none() {
                    reader.refuse("<source dev='/dev/input/event1'/> is missing; add it");
                }
                if self.bus.is_some_and(|bus| bus != InputBus::None) {
                    reader.refuse_attribute("bus", "such a device is on no bus; remove the bus");
                }
            }
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("input")
            .attribute("type", self.kind)
            .optional("bus", self.bus.filter(|bus| *bus != InputBus::None))
            .optional("model", self.model)
            .children(|w| {
                self.virtio.write("driver", w);
                self.source.write("source", w);
                self.info.write(w);
            });
    }
}
