//! The firmware: which one, its code and its variables.

use crate::devices::{DiskSource, SourceKind};
use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// A kind of firmware that is looked for on the host.
    pub enum FirmwareKind {
        /// SeaBIOS.
        Bios = "bios",
        /// OVMF.
        Efi = "efi",
    }
}

crate::keywords! {
    /// Something that firmware has or has not.
    pub enum FirmwareFeatureName {
        /// Keys of the usual vendors stand in the variables.
        EnrolledKeys = "enrolled-keys",
        /// Secure boot is implemented.
        SecureBoot = "secure-boot",
    }
}

crate::keywords! {
    /// How the firmware's code is put into the guest.
    pub enum LoaderType {
        /// As read-only memory.
        Rom = "rom",
        /// As flash.
        Pflash = "pflash",
    }
}

crate::keywords! {
    /// How the files of the firmware are stored.
    pub enum LoaderFormat {
        /// As they are.
        Raw = "raw",
        /// As a qcow2 image.
        Qcow2 = "qcow2",
    }
}

/// A demand on the firmware that is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFeature {
    /// Which feature.
    pub name: FirmwareFeatureName,
    /// Whether it must be there or must not.
    pub enabled: bool,
}

impl FirmwareFeature {
    pub(crate) fn parse_all(reader: &Reader<'_>) -> Vec<Self> {
        let parse = |feature: &Reader<'_>| {
            Some(Self {
                enabled: feature.yes_no("enabled").unwrap_or(true),
                name: {
                    let _ = feature.required("name", "secure-boot"); // The keyword itself is read next.
                    feature.keyword("name")?
                },
            })
        };
        reader.children("feature").iter().filter_map(parse).collect()
    }

    pub(crate) fn write_all(features: &[Self], writer: &mut Writer) {
        if features.is_empty() {
            return;
        }
        writer.element("firmware").children(|w| {
            for feature in features {
                w.element("feature")
                    .yes_no("enabled", Some(feature.enabled))
                    .attribute("name", feature.name)
                    .empty();
            }
        });
    }
}

/// The firmware's code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loader {
    /// Where the element stands.
    pub place: Place,
    /// The file.
    pub path: Option<String>,
    /// Whether the guest cannot write to it.
    pub readonly: Option<bool>,
    /// Whether only code in system management mode writes the variables.
    pub secure: Option<bool>,
    /// How it is put into the guest.
    pub kind: Option<LoaderType>,
    /// Whether there are no variables.
    pub stateless: Option<bool>,
    /// How the file is stored.
    pub format: Option<LoaderFormat>,
}

impl Loader {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let path = reader.text();
        Self {
            place: reader.place(),
            path: (!path.is_empty()).then(|| path.into_owned()),
            readonly: reader.yes_no("readonly"),
            secure: reader.yes_no("secure"),
            kind: reader.keyword("type"),
            stateless: reader.yes_no("stateless"),
            format: reader.keyword("format"),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer
            .element("loader")
            .yes_no("readonly", self.readonly)
            .yes_no("secure", self.secure)
            .optional("type", self.kind)
            .yes_no("stateless", self.stateless)
            .optional("format", self.format);
        match &self.path {
            Some(path) => element.text(path),
            None => element.empty_if_any(),
        }
    }
}

/// The firmware's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nvram {
    /// Where the element stands.
    pub place: Place,
    /// The file.
    pub path: Option<String>,
    /// The block device or server, or the file when it is written as `<source file='...'/>`.
    pub source: Option<DiskSource>,
    /// The file that a missing one is copied from.
    pub template: Option<String>,
    /// How the template is stored.
    pub template_format: Option<LoaderFormat>,
    /// How the file is stored.
    pub format: Option<LoaderFormat>,
}

impl Nvram {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let source = reader.attribute("type").and_then(|_| DiskSource::parse(reader));
        let path = match source.as_ref().map(|source| &source.kind) {
            None if reader.attribute("type").is_none() => Some(reader.text().into_owned()),
            Some(SourceKind::File(path) | SourceKind::Block(path)) => path.clone(),
            Some(SourceKind::Network(_)) | None => None,
            Some(
                SourceKind::Dir(_)
                | SourceKind::Volume(_)
                | SourceKind::Nvme(_)
                | SourceKind::VhostUser(_)
                | SourceKind::VhostVdpa(_),
            ) => {
                reader.refuse_attribute(
                    "type",
                    "variables lie in a file, on a block device or server",
                );
                None
            }
        };
        Self {
            place: reader.place(),
            path: path.filter(|path| !path.is_empty()),
            source,
            template: reader.string("template"),
            template_format: reader.keyword("templateFormat"),
            format: reader.keyword("format"),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer
            .element("nvram")
            .optional("template", self.template.as_ref())
            .optional("templateFormat", self.template_format)
            .optional("type", self.source.as_ref().map(|source| source.kind.source_type()))
            .optional("format", self.format);
        match (&self.source, &self.path) {
            (Some(source), _) => element.children(|w| source.write(None, w)),
            (None, Some(path)) => element.text(path),
            (None, None) => element.empty_if_any(),
        }
    }
}
