//! Smart cards, `<smartcard>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Chardev, DeviceInfo};

crate::keywords! {
    /// Where a card is.
    pub enum SmartcardMode {
        /// In the host's reader.
        Host = "host",
        /// In certificates of the host's database.
        HostCertificates = "host-certificates",
        /// At the other side of a character device.
        Passthrough = "passthrough",
    }
}

/// Where a card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmartcardSource {
    /// In the host's reader.
    Host,
    /// In certificates of the host's database.
    HostCertificates {
        /// The certificates' names.
        certificates: [String; 3],
        /// The database's directory.
        database: Option<String>,
    },
    /// At the other side of a character device.
    Passthrough(Chardev),
}

/// A smart card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smartcard {
    /// Where the element stands.
    pub place: Place,
    /// Where the card is.
    pub source: SmartcardSource,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Smartcard {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("mode", "passthrough"); // The keyword itself is read next.
        let mode = reader.keyword("mode");
        let info = DeviceInfo::parse(reader);
        let source = match mode? {
            SmartcardMode::Host => SmartcardSource::Host,
            SmartcardMode::HostCertificates => {
                let names: Vec<String> = reader
                    .children("certificate")
                    .iter()
                    .map(|certificate| certificate.text().into_owned())
                    .collect();
                let database = reader.child("database").map(|child| child.text().into_owned());
                let Ok(certificates) = <[String; 3]>::try_from(names) else {
                    reader.refuse("a card has three <certificate>; write as many");
                    return None;
                };
                if database.as_ref().is_some_and(|database| !database.starts_with('/')) {
                    reader.refuse("<database> is no absolute path; begin it with a slash");
                }
                SmartcardSource::HostCertificates { certificates, database }
            }
            SmartcardMode::Passthrough => SmartcardSource::Passthrough(Chardev::parse(reader)?),
        };
        Some(Self { place: reader.place(), source, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("smartcard");
        match &self.source {
            SmartcardSource::Host => {
                element.attribute("mode", SmartcardMode::Host).children(|w| self.info.write(w));
            }
            SmartcardSource::HostCertificates { certificates, database } => {
                element.attribute("mode", SmartcardMode::HostCertificates).children(|w| {
                    for certificate in certificates {
                        w.element("certificate").text(certificate);
                    }
                    if let Some(database) = database {
                        w.element("database").text(database);
                    }
                    self.info.write(w);
                });
            }
            SmartcardSource::Passthrough(chardev) => {
                let element = element.attribute("mode", SmartcardMode::Passthrough);
                chardev.write_type(element).children(|w| {
                    chardev.write(w);
                    self.info.write(w);
                });
            }
        }
    }
}
