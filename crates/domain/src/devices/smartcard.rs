//! Smart cards, `<smartcard>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Address, Chardev, DeviceInfo};

/// How many certificates an emulated card has.
const CERTIFICATES: usize = 3;

crate::keywords! {
    /// Where a card is.
    pub enum SmartcardMode {
        /// In the host's reader.
        Host = "host",
        /// Nowhere: it consists of certificates of the host.
        HostCertificates = "host-certificates",
        /// At the other end of a character device.
        Passthrough = "passthrough",
    }
}

/// Where a card is, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmartcardSource {
    /// In the host's reader.
    Host,
    /// It consists of certificates of the host.
    Certificates {
        /// The names of three certificates.
        names: Vec<String>,
        /// The folder of the NSS database that has them.
        database: Option<String>,
    },
    /// At the other end of a character device.
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
        let _ = reader.required("mode", "host"); // The keyword itself is read below.
        let info = DeviceInfo::parse(reader);
        match &info.address {
            None => {}
            Some(Address::Ccid(ccid)) if ccid.slot == 0 => {}
            Some(_) => {
                reader.refuse("a card is in slot 0 of a reader; give <address type='ccid'/>");
            }
        }
        let source = match reader.keyword("mode")? {
            SmartcardMode::Host => SmartcardSource::Host,
            SmartcardMode::HostCertificates => certificates(reader),
            SmartcardMode::Passthrough => SmartcardSource::Passthrough(Chardev::parse(reader)?),
        };
        Some(Self { place: reader.place(), source, info })
    }

    fn mode(&self) -> SmartcardMode {
        match &self.source {
            SmartcardSource::Host => SmartcardMode::Host,
            SmartcardSource::Certificates { .. } => SmartcardMode::HostCertificates,
            SmartcardSource::Passthrough(_) => SmartcardMode::Passthrough,
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let element = writer.element("smartcard").attribute("mode", self.mode());
        match &self.source {
            SmartcardSource::Host => element.children(|w| self.info.write(w)),
            SmartcardSource::Certificates { names, database } => element.children(|w| {
                for name in names {
                    w.element("certificate").text(name);
                }
                if let Some(database) = database {
                    w.element("database").text(database);
                }
                self.info.write(w);
            }),
            SmartcardSource::Passthrough(chardev) => chardev.write_type(element).children(|w| {
                chardev.write(w);
                self.info.write(w);
            }),
        }
    }
}

fn certificates(reader: &Reader<'_>) -> SmartcardSource {
    let names = reader.children("certificate");
    let names: Vec<String> = names.iter().map(|name| name.text().into_owned()).collect();
    if names.len() != CERTIFICATES {
        let what = format!("{} certificates stand here; give {CERTIFICATES} of them", names.len());
        reader.refuse(what);
    }
    let database = reader.child("database").map(|database| {
        let path = database.text().into_owned();
        if !path.starts_with('/') {
            database.refuse(format!("'{path}' is no absolute path; begin it with '/'"));
        }
        path
    });
    SmartcardSource::Certificates { names, database }
}
