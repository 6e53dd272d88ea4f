//! Devices of the host that guests are given by other names than their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qemu::UsbDevice;

/// The generic devices of SCSI devices: `scsi_host0:0:0:0` to `/dev/sg0`, as the kernel's sysfs links them.
pub(super) fn scsi_generics() -> BTreeMap<String, String> {
    generics(Path::new("/sys/bus/scsi/devices"))
}

fn generics(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let pairs = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let generic = fs::read_dir(entry.path().join("scsi_generic")).ok()?.next()?.ok()?;
        let path = format!("/dev/{}", generic.file_name().into_string().ok()?);
        Some((format!("scsi_host{name}"), path))
    });
    pairs.collect()
}

/// The USB devices, as the kernel's `Documentation/ABI/stable/sysfs-bus-usb` describes them.
pub(super) fn usb() -> Vec<UsbDevice> {
    usb_below(Path::new("/sys/bus/usb/devices"))
}

fn usb_below(folder: &Path) -> Vec<UsbDevice> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // The interfaces of devices stand beside them, and have no such numbers.
    let mut devices: Vec<_> = entries.filter_map(|entry| usb_device(&entry.path())).collect();
    devices.sort_unstable();
    devices
}

fn usb_device(folder: &Path) -> Option<UsbDevice> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let id = |name: &str| u16::from_str_radix(text(name)?.trim(), 16).ok();
    let number = |name: &str| text(name)?.trim().parse().ok();
    Some(UsbDevice {
        vendor: id("idVendor")?,
        product: id("idProduct")?,
        bus: number("busnum")?,
        device: number("devnum")?,
    })
}

/// The first node of a GPU that renders without a screen.
pub(super) fn render_node() -> Option<String> {
    let entries = fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let nodes = names.filter_map(|name| {
        let number: u32 = name.strip_prefix("renderD")?.parse().ok()?;
        Some((number, name))
    });
    nodes.min().map(|(_, name)| format!("/dev/dri/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scsi_device_has_the_name_that_definitions_use() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("2:0:1:4/scsi_generic/sg3")).unwrap();
        fs::create_dir_all(root.path().join("host2")).unwrap();
        let expected = [("scsi_host2:0:1:4".to_owned(), "/dev/sg3".to_owned())].into();
        assert_eq!(generics(root.path()), expected);
    }

    #[test]
    fn usb_devices_are_known_by_what_they_are() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("1-3");
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(root.path().join("1-3:1.0")).unwrap();
        for (name, text) in
            [("idVendor", "08e6\n"), ("idProduct", "4433\n"), ("busnum", "1\n"), ("devnum", "10\n")]
        {
            fs::write(device.join(name), text).unwrap();
        }
        let expected = UsbDevice { vendor: 0x08e6, product: 0x4433, bus: 1, device: 10 };
        assert_eq!(usb_below(root.path()), [expected]);
    }
}
