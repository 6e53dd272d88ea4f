//! What firmware tells of the machine, `<sysinfo>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// By which way the guest is told.
    pub enum SysinfoType {
        /// Tables of SMBIOS.
        Smbios = "smbios",
        /// Files of QEMU's firmware configuration.
        Fwcfg = "fwcfg",
    }
}

crate::keywords! {
    /// A table of SMBIOS.
    pub enum SmbiosBlock {
        /// The firmware.
        Bios = "bios",
        /// The machine.
        System = "system",
        /// A board; there may be several.
        BaseBoard = "baseBoard",
        /// The case.
        Chassis = "chassis",
        /// Texts without a meaning of their own.
        OemStrings = "oemStrings",
    }
}

/// A table of SMBIOS and its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosTable {
    /// Which table.
    pub block: SmbiosBlock,
    /// Names and values, in the order of [`SmbiosBlock::entries`]; OEM strings have no name.
    pub entries: Vec<(&'static str, String)>,
}

/// A file of the firmware configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareConfig {
    /// Where the element stands.
    pub place: Place,
    /// The name, which begins with `opt/`.
    pub name: String,
    /// The content, or none when it comes from a file of the host.
    pub value: Option<String>,
    /// The file of the host.
    pub file: Option<String>,
}

/// What firmware tells of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysinfo {
    /// Where the element stands.
    pub place: Place,
    /// By which way.
    pub kind: SysinfoType,
    /// Tables of SMBIOS, in the order of [`SmbiosBlock`].
    pub tables: Vec<SmbiosTable>,
    /// Files of the firmware configuration.
    pub config: Vec<FirmwareConfig>,
}

impl SmbiosBlock {
    /// The names that a table's entries may have.
    #[must_use]
    pub fn entries(self) -> &'static [&'static str] {
        match self {
            Self::Bios => &["vendor", "version", "date", "release"],
            Self::System => {
                &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"]
            }
            Self::BaseBoard => {
                &["manufacturer", "product", "version", "serial", "asset", "location"]
            }
            Self::Chassis => &["manufacturer", "version", "serial", "asset", "sku"],
            Self::OemStrings => &[],
        }
    }
}

impl Sysinfo {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "smbios"); // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        let (mut tables, mut config) = (Vec::new(), Vec::new());
        match kind {
            SysinfoType::Smbios => {
                for (block, name) in <SmbiosBlock as crate::Keyword>::ALL {
                    let blocks = reader.children(name);
                    if blocks.len() > 1 && *block != SmbiosBlock::BaseBoard {
                        blocks[1].refuse(format!("<{name}> stands above already; remove one"));
                    }
                    tables.extend(blocks.iter().map(|child| SmbiosTable::parse(child, *block)));
                }
                for child in reader.unread_children() {
                    child.refuse_unsupported();
                }
            }
            SysinfoType::Fwcfg => {
                let entries = reader.children("entry");
                config.extend(entries.iter().filter_map(FirmwareConfig::parse));
            }
        }
        Some(Self { place: reader.place(), kind, tables, config })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("sysinfo").attribute("type", self.kind).children(|w| {
            for table in &self.tables {
                w.element(table.block.as_str()).children_if_any(|w| {
                    for (name, value) in &table.entries {
                        let name = (!name.is_empty()).then_some(name);
                        w.element("entry").optional("name", name).text(value);
                    }
                });
            }
            for file in &self.config {
                let entry = w.element("entry").attribute("name", &file.name);
                let entry = entry.optional("file", file.file.as_ref());
                match &file.value {
                    Some(value) => entry.text(value),
                    None => entry.empty(),
                }
            }
        });
    }
}

impl SmbiosTable {
    fn parse(reader: &Reader<'_>, block: SmbiosBlock) -> Self {
        let children = reader.children("entry");
        if block == SmbiosBlock::OemStrings {
            let texts = children.iter().map(|entry| ("", entry.text().into_owned()));
            return Self { block, entries: texts.collect() };
        }
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for entry in &children {
            let Some(name) = entry.required("name", block.entries()[0]) else { continue };
            let text = entry.text().into_owned();
            let Some(known) = block.entries().iter().find(|known| **known == name) else {
                let words = block.entries().join(", ");
                entry
                    .refuse_attribute("name", format!("'{name}' is not known; use one of {words}"));
                continue;
            };
            if block == SmbiosBlock::Bios && *known == "date" && !is_date(&text) {
                entry.refuse(format!(
                    "'{text}' is no date; write month/day/year such as 04/01/2024"
                ));
            }
            found.push((known, text));
        }
        let place = |name: &str| block.entries().iter().position(|known| *known == name);
        found.sort_by_key(|(name, _)| place(name));
        Self { block, entries: found }
    }
}

/// Whether a text is a date as SMBIOS writes it, mm/dd/yyyy or mm/dd/yy of the 20th century.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let [month, day, year] = parts.as_slice() else { return false };
    let in_range = |text, range: std::ops::RangeInclusive<u32>| {
        number(text).is_some_and(|number| range.contains(&number))
    };
    let is_year = match year.len() {
        2 => number(year).is_some(),
        4 => in_range(year, 1900..=9999),
        _ => false,
    };
    in_range(month, 1..=12) && in_range(day, 1..=31) && is_year
}

impl FirmwareConfig {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let text = reader.text().into_owned();
        let file = reader.string("file");
        let name = reader.required("name", "opt/com.example/name")?.to_owned();
        if !name.starts_with("opt/")
            || name.starts_with("opt/ovmf/")
            || name.starts_with("opt/org.qemu/")
        {
            let what = "names of users begin with 'opt/' and a domain of yours, not with opt/ovmf/ or \
                        opt/org.qemu/, such as opt/com.example/name";
            reader.refuse_attribute("name", what);
        }
        let value = (!text.is_empty()).then_some(text);
        if value.is_some() == file.is_some() {
            reader.refuse("an entry has a value or attribute 'file'; give one of both");
        }
        Some(Self { place: reader.place(), name, value, file })
    }
}
