//! What lies below an image, `<backingStore>`, and parts and labels of images.

use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DiskFormat, DiskSource};

/// What lies below an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Backing {
    /// What the image itself says.
    #[default]
    Unknown,
    /// Nothing: `<backingStore/>`.
    End,
    /// Another image.
    Image(Box<BackingImage>),
}

/// An image below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingImage {
    /// Its format.
    pub format: DiskFormat,
    /// Most that is kept of a qcow2 image's tables.
    pub metadata_cache: Option<MemorySize>,
    /// What it lies on.
    pub source: DiskSource,
}

impl Backing {
    pub(super) fn parse(owner: &Reader<'_>) -> Self {
        let Some(store) = owner.child("backingStore") else { return Self::Unknown };
        let _ = store.attribute("index"); // The number of the last run.
        if store.attribute("type").is_none() {
            return Self::End;
        }
        BackingImage::parse(&store).map_or(Self::Unknown, |image| Self::Image(Box::new(image)))
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Unknown => {}
            Self::End => writer.element("backingStore").empty(),
            Self::Image(image) => image.write("backingStore", writer),
        }
    }
}

impl BackingImage {
    /// The image that an element with `<format>` and `<source>` names; nothing when it is refused.
    pub(super) fn parse(store: &Reader<'_>) -> Option<Self> {
        let format = store.child("format");
        let metadata_cache = format.as_ref().and_then(parse_metadata_cache);
        let kind = format.as_ref().and_then(|format| {
            let _ = format.required("type", "qcow2"); // The word itself is read next.
            format.keyword::<DiskFormat>("type")
        });
        if format.is_none() {
            store.refuse("<format> is missing; add one such as <format type='qcow2'/>");
        }
        let source = DiskSource::parse(store);
        if source.as_ref().is_some_and(DiskSource::is_empty) {
            store.refuse("<source> is missing; say where the image lies");
        }
        Some(Self { format: kind?, metadata_cache, source: source? })
    }

    pub(super) fn write(&self, name: &'static str, writer: &mut Writer) {
        let kind = self.source.kind.source_type();
        let element = writer.element(name).attribute("type", kind);
        element.optional("index", self.source.index).children(|w| {
            w.element("format").attribute("type", self.format).children(|w| {
                write_metadata_cache(self.metadata_cache, w);
            });
            self.source.write(None, w);
            self.source.backing.write(w);
        });
    }
}

/// Reads `<metadata_cache>` of a driver or format.
pub(super) fn parse_metadata_cache(owner: &Reader<'_>) -> Option<MemorySize> {
    let size = owner.child("metadata_cache")?.child("max_size")?;
    let unit = size.attribute("unit").unwrap_or("bytes");
    let number: u64 = size.text_number()?;
    match MemorySize::scaled(number, unit) {
        Ok(size) => Some(size),
        Err(error) => {
            size.refuse(error.to_string());
            None
        }
    }
}

/// Writes `<metadata_cache>`.
pub(super) fn write_metadata_cache(size: Option<MemorySize>, writer: &mut Writer) {
    let Some(size) = size else { return };
    writer.element("metadata_cache").children(|w| {
        w.element("max_size").attribute("unit", "bytes").text(size.bytes());
    });
}

/// The part of a source that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
}

impl Slice {
    pub(super) fn parse(slices: &Reader<'_>) -> Option<Self> {
        let Some(slice) = slices.child("slice") else {
            slices.refuse("<slice> is missing; add <slice type='storage' offset='0' size='...'/>");
            return None;
        };
        if let Some(kind) = slice.required("type", "storage").filter(|kind| *kind != "storage") {
            slice.refuse_attribute("type", format!("'{kind}' is not known; use storage"));
        }
        let _ = (slice.required("offset", "0"), slice.required("size", "1048576")); // Read next.
        let (offset, size) = (slice.number("offset"), slice.number("size"));
        if size == Some(0) {
            slice.refuse_attribute("size", "a slice of no bytes is no disk; give more");
        }
        Some(Self { offset: offset?, size: size? })
    }

    pub(super) fn write(self, writer: &mut Writer) {
        writer.element("slices").children(|w| {
            w.element("slice")
                .attribute("type", "storage")
                .attribute("offset", self.offset)
                .attribute("size", self.size)
                .empty();
        });
    }
}
