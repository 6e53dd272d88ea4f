//! How a disk is served, `<disk><driver>`.

use crate::reader::Reader;
use crate::writer::Writer;

use super::DiskFormat;

crate::keywords! {
    /// What the host's page cache is used for.
    pub enum CacheMode {
        /// As QEMU likes.
        Default = "default",
        /// It is bypassed.
        None = "none",
        /// For reading.
        Writethrough = "writethrough",
        /// For reading and writing.
        Writeback = "writeback",
        /// It is bypassed, and writes are on the medium when they end.
        Directsync = "directsync",
        /// For all, and the guest's flushes are ignored.
        Unsafe = "unsafe",
    }
}

crate::keywords! {
    /// How the host is asked to read and write.
    pub enum IoMode {
        /// By the kernel's asynchronous interface.
        Native = "native",
        /// By threads.
        Threads = "threads",
        /// By io_uring.
        IoUring = "io_uring",
    }
}

crate::keywords! {
    /// What becomes of the guest when a request fails.
    pub enum ErrorPolicy {
        /// It is paused.
        Stop = "stop",
        /// It is told.
        Report = "report",
        /// Nothing.
        Ignore = "ignore",
        /// It is paused when the disk is full and told otherwise.
        Enospace = "enospace",
    }
}

crate::keywords! {
    /// What becomes of the guest's discards.
    pub enum DiscardMode {
        /// They are passed on.
        Unmap = "unmap",
        /// Nothing.
        Ignore = "ignore",
    }
}

crate::keywords! {
    /// What becomes of zeroes that the guest writes.
    pub enum DetectZeroes {
        /// They are written.
        Off = "off",
        /// They are written without data.
        On = "on",
        /// They are discarded.
        Unmap = "unmap",
    }
}

crate::attributes! {
    /// How a disk is served.
    pub struct DiskDriver {
        /// Always `qemu`.
        pub name: String = string "name",
        /// The format of what it lies on.
        pub format: DiskFormat = keyword "type",
        /// What the host's page cache is used for.
        pub cache: CacheMode = keyword "cache",
        /// What happens when a request fails.
        pub error_policy: ErrorPolicy = keyword "error_policy",
        /// What happens when reading fails.
        pub read_error_policy: ErrorPolicy = keyword "rerror_policy",
        /// How the host is asked to read and write.
        pub io: IoMode = keyword "io",
        /// Whether notifications leave the virtual CPU.
        pub ioeventfd: bool = on_off "ioeventfd",
        /// Whether the guest tells when it wants interrupts.
        pub event_idx: bool = on_off "event_idx",
        /// Whether what is read is copied into the image.
        pub copy_on_read: bool = on_off "copy_on_read",
        /// What becomes of discards.
        pub discard: DiscardMode = keyword "discard",
        /// The thread that serves the disk.
        pub iothread: u32 = number "iothread",
        /// What becomes of zeroes.
        pub detect_zeroes: DetectZeroes = keyword "detect_zeroes",
        /// How many queues there are.
        pub queues: u32 = number "queues",
        /// How many requests a queue holds.
        pub queue_size: u32 = number "queue_size",
        /// Whether discards keep references of a qcow2 image.
        pub discard_no_unref: bool = on_off "discard_no_unref",
    }
}

/// A thread that serves a disk, with the queues that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskThread {
    /// The thread's number.
    pub id: u32,
    /// The queues; none are those that QEMU gives it.
    pub queues: Vec<u32>,
}

impl DiskThread {
    /// Reads `<iothreads>` of a driver.
    pub(in crate::devices) fn parse_all(driver: &Reader<'_>) -> Vec<Self> {
        let Some(threads) = driver.child("iothreads") else { return Vec::new() };
        let mut all = Vec::new();
        for thread in threads.children("iothread") {
            let _ = thread.required("id", "1"); // The number itself is read next.
            let queues = thread.children("queue");
            let queues = queues.iter().filter_map(|queue| queue.number("id")).collect();
            all.extend(thread.number("id").map(|id| Self { id, queues }));
        }
        if all.is_empty() {
            threads.refuse("<iothread> is missing; add one such as <iothread id='1'/>");
        }
        all
    }

    /// Writes `<iothreads>`.
    pub(in crate::devices) fn write_all(threads: &[Self], writer: &mut Writer) {
        if threads.is_empty() {
            return;
        }
        writer.element("iothreads").children(|w| {
            for thread in threads {
                w.element("iothread").attribute("id", thread.id).children(|w| {
                    for queue in &thread.queues {
                        w.element("queue").attribute("id", queue).empty();
                    }
                });
            }
        });
    }
}

/// Children that libvirt knows and that are not read yet.
pub(super) const UNSUPPORTED: [&str; 1] = ["statistics"];
