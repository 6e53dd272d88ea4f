//! Video cards, `<video>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

crate::keywords! {
    /// Models of video cards.
    pub enum VideoModel {
        /// What suits the display.
        Default = "default",
        /// The standard VGA with extensions.
        Vga = "vga",
        /// Cirrus Logic GD5446.
        Cirrus = "cirrus",
        /// VMware's.
        Vmvga = "vmvga",
        /// Xen's.
        Xen = "xen",
        /// VirtualBox's.
        Vbox = "vbox",
        /// SPICE's.
        Qxl = "qxl",
        /// Parallels's.
        Parallels = "parallels",
        /// virtio.
        Virtio = "virtio",
        /// bhyve's.
        Gop = "gop",
        /// No card.
        None = "none",
        /// The standard VGA without its old parts.
        Bochs = "bochs",
        /// A frame buffer in RAM.
        Ramfb = "ramfb",
    }
}

crate::attributes! {
    /// Whether the card renders in three dimensions.
    pub struct Acceleration {
        /// Whether it does.
        pub accel3d: bool = yes_no "accel3d",
        /// Whether it does in two.
        pub accel2d: bool = yes_no "accel2d",
        /// The host's device that renders.
        pub render_node: String = string "rendernode",
    }
}

crate::attributes! {
    /// The resolution that the guest starts with.
    pub struct Resolution {
        /// Pixels of a row.
        pub x: u32 = number "x",
        /// Rows.
        pub y: u32 = number "y",
    }
}

crate::attributes! {
    /// How much memory a card has, in KiB, and how many displays.
    pub struct VideoMemory {
        /// The second memory of QXL.
        pub ram: u32 = number "ram",
        /// The memory.
        pub vram: u32 = number "vram",
        /// The 64 bit memory of QXL.
        pub vram64: u32 = number "vram64",
        /// The part of QXL's memory for the frame buffer.
        pub vgamem: u32 = number "vgamem",
        /// How many displays there are.
        pub heads: u32 = number "heads",
    }
}

/// A video card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// Where the element stands.
    pub place: Place,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// The model.
    pub model: Option<VideoModel>,
    /// Its memory and displays.
    pub memory: VideoMemory,
    /// Whether it is the one that firmware uses.
    pub primary: Option<bool>,
    /// Whether guest and host share memory of images.
    pub blob: Option<bool>,
    /// Whether it renders.
    pub acceleration: Option<Acceleration>,
    /// The resolution that the guest starts with.
    pub resolution: Option<Resolution>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Video {
    /// A card that defaults add.
    #[must_use]
    pub fn new(model: VideoModel) -> Self {
        Self {
            place: Place::default(),
            virtio: VirtioOptions::default(),
            model: Some(model),
            memory: VideoMemory::default(),
            primary: None,
            blob: None,
            acceleration: None,
            resolution: None,
            info: DeviceInfo::default(),
        }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_attributes(&["name", "vgaconf"]);
        }
        let info = DeviceInfo::parse(reader);
        let model = reader.child("model");
        let model = model.as_ref();
        if let Some(model) = model {
            model.refuse_attributes(&["edid"]);
        }
        let child = |name: &str| model.and_then(|model| model.child(name));
        Some(Self {
            place: reader.place(),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            memory: model.map(VideoMemory::parse).unwrap_or_default(),
            primary: model.and_then(|model| model.yes_no("primary")),
            blob: model.and_then(|model| model.on_off("blob")),
            acceleration: child("acceleration").map(|r| Acceleration::parse(&r)),
            resolution: child("resolution").map(|r| Resolution::parse(&r)),
            info,
            model: model.and_then(|model| model.keyword("type")),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("video").children(|w| {
            self.virtio.write("driver", w);
            let model = w.element("model").optional("type", self.model);
            self.memory
                .write_attributes(model)
                .yes_no("primary", self.primary)
                .on_off("blob", self.blob)
                .children_if_any(|w| {
                    if let Some(acceleration) = &self.acceleration {
                        acceleration.write("acceleration", w);
                    }
                    if let Some(resolution) = &self.resolution {
                        resolution.write("resolution", w);
                    }
                });
            self.info.write(w);
        });
    }
}
