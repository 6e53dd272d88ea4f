//! Limits of block I/O that QEMU keeps, `<iotune>` and `<throttlegroup>`.

use std::collections::BTreeMap;

use crate::reader::{Keyword, Reader};
use crate::writer::Writer;

crate::keywords! {
    /// A limit, in the order in which the format writes them. Bytes and operations are counted a second.
    pub enum BlockLimit {
        /// Bytes.
        TotalBytes = "total_bytes_sec",
        /// Bytes read.
        ReadBytes = "read_bytes_sec",
        /// Bytes written.
        WriteBytes = "write_bytes_sec",
        /// Operations.
        TotalIops = "total_iops_sec",
        /// Reads.
        ReadIops = "read_iops_sec",
        /// Writes.
        WriteIops = "write_iops_sec",
        /// Bytes in a burst.
        TotalBytesMax = "total_bytes_sec_max",
        /// Bytes read in a burst.
        ReadBytesMax = "read_bytes_sec_max",
        /// Bytes written in a burst.
        WriteBytesMax = "write_bytes_sec_max",
        /// Operations in a burst.
        TotalIopsMax = "total_iops_sec_max",
        /// Reads in a burst.
        ReadIopsMax = "read_iops_sec_max",
        /// Writes in a burst.
        WriteIopsMax = "write_iops_sec_max",
        /// The bytes that count as one operation.
        IopsSize = "size_iops_sec",
        /// Seconds of a burst of bytes.
        TotalBytesMaxLength = "total_bytes_sec_max_length",
        /// Seconds of a burst of bytes read.
        ReadBytesMaxLength = "read_bytes_sec_max_length",
        /// Seconds of a burst of bytes written.
        WriteBytesMaxLength = "write_bytes_sec_max_length",
        /// Seconds of a burst of operations.
        TotalIopsMaxLength = "total_iops_sec_max_length",
        /// Seconds of a burst of reads.
        ReadIopsMaxLength = "read_iops_sec_max_length",
        /// Seconds of a burst of writes.
        WriteIopsMaxLength = "write_iops_sec_max_length",
    }
}

/// Limits of block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// The limits; those that are 0 or missing limit nothing.
    pub limits: BTreeMap<BlockLimit, u64>,
    /// The group that shares them.
    pub group: Option<String>,
}

impl BlockLimits {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let mut limits = BTreeMap::new();
        for (limit, name) in BlockLimit::ALL {
            let value: Option<u64> = reader.child(name).and_then(|child| child.text_number());
            if let Some(value) = value.filter(|value| *value > 0) {
                limits.insert(*limit, value);
            }
        }
        let group = reader.child("group_name").map(|child| child.text().into_owned());
        let this = Self { limits, group };
        this.check(reader);
        this
    }

    /// The value of a limit, 0 for none.
    #[must_use]
    pub fn get(&self, limit: BlockLimit) -> u64 {
        self.limits.get(&limit).copied().unwrap_or_default()
    }

    fn check(&self, reader: &Reader<'_>) {
        use BlockLimit as L;
        for (total, read, write) in [
            (L::TotalBytes, L::ReadBytes, L::WriteBytes),
            (L::TotalIops, L::ReadIops, L::WriteIops),
            (L::TotalBytesMax, L::ReadBytesMax, L::WriteBytesMax),
            (L::TotalIopsMax, L::ReadIopsMax, L::WriteIopsMax),
        ] {
            if self.get(total) > 0 && self.get(read).max(self.get(write)) > 0 {
                let what = "cannot stand beside the limits for reading and writing; remove one";
                reader.refuse(format!("<{total}> {what}"));
            }
        }
        let bursts = [
            (L::TotalBytes, L::TotalBytesMax, L::TotalBytesMaxLength),
            (L::ReadBytes, L::ReadBytesMax, L::ReadBytesMaxLength),
            (L::WriteBytes, L::WriteBytesMax, L::WriteBytesMaxLength),
            (L::TotalIops, L::TotalIopsMax, L::TotalIopsMaxLength),
            (L::ReadIops, L::ReadIopsMax, L::ReadIopsMaxLength),
            (L::WriteIops, L::WriteIopsMax, L::WriteIopsMaxLength),
        ];
        for (limit, burst, length) in bursts {
            if self.get(length) > 0 && self.get(burst) == 0 {
                reader.refuse(format!("<{length}> says nothing without <{burst}>; add it"));
            }
            if self.get(burst) > 0 && self.get(burst) <= self.get(limit) {
                reader.refuse(format!("<{burst}> must be above <{limit}>; give more"));
            }
        }
        for (limit, value) in &self.limits {
            // The largest that QEMU takes, THROTTLE_VALUE_MAX.
            if *value > 1_000_000_000_000_000 {
                reader.refuse(format!("<{limit}> is above 10^15; give less"));
            }
        }
    }

    pub(crate) fn write(&self, name: &'static str, writer: &mut Writer) {
        writer.element(name).children(|w| {
            for (limit, value) in self.limits.iter().filter(|(limit, _)| !limit.is_length()) {
                w.element(limit.as_str()).text(value);
            }
            if let Some(group) = &self.group {
                w.element("group_name").text(group);
            }
            for (limit, value) in self.limits.iter().filter(|(limit, _)| limit.is_length()) {
                w.element(limit.as_str()).text(value);
            }
        });
    }
}

impl BlockLimit {
    fn is_length(self) -> bool {
        self >= Self::TotalBytesMaxLength
    }
}
