//! Which devices of a client may come in, `<redirfilter>`.

use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

/// One rule; the first that fits a device decides. What is none fits all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirRule {
    /// The device's class.
    pub class: Option<u8>,
    /// Who made it.
    pub vendor: Option<u16>,
    /// What it is.
    pub product: Option<u16>,
    /// Its version in binary-coded decimals, `0x0110` for 1.10.
    pub version: Option<u16>,
    /// Whether it may come in.
    pub allow: bool,
}

/// Which devices of a client may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirfilter {
    /// The rules in their order.
    pub rules: Vec<RedirRule>,
}

impl Redirfilter {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let rules = reader.children("usbdev");
        Some(Self { rules: rules.iter().filter_map(RedirRule::parse).collect() })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("redirfilter")
            .children(|w| self.rules.iter().for_each(|rule| rule.write(w)));
    }
}

impl RedirRule {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("allow", "yes"); // The word itself is read below.
        let version = reader.attribute("version").filter(|version| *version != "-1");
        let bcd = version.and_then(decimals);
        if let Some(version) = version.filter(|_| bcd.is_none()) {
            let what = format!("'{version}' is no version; write two numbers such as 1.10");
            reader.refuse_attribute("version", what);
        }
        Some(Self {
            class: any_or(reader, "class"),
            vendor: any_or(reader, "vendor"),
            product: any_or(reader, "product"),
            version: bcd,
            allow: reader.yes_no("allow")?,
        })
    }

    fn write(self, writer: &mut Writer) {
        writer
            .element("usbdev")
            .optional("class", self.class.map(|class| format!("0x{class:02X}")))
            .optional("vendor", self.vendor.map(|vendor| format!("0x{vendor:04X}")))
            .optional("product", self.product.map(|product| format!("0x{product:04X}")))
            .optional("version", self.version.map(|v| format!("{:x}.{:02x}", v >> 8, v & 0xff)))
            .yes_no("allow", Some(self.allow))
            .empty();
    }
}

/// A number; none for -1, which fits all.
fn any_or<T: TryFrom<u64>>(reader: &Reader<'_>, name: &str) -> Option<T> {
    let text = reader.attribute(name).filter(|text| *text != "-1")?;
    let number = parse_number(text).and_then(|number| T::try_from(number).ok());
    if number.is_none() {
        reader.refuse_attribute(name, format!("'{text}' is no number in range; use -1 for any"));
    }
    number
}

/// A version `MAJOR.MINOR` of at most two digits each; a minor number of one digit counts tenths.
fn decimals(version: &str) -> Option<u16> {
    let (major, minor) = version.split_once('.')?;
    let digits =
        |text: &str| (1..=2).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    if !digits(major) || !digits(minor) {
        return None;
    }
    let minor = if minor.len() == 1 { format!("{minor}0") } else { minor.to_owned() };
    let number = |text: &str| u16::from_str_radix(text, 16).ok();
    Some(number(major)? << 8 | number(&minor)?)
}
