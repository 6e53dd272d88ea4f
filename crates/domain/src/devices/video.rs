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

crate::keywords! {
    /// Who draws.
    pub enum VideoBackend {
        /// QEMU.
        Qemu = "qemu",
        /// A program of the guest's own, vhost-user-gpu.
        VhostUser = "vhostuser",
    }
}

/// A video card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// Where the element stands.
    pub place: Place,
    /// Options of virtio.
    pub virtio: VirtioOptions,
    /// Who draws.
    pub backend: Option<VideoBackend>,
    /// The model.
    pub model: Option<VideoModel>,
    /// Its memory and displays.
    pub memory: VideoMemory,
    /// Whether it is the one that firmware uses.
    pub primary: Option<bool>,
    /// Whether guest and host share memory of images.
    pub blob: Option<bool>,
    /// Whether the guest is told of the display's resolutions.
    pub edid: Option<bool>,
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
            backend: None,
            model: Some(model),
            memory: VideoMemory::default(),
            primary: None,
            blob: None,
            edid: None,
            acceleration: None,
            resolution: None,
            info: DeviceInfo::default(),
        }
    }

    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_attributes(&["vgaconf"]);
        }
        let info = DeviceInfo::parse(reader);
        let model = reader.child("model");
        let model = model.as_ref();
        let child = |name: &str| model.and_then(|model| model.child(name));
        let video = Self {
            place: reader.place(),
            backend: driver.as_ref().and_then(|driver| driver.keyword("name")),
            virtio: driver.map(|driver| VirtioOptions::parse(&driver)).unwrap_or_default(),
            memory: model.map(VideoMemory::parse).unwrap_or_default(),
            primary: model.and_then(|model| model.yes_no("primary")),
            blob: model.and_then(|model| model.on_off("blob")),
            edid: model.and_then(|model| model.on_off("edid")),
            acceleration: child("acceleration").map(|r| Acceleration::parse(&r)),
            resolution: child("resolution").map(|r| Resolution::parse(&r)),
            info,
            model: model.and_then(|model| model.keyword("type")),
        };
        video.check(reader);
        Some(video)
    }

    fn check(&self, reader: &Reader<'_>) {
        let resolution = self.resolution.as_ref();
        if resolution.is_some_and(|resolution| resolution.x.is_none() || resolution.y.is_none()) {
            reader.refuse("<resolution> lacks a number; give <resolution x='800' y='600'/>");
        }
        let zero = |resolution: &Resolution| resolution.x == Some(0) || resolution.y == Some(0);
        if resolution.is_some_and(zero) {
            reader.refuse("<resolution> of 0 shows nothing; give <resolution x='800' y='600'/>");
        }
        if self.memory.heads == Some(0) {
            reader.refuse("a card with 0 heads shows nothing; give heads='1'");
        }
        if self.model == Some(VideoModel::Ramfb) && self.info.address.is_some() {
            reader.refuse("a card of type 'ramfb' stands on no bus; remove <address>");
        }
        if self.model != Some(VideoModel::Virtio) {
            if self.backend == Some(VideoBackend::VhostUser) {
                reader.refuse("driver 'vhostuser' draws for <model type='virtio'/> only; use that");
            }
            if self.blob.is_some() {
                reader.refuse("only <model type='virtio'/> has the attribute 'blob'; remove it");
            }
        }
        let memory = &self.memory;
        let second = memory.ram.is_some() || memory.vgamem.is_some() || memory.vram64.is_some();
        if second && self.model != Some(VideoModel::Qxl) {
            reader.refuse("only <model type='qxl'/> has ram, vram64 and vgamem; remove them");
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("video").children(|w| {
            self.virtio
                .write_attributes(w.element("driver").optional("name", self.backend))
                .empty_if_any();
            let model = w.element("model").optional("type", self.model);
            self.memory
                .write_attributes(model)
                .yes_no("primary", self.primary)
                .on_off("blob", self.blob)
                .on_off("edid", self.edid)
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
