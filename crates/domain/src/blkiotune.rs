//! Weights and limits of the guest's block I/O, `<blkiotune>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

/// Weights and limits of block I/O that the host's kernel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIoTuning {
    /// Where the element stands.
    pub place: Place,
    /// The guest's weight, 10 to 1000.
    pub weight: Option<u32>,
    /// What differs for single devices.
    pub devices: Vec<BlockIoDevice>,
}

/// Weight and limits of one device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIoDevice {
    /// The device's path.
    pub path: String,
    /// The guest's weight on it.
    pub weight: Option<u32>,
    /// Reads a second.
    pub read_iops: Option<u64>,
    /// Writes a second.
    pub write_iops: Option<u64>,
    /// Bytes read a second.
    pub read_bytes: Option<u64>,
    /// Bytes written a second.
    pub write_bytes: Option<u64>,
}

impl BlockIoTuning {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let weight = reader.child("weight").and_then(|weight| weight.text_number());
        let devices = reader.children("device");
        let devices: Vec<BlockIoDevice> = devices.iter().filter_map(BlockIoDevice::parse).collect();
        for (index, device) in devices.iter().enumerate() {
            if devices[..index].iter().any(|other| other.path == device.path) {
                reader.refuse(format!("device '{}' stands here twice; remove one", device.path));
            }
        }
        Some(Self { place: reader.place(), weight, devices })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("blkiotune").children_if_any(|w| {
            if let Some(weight) = self.weight {
                w.element("weight").text(weight);
            }
            self.devices.iter().for_each(|device| device.write(w));
        });
    }
}

impl BlockIoDevice {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let number = |name: &str| reader.child(name).and_then(|child| child.text_number());
        let this = Self {
            weight: reader.child("weight").and_then(|weight| weight.text_number()),
            read_iops: number("read_iops_sec"),
            write_iops: number("write_iops_sec"),
            read_bytes: number("read_bytes_sec"),
            write_bytes: number("write_bytes_sec"),
            path: reader.child("path").map(|path| path.text().into_owned()).unwrap_or_default(),
        };
        if this.path.is_empty() {
            reader.refuse("<path> is missing; add one such as <path>/dev/sda</path>");
            return None;
        }
        Some(this)
    }

    fn write(&self, writer: &mut Writer) {
        writer.element("device").children(|w| {
            w.element("path").text(&self.path);
            if let Some(weight) = self.weight {
                w.element("weight").text(weight);
            }
            for (name, value) in [
                ("read_iops_sec", self.read_iops),
                ("write_iops_sec", self.write_iops),
                ("read_bytes_sec", self.read_bytes),
                ("write_bytes_sec", self.write_bytes),
            ] {
                if let Some(value) = value {
                    w.element(name).text(value);
                }
            }
        });
    }
}
