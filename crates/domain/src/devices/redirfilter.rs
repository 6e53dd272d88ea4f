//! Which USB devices a client may redirect, `<redirfilter>`.

use crate::fault::Place;
use crate::reader::{Reader, parse_number};
use crate::writer::Writer;

/// A rule: what is none fits every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirRule {
    /// The class of devices.
    pub class: Option<u8>,
    /// The vendor's number.
    pub vendor: Option<u16>,
    /// The vendor's number of the product.
    pub product: Option<u16>,
    /// The product's version, in decimal digits of four bits each.
    pub version: Option<u16>,
    /// Whether such devices may be redirected.
    pub allow: bool,
}

/// Rules for redirected devices; the first that fits decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirfilter {
    /// Where the element stands.
    pub place: Place,
    /// The rules.
    pub rules: Vec<RedirRule>,
}

impl Redirfilter {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let rules: Vec<RedirRule> =
            reader.children("usbdev").iter().filter_map(RedirRule::parse).collect();
        Some(Self { place: reader.place(), rules })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("redirfilter").children(|w| {
            for rule in &self.rules {
                let digits = |version: u16, shift: u32| {
                    10 * ((version >> (shift + 4)) & 0xf) + ((version >> shift) & 0xf)
                };
                let version = |version| format!("{}.{:02}", digits(version, 8), digits(version, 0));
                w.element("usbdev")
                    .optional("class", rule.class.map(|class| format!("0x{class:02X}")))
                    .optional("vendor", rule.vendor.map(|vendor| format!("0x{vendor:04X}")))
                    .optional("product", rule.product.map(|product| format!("0x{product:04X}")))
                    .optional("version", rule.version.map(version))
                    .yes_no("allow", Some(rule.allow))
                    .empty();
            }
        });
    }
}

impl RedirRule {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("allow", "yes"); // The word itself is read below.
        let class = any_or_number(reader, "class");
        let vendor = any_or_number(reader, "vendor");
        let product = any_or_number(reader, "product");
        Some(Self {
            class,
            vendor,
            product,
            version: read_version(reader),
            allow: reader.yes_no("allow")?,
        })
    }
}

/// A number; -1 stands for any and reads as none.
fn any_or_number<T: TryFrom<u64>>(reader: &Reader<'_>, name: &str) -> Option<T> {
    if reader.attribute(name) == Some("-1") { None } else { reader.number(name) }
}

/// A version such as `2.56`, each digit of which takes four bits; -1 stands for any.
fn read_version(reader: &Reader<'_>) -> Option<u16> {
    let text = reader.attribute("version").filter(|text| *text != "-1")?;
    let two_digits = |text: &str| {
        let number = parse_number(text).and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number < 100).map(|number| ((number / 10) << 4) | (number % 10))
    };
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let version = two_digits(major).zip(two_digits(minor));
    if version.is_none() {
        let what = format!("'{text}' is no version of USB; write one such as 2.56");
        reader.refuse_attribute("version", what);
    }
    version.map(|(major, minor)| (major << 8) | minor)
}
