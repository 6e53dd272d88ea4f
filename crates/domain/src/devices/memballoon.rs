//! The memory balloon, `<memballoon>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// Models of the balloon.
    pub enum BalloonModel {
        /// virtio as suits the bus.
        Virtio = "virtio",
        /// Xen's.
        Xen = "xen",
        /// No balloon.
        None = "none",
        /// virtio with its old interface.
        Transitional = "virtio-transitional",
        /// virtio without it.
        NonTransitional = "virtio-non-transitional",
    }
}

/// The memory balloon, by which the host takes memory back from the running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemBalloon {
    /// Where the element stands.
    pub place: Place,
    /// The model.
    pub model: BalloonModel,
    /// Whether the balloon gives memory back when the guest has none left.
    pub auto_deflate: Option<bool>,
    /// Whether the guest reports pages that it does not use.
    pub free_page_reporting: Option<bool>,
    /// How often, in seconds, the guest tells its use of memory.
    pub stats_period: Option<u32>,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl MemBalloon {
    /// The balloon that a guest has when its domain says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            place: Place::default(),
            model: BalloonModel::Virtio,
            auto_deflate: None,
            free_page_reporting: None,
            stats_period: None,
            virtio: VirtioOptions::default(),
            info: DeviceInfo::default(),
        }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("model", "virtio"); // The keyword itself is read below.
        let driver = reader.child("driver");
        let stats = reader.child("stats");
        let balloon = Self {
            place: reader.place(),
            auto_deflate: reader.on_off("autodeflate"),
            free_page_reporting: reader.on_off("freePageReporting"),
            stats_period: stats.and_then(|stats| stats.number("period")),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            info: DeviceInfo::parse(reader),
            model: reader.keyword("model")?,
        };
        if balloon.model == BalloonModel::Xen {
            reader.refuse_attribute("model", "no QEMU guest has Xen's balloon; use virtio");
            return None;
        }
        Some(balloon)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("memballoon")
            .attribute("model", self.model)
            .on_off("autodeflate", self.auto_deflate)
            .on_off("freePageReporting", self.free_page_reporting)
            .children(|w| {
                w.element("stats").optional("period", self.stats_period).empty_if_any();
                self.info.write(w);
                self.virtio.write("driver", w);
            });
    }
}

impl Default for MemBalloon {
    fn default() -> Self {
        Self::new()
    }
}
