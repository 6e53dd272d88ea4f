//! Firmware that is installed on the host, and which of it a domain gets.
//!
//! Distributions describe firmware in JSON files below `/usr/share/qemu/firmware` and `/etc/qemu/firmware`
//! (QEMU's `docs/interop/firmware.json`). The shim reads them, ordered by name; here the first one that a
//! domain can use is taken.

use domain::{FirmwareKind, LoaderFormat};
use serde::Deserialize;

mod select;

pub(crate) use select::complete;

/// A file of firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFile {
    /// The path.
    pub path: String,
    /// How it is stored.
    pub format: LoaderFormat,
}

/// How firmware is put into a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareCode {
    /// As read-only memory.
    Memory {
        /// The path of the file, which is raw.
        path: String,
    },
    /// As flash, with its variables in a second file that each guest has for itself.
    Split {
        /// The code.
        code: FirmwareFile,
        /// What the variables are copied from.
        template: FirmwareFile,
    },
    /// As flash without variables.
    Stateless {
        /// The code.
        code: FirmwareFile,
    },
    /// As flash with its variables in the same file.
    Combined {
        /// The file.
        code: FirmwareFile,
    },
}

/// What firmware has or needs, as far as it matters to the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareTrait {
    /// Suspend to memory.
    AcpiS3,
    /// Suspend to disk.
    AcpiS4,
    /// It starts under AMD SEV.
    AmdSev,
    /// It starts under AMD SEV-ES.
    AmdSevEs,
    /// It starts under AMD SEV-SNP.
    AmdSevSnp,
    /// Keys of the usual vendors stand in the variables.
    EnrolledKeys,
    /// It needs system management mode.
    RequiresSmm,
    /// Secure boot is implemented.
    SecureBoot,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Firmware that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareDescriptor {
    /// The kinds of firmware that it is.
    pub kinds: Vec<FirmwareKind>,
    /// How it is put into a guest.
    pub code: FirmwareCode,
    /// Architectures in QEMU's spelling, each with patterns of machine types, in which `*` is any text.
    pub targets: Vec<(String, Vec<String>)>,
    /// What it has or needs.
    pub traits: Vec<FirmwareTrait>,
}

/// Why a text describes no firmware.
#[derive(Debug)]
pub struct DescriptorError(serde_json::Error);

impl std::fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no description of firmware; see QEMU's docs/interop/firmware.json: {}", self.0)
    }
}

impl std::error::Error for DescriptorError {}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawDescriptor {
    interface_types: Vec<String>,
    mapping: RawMapping,
    targets: Vec<RawTarget>,
    #[serde(default)]
    features: Vec<FirmwareTrait>,
}

#[derive(Deserialize)]
struct RawTarget {
    architecture: String,
    machines: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "device", rename_all = "kebab-case")]
enum RawMapping {
    Memory {
        filename: String,
    },
    #[serde(rename_all = "kebab-case")]
    Flash {
        mode: Option<RawMode>,
        executable: RawFile,
        nvram_template: Option<RawFile>,
    },
    #[serde(other)]
    Other,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMode {
    Split,
    Combined,
    Stateless,
}

#[derive(Deserialize)]
struct RawFile {
    filename: String,
    format: RawFormat,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFormat {
    Raw,
    Qcow2,
}

impl FirmwareDescriptor {
    /// Reads a description.
    ///
    /// # Errors
    /// [`DescriptorError`] when the text is no JSON, or lacks what QEMU's schema demands. Firmware that is
    /// put into a guest in another way than by memory or flash is an error, too.
    pub fn parse(text: &str) -> Result<Self, DescriptorError> {
        let raw: RawDescriptor = serde_json::from_str(text).map_err(DescriptorError)?;
        let kind = |name: &String| match name.as_str() {
            "bios" => Some(FirmwareKind::Bios),
            "uefi" => Some(FirmwareKind::Efi),
            _ => None,
        };
        Ok(Self {
            kinds: raw.interface_types.iter().filter_map(kind).collect(),
            code: code(raw.mapping).map_err(DescriptorError)?,
            targets: raw.targets.into_iter().map(|t| (t.architecture, t.machines)).collect(),
            traits: raw.features,
        })
    }

    /// Whether it has or needs something.
    #[must_use]
    pub fn has(&self, wanted: FirmwareTrait) -> bool {
        self.traits.contains(&wanted)
    }
}

fn code(mapping: RawMapping) -> Result<FirmwareCode, serde_json::Error> {
    let missing = |what: &str| <serde_json::Error as serde::de::Error>::custom(what);
    let file = |file: RawFile| {
        let format = match file.format {
            RawFormat::Raw => LoaderFormat::Raw,
            RawFormat::Qcow2 => LoaderFormat::Qcow2,
        };
        FirmwareFile { path: file.filename, format }
    };
    match mapping {
        RawMapping::Memory { filename } => Ok(FirmwareCode::Memory { path: filename }),
        RawMapping::Flash { mode, executable, nvram_template } => {
            let code = file(executable);
            match mode.unwrap_or(RawMode::Split) {
                RawMode::Split => {
                    let template = nvram_template.ok_or_else(|| missing("no nvram-template"))?;
                    Ok(FirmwareCode::Split { code, template: file(template) })
                }
                RawMode::Combined => Ok(FirmwareCode::Combined { code }),
                RawMode::Stateless => Ok(FirmwareCode::Stateless { code }),
            }
        }
        RawMapping::Other => Err(missing("neither memory nor flash")),
    }
}
