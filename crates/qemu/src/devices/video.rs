//! Video cards.

use domain::Domain;
use domain::devices::{Video, VideoModel};

use crate::command::Command;
use crate::devices::{placed, virtio};
use crate::json::Object;

/// The memory of a card, in KiB, when the domain does not say.
const DEFAULT_VRAM: u32 = 16 * 1024;

/// The two memories of QXL, in KiB, when the domain does not say.
const DEFAULT_QXL: u32 = 64 * 1024;

/// Adds a card for a display, fills in models and memory, and puts the primary one first.
pub(crate) fn complete(domain: &mut Domain) {
    let devices = &mut domain.devices;
    if devices.videos.is_empty() && !devices.graphics.is_empty() {
        devices.videos.push(Video::new(VideoModel::Cirrus));
    }
    devices.videos.sort_by_key(|video| video.primary != Some(true));
    for (index, video) in devices.videos.iter_mut().enumerate() {
        let model =
            video.model.filter(|model| *model != VideoModel::Default).unwrap_or(VideoModel::Cirrus);
        video.model = Some(model);
        if model != VideoModel::None && model != VideoModel::Ramfb {
            video.primary = (index == 0).then_some(true);
        }
        memory(video, model);
    }
}

fn memory(video: &mut Video, model: VideoModel) {
    let memory = &mut video.memory;
    match model {
        VideoModel::None | VideoModel::Ramfb => return,
        VideoModel::Qxl => {
            memory.ram = Some(memory.ram.unwrap_or(DEFAULT_QXL).next_power_of_two());
            memory.vram = Some(memory.vram.unwrap_or(DEFAULT_QXL).next_power_of_two());
            memory.vgamem = Some(memory.vgamem.unwrap_or(DEFAULT_VRAM).next_power_of_two());
        }
        VideoModel::Vga | VideoModel::Cirrus | VideoModel::Vmvga | VideoModel::Bochs => {
            memory.vram.get_or_insert(DEFAULT_VRAM);
        }
        VideoModel::Virtio
        | VideoModel::Default
        | VideoModel::Xen
        | VideoModel::Vbox
        | VideoModel::Parallels
        | VideoModel::Gop => {}
    }
    memory.heads.get_or_insert(1);
}

/// Adds a card.
pub(crate) fn arguments(command: &mut Command<'_>, video: &Video) {
    let primary = video.primary == Some(true);
    let model = video.model.unwrap_or(VideoModel::Default);
    let Some(driver) = driver(video, model, primary) else {
        if model != VideoModel::None {
            let what = "no x86 QEMU guest has this card; use <model type='virtio'/>";
            command.refuse(&video.place, what);
        }
        return;
    };
    let device = virtio(&video.virtio, Object::new("driver", driver));
    let device = placed(command, &video.info, properties(video, model, device));
    let resolution = video.resolution.as_ref();
    let device = device
        .some("xres", resolution.and_then(|resolution| resolution.x))
        .some("yres", resolution.and_then(|resolution| resolution.y));
    command.device(&device);
}

fn driver(video: &Video, model: VideoModel, primary: bool) -> Option<&'static str> {
    let renders = video.acceleration.as_ref().and_then(|a| a.accel3d) == Some(true);
    match (model, primary) {
        (VideoModel::Vga, _) => Some("VGA"),
        (VideoModel::Cirrus, _) => Some("cirrus-vga"),
        (VideoModel::Vmvga, _) => Some("vmware-svga"),
        (VideoModel::Qxl, true) => Some("qxl-vga"),
        (VideoModel::Qxl, false) => Some("qxl"),
        (VideoModel::Virtio, true) if renders => Some("virtio-vga-gl"),
        (VideoModel::Virtio, true) => Some("virtio-vga"),
        (VideoModel::Virtio, false) if renders => Some("virtio-gpu-gl-pci"),
        (VideoModel::Virtio, false) => Some("virtio-gpu-pci"),
        (VideoModel::Bochs, _) => Some("bochs-display"),
        (VideoModel::Ramfb, _) => Some("ramfb"),
        (
            VideoModel::Default
            | VideoModel::Xen
            | VideoModel::Vbox
            | VideoModel::Parallels
            | VideoModel::Gop
            | VideoModel::None,
            _,
        ) => None,
    }
}

fn properties(video: &Video, model: VideoModel, device: Object) -> Object {
    let memory = &video.memory;
    let bytes = |kib: Option<u32>| kib.map(|kib| u64::from(kib) * 1024);
    let mebibytes = |kib: Option<u32>| kib.map(|kib| kib / 1024);
    match model {
        VideoModel::Qxl => device
            .some("max_outputs", memory.heads)
            .some("ram_size", bytes(memory.ram))
            .some("vram_size", bytes(memory.vram))
            .set("vram64_size_mb", mebibytes(memory.vram64).unwrap_or(0))
            .some("vgamem_mb", mebibytes(memory.vgamem)),
        VideoModel::Virtio => device.some("max_outputs", memory.heads).some("blob", video.blob),
        VideoModel::Vga | VideoModel::Vmvga => device.some("vgamem_mb", mebibytes(memory.vram)),
        VideoModel::Bochs => device.some("vgamem", bytes(memory.vram)),
        VideoModel::Default
        | VideoModel::Cirrus
        | VideoModel::Xen
        | VideoModel::Vbox
        | VideoModel::Parallels
        | VideoModel::Gop
        | VideoModel::None
        | VideoModel::Ramfb => device,
    }
}
