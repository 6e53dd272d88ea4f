//! Video cards.

use domain::devices::{Video, VideoBackend, VideoModel, VirtioOptions};
use domain::{Domain, Faults};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::devices::{placed, virtio};
use crate::json::Object;
use crate::plan::FdKind;
use crate::rules::refuse_broken;

/// The memory of a card, in KiB, when the domain does not say.
const DEFAULT_VRAM: u32 = 16 * 1024;

/// The two memories of QXL, in KiB, when the domain does not say.
const DEFAULT_QXL: u32 = 64 * 1024;

/// Adds a card for a display, fills in models and memory, and puts the primary one first.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let usual = Board::of_domain(domain).default_video();
    let mut primary = domain.devices.videos.iter().filter(|video| video.primary == Some(true));
    if let Some(second) = primary.nth(1) {
        faults.push(second.place.refused("one card is primary; remove the attribute here"));
    }
    let devices = &mut domain.devices;
    if devices.videos.is_empty() && !devices.graphics.is_empty() {
        devices.videos.push(Video::new(usual));
    }
    devices.videos.sort_by_key(|video| video.primary != Some(true));
    for (index, video) in devices.videos.iter_mut().enumerate() {
        let model = video.model.filter(|model| *model != VideoModel::Default).unwrap_or(usual);
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

/// Refuses cards that no guest has together, or in such a place.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let videos = &domain.devices.videos;
    for (index, video) in videos.iter().enumerate() {
        refuse_broken(faults, &video.place, alone(video));
        match video.model.unwrap_or(VideoModel::Default) {
            VideoModel::None if videos.len() > 1 => {
                let what = "a card of type 'none' stands alone; remove the others or this one";
                faults.push(video.place.refused(what));
            }
            VideoModel::Vga | VideoModel::Cirrus | VideoModel::Vmvga if index > 0 => {
                let what = "a second card cannot be of this type; use <model type='virtio'/>";
                faults.push(video.place.refused(what));
            }
            VideoModel::Vga | VideoModel::Vmvga
                if video.memory.vram.is_some_and(|vram| vram < 1024) =>
            {
                faults
                    .push(video.place.refused("vram below 1 MiB is too little; give vram='1024'"));
            }
            VideoModel::Default
            | VideoModel::Vga
            | VideoModel::Cirrus
            | VideoModel::Vmvga
            | VideoModel::Xen
            | VideoModel::Vbox
            | VideoModel::Qxl
            | VideoModel::Parallels
            | VideoModel::Virtio
            | VideoModel::Gop
            | VideoModel::None
            | VideoModel::Bochs
            | VideoModel::Ramfb => {}
        }
    }
}

/// The most memory of a card in KiB, whose bytes QEMU counts in 32 bits.
const MOST_MEMORY: u32 = u32::MAX / 1024;

/// What a card cannot have, whatever stands beside it.
fn alone(video: &Video) -> [(bool, &'static str); 5] {
    let resolves = matches!(
        video.model,
        Some(VideoModel::Vga | VideoModel::Qxl | VideoModel::Virtio | VideoModel::Bochs)
    );
    let rendering = video.acceleration.as_ref().is_some_and(|it| it.render_node.is_some());
    [
        (
            rendering && !is_vhost_user(video),
            "'rendernode' is for <driver name='vhostuser'>; name the device in the display's <gl>",
        ),
        (
            video.virtio != VirtioOptions::default() && video.model != Some(VideoModel::Virtio),
            "<driver> is for <model type='virtio'/>; remove its attributes",
        ),
        (
            video.resolution.is_some() && !resolves,
            "a card of this type has no <resolution>; remove it",
        ),
        (
            [video.memory.ram, video.memory.vram].into_iter().flatten().any(|it| it > MOST_MEMORY),
            "a card has less than 4 GiB of memory; give less",
        ),
        (
            video.model == Some(VideoModel::Qxl) && video.memory.vgamem.is_some_and(|it| it < 1024),
            "vgamem below 1 MiB is too little; give vgamem='1024'",
        ),
    ]
}

/// Adds a card.
pub(crate) fn arguments(command: &mut Command<'_>, video: &Video) {
    let primary = video.primary == Some(true) && Board::of_domain(command.domain).has_vga();
    let model = video.model.unwrap_or(VideoModel::Default);
    let Some(driver) = driver(video, model, primary) else {
        if model != VideoModel::None {
            let what = "no supported guest has this card; use <model type='virtio'/>";
            command.refuse(&video.place, what);
        }
        return;
    };
    let device = Object::new("driver", driver);
    // The primary card is a VGA with a virtio device in it, which has no such options.
    let device = if primary { device } else { virtio(&video.virtio, device) };
    warn(command, video, primary);
    let device = properties(video, model, device);
    let device = if is_vhost_user(video) { vhost_user(command, video, device) } else { device };
    let device = placed(command, &video.info, device);
    let resolution = video.resolution.as_ref();
    let device = device
        .some("edid", video.edid)
        .some("xres", resolution.and_then(|resolution| resolution.x))
        .some("yres", resolution.and_then(|resolution| resolution.y));
    command.device(&device);
}

/// Says what is not carried out.
fn warn(command: &Command<'_>, video: &Video, primary: bool) {
    if primary && video.virtio != VirtioOptions::default() {
        let what = "the primary card is a VGA and has no options of virtio; remove them";
        command.ignore(&video.place.child("driver"), what);
    }
}

fn is_vhost_user(video: &Video) -> bool {
    video.backend == Some(VideoBackend::VhostUser)
}

/// Adds the socket of the program that draws.
fn vhost_user(command: &mut Command<'_>, video: &Video, device: Object) -> Object {
    let Some(folder) = &command.facts.helpers.gpu else {
        let what = "glassbox starts no vhost-user-gpu; use <driver name='qemu'/>";
        command.refuse(&video.place, what);
        return device;
    };
    let alias = video.info.alias();
    let id = format!("chr-vu-{alias}");
    let fd = command.pass_fd(FdKind::Connection { path: format!("{folder}/{alias}-gpu.sock") });
    command.argv.options("-chardev", Options::new("socket").set("id", &id).set("fd", fd));
    device.set("chardev", id)
}

fn driver(video: &Video, model: VideoModel, primary: bool) -> Option<&'static str> {
    let renders = video.acceleration.as_ref().and_then(|a| a.accel3d) == Some(true);
    match (model, primary) {
        (VideoModel::Vga, _) => Some("VGA"),
        (VideoModel::Cirrus, _) => Some("cirrus-vga"),
        (VideoModel::Vmvga, _) => Some("vmware-svga"),
        (VideoModel::Qxl, true) => Some("qxl-vga"),
        (VideoModel::Qxl, false) => Some("qxl"),
        (VideoModel::Virtio, true) if is_vhost_user(video) => Some("vhost-user-vga"),
        (VideoModel::Virtio, false) if is_vhost_user(video) => Some("vhost-user-gpu-pci"),
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
